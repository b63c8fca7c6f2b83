/* serin advise: the table of all routes, and under it what each verdict rests on. Main thread. */
#include "cli/advise.h"
#include "cli/calls.h"

enum { MAX_TEXT = 1 << 20, LABEL = 20, MAX_LINE = 2000 };

static void print_lines(const srn_buf *b) {
    for (size_t at = 0; at < b->len;) {
        const char *p = b->data + at, *end = memchr(p, '\n', b->len - at);
        size_t n = end ? (size_t)(end - p) : b->len - at;
        const char *tab = memchr(p, '\t', n);
        size_t label = tab ? (size_t)(tab - p) : 0, skip = tab ? label + 1 : 0;
        printf("  %-*.*s ", LABEL, (int)label, p);
        srn_cli_put_text(stdout, (srn_str){p + skip, n - skip}, MAX_LINE, false);
        printf("\n");
        at += n + 1;
    }
}

static void add_cell(srn__table *t, srn_buf *b) {
    srn__table_add(t, b->data ? b->data : "");
    srn_buf_clear(b);
}

static void add_option(srn__table *t, const srn_option *o, srn_buf *b) {
    srn_buf_addz(b, "");
    if (o) srn__advise_money(o->cost.mid, b);
    add_cell(t, b);
    if (o) srn__advise_money_range(o->cost.range, b);
    add_cell(t, b);
    if (o) srn__advise_option_name(o, b);
    if (o && !o->reaches) srn_buf_addz(b, " (!)");
    add_cell(t, b);
}

static void add_row(const srn__advise *c, srn__table *t, const srn_route_advice *r, srn_buf *b) {
    srn__table_add(t, r == &c->a.total ? "all together" : srn__advise_route_name(r));
    srn__advise_count(r->mix.calls_per_month, b);
    add_cell(t, b);
    add_option(t, r->cloud, b);
    add_option(t, r->local, b);
    srn_buf_addf(b, "%s%s", srn_advise_verdict_name(r->verdict),
                 r->veto    ? " (privacy)"
                 : r->clear ? ""
                 : r->local ? " (leans)"
                            : "");
    add_cell(t, b);
}

static void print_table(const srn__advise *c, srn_buf *b) {
    static const char *const head[] = {"route", "calls/month", "cloud", "range",  "by",
                                       "local", "range",       "by",    "verdict"};
    srn__table t;
    srn__table_init(&t, head, SRN_LEN(head), 1u << 1 | 1u << 2 | 1u << 5);
    for (uint32_t i = 0; i < c->a.n; i++) add_row(c, &t, &c->a.routes[i], b);
    if (c->a.n > 1) add_row(c, &t, &c->a.total, b);
    srn__table_print(&t);
    srn__table_done(&t);
    bool marked = false;
    for (uint32_t i = 0; i < c->a.n; i++)
        marked = marked || !c->a.routes[i].cloud->reaches ||
                 (c->a.routes[i].local && !c->a.routes[i].local->reaches);
    if (marked) printf("(!) does not reach the availability asked for\n");
}

static void print_route(const srn__advise *c, const srn_route_advice *r, srn_buf *b) {
    printf("\n");
    srn_cli_put_text(stdout, srn_str_of(r == &c->a.total ? "all together" : srn__advise_route_name(r)), 130,
                     false);
    printf("\n");
    srn__advise_words(c, r, c->explain, b);
    print_lines(b);
    srn_buf_clear(b);
}

void srn__advise_print(const srn__advise *c) {
    srn_buf b;
    srn_buf_init(&b, MAX_TEXT);
    srn__advise_head(c, &b);
    srn_cli_put_text(stdout, (srn_str){b.data, b.len}, MAX_LINE, false);
    srn_buf_clear(&b);
    printf("\n\n");
    print_table(c, &b);
    for (uint32_t i = 0; i < c->a.n; i++) print_route(c, &c->a.routes[i], &b);
    if (c->a.n > 1) print_route(c, &c->a.total, &b);
    if (c->a.has_split) {
        srn__advise_split_words(c, &b);
        print_lines(&b);
    }
    srn_buf_done(&b);
}
