/* Error sentences. Owns nothing; called by every room, on any thread. */
#include "base/base.h"

#include <stdlib.h>

int srn_vfail(srn_err *err, int code, const char *fmt, va_list ap) {
    if (!err) return code;
    err->code = code;
    vsnprintf(err->text, sizeof err->text, fmt, ap);
    return code;
}

int srn_fail(srn_err *err, int code, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    srn_vfail(err, code, fmt, ap);
    va_end(ap);
    return code;
}

int srn_fail_prefix(srn_err *err, int code, const char *fmt, ...) {
    if (!err) return code;
    char tail[sizeof err->text];
    memcpy(tail, err->text, sizeof tail);
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(err->text, sizeof err->text, fmt, ap);
    va_end(ap);
    if (n >= 0 && (size_t)n + 2 < sizeof err->text)
        snprintf(err->text + n, sizeof err->text - (size_t)n, ": %s", tail);
    err->code = code;
    return code;
}

int srn_fail_nomem(srn_err *err, size_t bytes) {
    return srn_fail(err, SRN_ENOMEM, "out of memory: %zu bytes could not be allocated", bytes);
}

const char *srn_err_name(int code) {
    switch (code) {
    case SRN_OK:
        return "OK";
#define SRN_ERR_CASE(name, number, text)                                                                     \
    case SRN_##name:                                                                                         \
        return #name;
        SRN_ERRORS(SRN_ERR_CASE)
#undef SRN_ERR_CASE
    default:
        return "?";
    }
}

const char *srn_version(void) {
    return SRN_VERSION;
}
