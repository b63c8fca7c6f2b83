/* `serin advise`, inside: options and files (advise.c), calls of the ledger or of a file (advise_read.c),
 * words (advise_words.c), what is printed (advise_print.c), the report (advise_html.c). What is computed is
 * the library's (hardware/advise.h). Main thread; the ledger is only read.
 */
#ifndef SRN_CLI_ADVISE_H
#define SRN_CLI_ADVISE_H

#include "cli/cli.h"
#include "hardware/advise.h"

typedef struct srn__advise {
    const char *calls, *prompts, *prices_file, *costs_file, *privacy, *availability, *from, *report;
    const char *ledger, *folder, *keys;
    srn_str_list batch, clouds, machines;
    double calls_per_day;
    bool json, explain;
    srn_advise_traffic traffic;
    srn_prices prices;
    srn_costs costs;
    srn_advise_opts o;
    srn_advise a;
} srn__advise;

/* ---- advise_read.c ---- */
/* The calls of the ledger that --calls and --from find, with the routes that the configuration keeps here. */
int srn__advise_read_ledger(srn__advise *c, srn_err *err);
int srn__advise_read_prompts(srn__advise *c, srn_err *err);

/* ---- advise_words.c ---- */
/* Lines of text, each of "label\ttext": the verdict and what it rests on; with explain also each formula with
 * its numbers. */
void srn__advise_words(const srn__advise *c, const srn_route_advice *r, bool explain, srn_buf *ret);
void srn__advise_split_words(const srn__advise *c, srn_buf *ret);
/* What the traffic is and of when the files are, one line. */
void srn__advise_head(const srn__advise *c, srn_buf *ret);
/* "412", "3.50", "0.0012"; of a range "301 to 560". */
void srn__advise_money(double v, srn_buf *ret);
void srn__advise_money_range(srn_bounds v, srn_buf *ret);
void srn__advise_count(double v, srn_buf *ret); /* "12.3", "608800", "6.09M" */
/* "provider/model", or "2 x name" with the spares. */
void srn__advise_option_name(const srn_option *o, srn_buf *ret);
const char *srn__advise_route_name(const srn_route_advice *r);

/* ---- advise_print.c, advise_html.c ---- */
void srn__advise_print(const srn__advise *c);
int srn__advise_write_html(const srn__advise *c, srn_err *err);

#endif
