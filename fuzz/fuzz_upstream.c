/* Fuzz target: what an upstream answers. The same bytes whole and in small pieces are the same answer, or the
 * same refusal; nothing of the end goes out before it is held. The first byte says which API, the second in
 * which pieces. */
#include <stdlib.h>

#include "serve/upstream_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

typedef struct run {
    srn__relay_text t;
    srn_buf now, held;
    int code;
} run;

static void begin(run *r, srn__relay_api api, bool hides) {
    r->t = (srn__relay_text){
        .api = api, .streamed = true, .hides_usage = hides, .model = "m", .id = "i", .n_choices = 2};
    srn_err err = {0};
    srn_buf_init(&r->now, 64 << 20);
    srn_buf_init(&r->held, 64 << 20);
    if (srn__relay_text_init(&r->t, &err)) abort();
}

static void feed(run *r, const char *p, size_t n, size_t step) {
    srn_err err = {0};
    for (size_t i = 0; i < n && !r->code; i += step) {
        srn_stream_mark mark = {SRN_MIN(step, n - i), i + 1};
        r->code = srn__relay_text_add(&r->t, (srn_str){p + i, mark.end}, &mark, 1, &r->now, &r->held, &err);
    }
    srn__relay_text_end(&r->t, &r->held);
    if (r->code) srn__relay_text_broken(&r->t, 502, "upstream_invalid", err.text, &r->held);
}

static void done(run *r) {
    srn__relay_text_done(&r->t);
    srn_buf_done(&r->now);
    srn_buf_done(&r->held);
}

static bool same(const srn_buf *a, const srn_buf *b) {
    return srn_str_eq((srn_str){a->data, a->len}, (srn_str){b->data, b->len});
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    run a = {0}, b = {0}, whole = {0};
    char said[64];
    srn_err err = {0};
    if (size < 2) return 0;
    srn__relay_api api = (srn__relay_api)(data[0] % SRN__RELAY_NONE);
    const char *p = (const char *)data + 2;
    begin(&a, api, data[0] & 64);
    begin(&b, api, data[0] & 64);
    begin(&whole, api, false);
    feed(&a, p, size - 2, size);
    feed(&b, p, size - 2, 1 + data[1] % 16);
    if (a.code != b.code || !same(&a.now, &b.now) || !same(&a.held, &b.held)) abort();
    if (a.t.n_pieces != b.t.n_pieces || a.t.ended != b.t.ended || a.t.n_output != b.t.n_output) abort();
    srn__relay_text_whole(&whole.t, (srn_str){p, size - 2}, &whole.held, &err);
    srn__relay_error_text((srn_str){p, size - 2}, said, sizeof said);
    double r = srn__text_repetition((srn_str){p, size - 2});
    if (r < 0 || r > 1) abort();
    done(&a);
    done(&b);
    done(&whole);
    return 0;
}
