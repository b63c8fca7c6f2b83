/* cli, inside: what reports in HTML share (html.c): text that is escaped, the page around it, the file. Main
 * thread. */
#ifndef SRN_CLI_HTML_H
#define SRN_CLI_HTML_H

#include "base/base.h"

/* Text of others: escaped, malformed UTF-8 and control characters as U+FFFD; past max bytes it is cut. */
void srn__html_text(srn_buf *b, srn_str s, size_t max);
/* Writes the page to a file, over one that is there. */
int srn__html_write(const srn_buf *b, const char *file, srn_err *err);

#endif
