/* cli, serin prompts: changes of the registry. One process writes a ledger: the command opens it, and is
 * refused where a server has it. Main thread.
 */
#include <stdlib.h>

#include "cli/prompts.h"

struct srn__prompts_writer {
    char by[64];
    srn_ledger *ledger;
    srn_prompts *prompts;
};

/* ---- opening ---- */

static int open_own(srn__prompts_writer *w, const char *where, srn_err *err) {
    srn_ledger_opts o = {.where = where};
    int code = srn_ledger_open(&o, &w->ledger, err);
    return code ? code : srn_prompts_open(w->ledger, &w->prompts, err);
}

int srn__prompts_writer_open(const srn__prompts_opts *o, srn__prompts_writer **ret, srn_err *err) {
    const char *user = getenv("USER");
    srn_buf where;
    srn_err own = {0};
    srn_buf_init(&where, 4096);
    srn__prompts_writer *w = srn_calloc(1, sizeof *w);
    int code = w ? srn__prompts_where(o, &where, err) : srn_fail_nomem(err, sizeof *w);
    if (!code) {
        snprintf(w->by, sizeof w->by, "%.60s", o->by ? o->by : user && *user ? user : "unknown");
        code = open_own(w, where.data, &own);
        if (code && err) *err = own;
    }
    srn_buf_done(&where);
    if (code)
        srn__prompts_writer_close(w);
    else
        *ret = w;
    return code;
}

void srn__prompts_writer_close(srn__prompts_writer *w) {
    if (!w) return;
    srn_prompts_close(w->prompts);
    if (w->ledger) srn_ledger_close(w->ledger);
    free(w);
}

/* ---- changes ---- */

int srn__prompts_writer_push(srn__prompts_writer *w, const char *name, const srn_prompt *p,
                             const json_t *source, uint32_t *ret_version, bool *ret_new, srn_err *err) {
    return srn_prompts_push(w->prompts, name, p, w->by, source, ret_version, ret_new, err);
}

int srn__prompts_writer_label(srn__prompts_writer *w, const char *name, const char *label, uint32_t version,
                              bool *ret_moved, srn_err *err) {
    return srn_prompts_label(w->prompts, name, label, version, w->by, ret_moved, err);
}
