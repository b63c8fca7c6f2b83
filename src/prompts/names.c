/* Names of prompts and labels, and how a version is named: NAME, NAME@3, NAME@production. Pure. */
#include "prompts/prompts_internal.h"

static bool is_word(char c) {
    return c == '_' || (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/* One part: begins with a letter, a digit or '_'. */
static bool is_part(const char *p, size_t n) {
    if (n == 0 || !is_word(*p)) return false;
    for (size_t i = 0; i < n; i++)
        if (!is_word(p[i]) && p[i] != '-' && p[i] != '.') return false;
    return true;
}

int srn_prompt_check_name(srn_str name, srn_err *err) {
    if (name.len == 0 || name.len > SRN_PROMPT_NAME_MAX)
        return srn_fail(err, SRN_EINVAL, "a prompt's name has 1 to %d bytes, this one has %zu",
                        SRN_PROMPT_NAME_MAX, name.len);
    size_t from = 0, end = 0;
    for (; end <= name.len; end++) {
        if (end < name.len && name.ptr[end] != '/') continue;
        if (!is_part(name.ptr + from, end - from))
            return srn_fail(err, SRN_EINVAL,
                            "'%.*s' is no name of a prompt: letters, digits, '_', '-' and '.', parts joined "
                            "by '/', each beginning with a letter, a digit or '_'",
                            (int)name.len, name.ptr);
        if (end < name.len) from = end + 1;
    }
    srn_str last = {name.ptr + from, name.len - from};
    if (from && (srn_str_eqz(last, "labels") || srn_str_eqz(last, "history")))
        return srn_fail(err, SRN_EINVAL,
                        "'%.*s': the last part must not be 'labels' or 'history', which are addresses",
                        (int)name.len, name.ptr);
    return SRN_OK;
}

int srn_prompt_check_label(srn_str label, srn_err *err) {
    bool digits = label.len > 0;
    for (size_t i = 0; i < label.len; i++) digits = digits && label.ptr[i] >= '0' && label.ptr[i] <= '9';
    if (label.len > SRN_PROMPT_LABEL_MAX || !is_part(label.ptr, label.len) || digits)
        return srn_fail(err, SRN_EINVAL,
                        "'%.*s' is no label: 1 to %d letters, digits, '_', '-' and '.', and not a number",
                        (int)SRN_MIN(label.len, (size_t)80), label.ptr, SRN_PROMPT_LABEL_MAX);
    return SRN_OK;
}

static bool read_version(srn_str s, uint32_t *ret) {
    uint64_t v = 0;
    for (size_t i = 0; i < s.len; i++) {
        if (s.ptr[i] < '0' || s.ptr[i] > '9') return false;
        v = 10 * v + (uint64_t)(s.ptr[i] - '0');
        if (v > INT32_MAX) return false;
    }
    if (!s.len || !v) return false;
    *ret = (uint32_t)v;
    return true;
}

int srn_prompt_ref_parse(srn_str text, srn_prompt_ref *ret, srn_err *err) {
    srn_prompt_ref r = {.version = 0};
    const char *at = text.len ? memchr(text.ptr, '@', text.len) : NULL;
    srn_str name = {text.ptr, at ? (size_t)(at - text.ptr) : text.len};
    int code = srn_prompt_check_name(name, err);
    if (code) return code;
    memcpy(r.name, name.ptr, name.len);
    if (at) {
        srn_str which = {at + 1, text.len - name.len - 1};
        if (!read_version(which, &r.version)) {
            if (srn_prompt_check_label(which, err))
                return srn_fail(err, SRN_EINVAL, "'%.*s' is neither a version (from 1 on) nor a label",
                                (int)SRN_MIN(which.len, (size_t)80), which.ptr);
            memcpy(r.label, which.ptr, which.len);
        }
    }
    *ret = r;
    return SRN_OK;
}
