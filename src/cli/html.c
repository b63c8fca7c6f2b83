/* cli: what reports in HTML share. Every text of a model, a file or a record is escaped. Main thread. */
#include "cli/html.h"

#include <errno.h>

void srn__html_text(srn_buf *b, srn_str s, size_t max) {
    size_t at = 0, end = SRN_MIN(s.len, max);
    while (at < end) {
        size_t n = srn_utf8_len(s.ptr + at, s.len - at);
        unsigned char c = (unsigned char)s.ptr[at];
        const char *as = !n                                                ? "\xEF\xBF\xBD"
                         : c == '<'                                        ? "&lt;"
                         : c == '>'                                        ? "&gt;"
                         : c == '&'                                        ? "&amp;"
                         : c == '"'                                        ? "&quot;"
                         : c == '\''                                       ? "&#39;"
                         : (c < ' ' && c != '\n' && c != '\t') || c == 127 ? "\xEF\xBF\xBD"
                                                                           : NULL;
        if (as)
            srn_buf_addz(b, as);
        else
            srn_buf_add(b, s.ptr + at, n);
        at += n ? n : 1;
    }
    if (at < s.len) srn_buf_addz(b, " …");
}

int srn__html_write(const srn_buf *b, const char *file, srn_err *err) {
    if (b->failed) return srn_fail_nomem(err, b->len);
    FILE *f = fopen(file, "wb");
    if (!f) return srn_fail(err, SRN_EIO, "%s: cannot be opened for writing: %s", file, strerror(errno));
    bool whole = fwrite(b->data, 1, b->len, f) == b->len;
    if (fclose(f)) whole = false;
    return whole ? SRN_OK : srn_fail(err, SRN_EIO, "%s: writing failed; is the disk full?", file);
}
