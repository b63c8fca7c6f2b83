/* Fuzz target: the context of traces that requests bring. What is taken for one has ids, and nothing but
 * signs that may be passed on. The input is both headers, with a line break between them. */
#include <stdlib.h>

#include "serve/otel_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool any(const uint8_t *p, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (p[i]) return true;
    return false;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const char *text = (const char *)data, *end = size ? memchr(text, '\n', size) : NULL;
    size_t first = end ? (size_t)(end - text) : size;
    srn_str state = {end ? end + 1 : "", end ? size - first - 1 : 0};
    srn__parent p, again;
    if (srn__traceparent_parse((srn_str){text, first}, &p)) {
        char trace[33], span[17], whole[64];
        if (!any(p.trace_id, sizeof p.trace_id) || !any(p.span_id, sizeof p.span_id) || p.flags > 3) abort();
        srn_hex(p.trace_id, sizeof p.trace_id, trace);
        srn_hex(p.span_id, sizeof p.span_id, span);
        snprintf(whole, sizeof whole, "00-%s-%s-%02x", trace, span, p.flags);
        if (!srn__traceparent_parse(srn_str_of(whole), &again) || memcmp(&p, &again, sizeof p) != 0) abort();
        if (!srn__trace_in_share(p.trace_id, 1) || srn__trace_in_share(p.trace_id, 0)) abort();
    }
    if (srn__tracestate_good(state)) {
        if (!state.len || state.len > SRN__TRACESTATE_MAX) abort();
        for (size_t i = 0; i < state.len; i++)
            if ((state.ptr[i] < 0x20 && state.ptr[i] != '\t') || state.ptr[i] > 0x7E) abort();
    }
    return 0;
}
