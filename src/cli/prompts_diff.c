/* cli, serin prompts diff: two texts line by line. The longest common part is found exactly where the texts
 * are of a size that people compare, else everything between the equal ends counts as changed. Pure.
 */
#include <stdlib.h>

#include "cli/prompts.h"

enum { MOST_CELLS = 16 << 20, AROUND = 3 };

typedef struct lines {
    srn_str *at;
    size_t n;
} lines;

static lines split(srn_str text) {
    lines l = {NULL, 0};
    size_t n = 0;
    for (size_t i = 0; i < text.len; i++) n += text.ptr[i] == '\n';
    l.at = srn_calloc(n + 1, sizeof *l.at);
    for (size_t from = 0; l.at && from < text.len;) {
        const char *end = memchr(text.ptr + from, '\n', text.len - from);
        size_t len = end ? (size_t)(end - text.ptr) - from : text.len - from;
        l.at[l.n++] = (srn_str){text.ptr + from, len};
        from += len + 1;
    }
    return l;
}

/* What becomes of each line, in the order of the result. */
typedef struct edit {
    char op; /* ' ', '-', '+' */
    srn_str text;
} edit;

typedef struct edits {
    edit *at;
    size_t n;
} edits;

static void add(edits *e, char op, srn_str text) {
    e->at[e->n++] = (edit){op, text};
}

/* Lengths of the longest common part of the ends from (i, j) on, [n + 1][m + 1]. */
static uint16_t *table_of(const srn_str *a, size_t n, const srn_str *b, size_t m) {
    if (n > 60000 || m > 60000 || (n + 1) * (m + 1) > MOST_CELLS) return NULL;
    uint16_t *t = srn_calloc((n + 1) * (m + 1), sizeof *t);
    for (size_t i = n; t && i-- > 0;)
        for (size_t j = m; j-- > 0;) {
            uint16_t down = t[(i + 1) * (m + 1) + j], right = t[i * (m + 1) + j + 1];
            t[i * (m + 1) + j] =
                srn_str_eq(a[i], b[j]) ? (uint16_t)(t[(i + 1) * (m + 1) + j + 1] + 1) : SRN_MAX(down, right);
        }
    return t;
}

static void compare(const srn_str *a, size_t n, const srn_str *b, size_t m, edits *e) {
    uint16_t *t = table_of(a, n, b, m);
    size_t i = 0, j = 0;
    while (i < n || j < m) {
        bool same = t && i < n && j < m && srn_str_eq(a[i], b[j]);
        bool take_a = i < n && (j == m || !t || t[(i + 1) * (m + 1) + j] >= t[i * (m + 1) + j + 1]);
        if (same)
            add(e, ' ', a[i]), i++, j++;
        else if (take_a)
            add(e, '-', a[i++]);
        else
            add(e, '+', b[j++]);
    }
    free(t);
}

/* Whether a line is changed, or stands near one that is. */
static bool is_near(const edits *e, size_t i) {
    size_t from = i > AROUND ? i - AROUND : 0, to = SRN_MIN(e->n, i + AROUND + 1);
    for (size_t k = from; k < to; k++)
        if (e->at[k].op != ' ') return true;
    return false;
}

bool srn__prompts_diff(srn_str x, srn_str y, srn_buf *out) {
    lines a = split(x), b = split(y);
    edits e = {srn_calloc(a.n + b.n + 1, sizeof *e.at), 0};
    size_t head = 0, tail = 0;
    bool ok = a.at && b.at && e.at, gap = false;
    while (ok && head < a.n && head < b.n && srn_str_eq(a.at[head], b.at[head])) add(&e, ' ', a.at[head++]);
    while (ok && tail < a.n - head && tail < b.n - head &&
           srn_str_eq(a.at[a.n - 1 - tail], b.at[b.n - 1 - tail]))
        tail++;
    if (ok) compare(a.at + head, a.n - head - tail, b.at + head, b.n - head - tail, &e);
    for (size_t i = tail; ok && i-- > 0;) add(&e, ' ', a.at[a.n - 1 - i]);
    for (size_t i = 0; i < e.n; i++) {
        if (!is_near(&e, i)) {
            gap = true;
            continue;
        }
        if (gap) srn_buf_addz(out, "  ...\n");
        gap = false;
        srn_buf_addf(out, "%c ", e.at[i].op);
        srn_buf_add(out, e.at[i].text.ptr, e.at[i].text.len);
        srn_buf_addc(out, '\n');
    }
    free(a.at);
    free(b.at);
    free(e.at);
    return ok && !out->failed;
}
