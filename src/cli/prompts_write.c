/* cli, serin prompts: changes of the registry. One process writes a ledger: where a server has it, the change
 * goes through the server; else the command opens the ledger itself. Main thread.
 */
#include <stdlib.h>

#include "cli/prompts.h"
#include "cli/server_client.h"

struct srn__prompts_writer {
    char by[64];
    srn_ledger *ledger; /* NULL: through the server */
    srn_prompts *prompts;
    srn__server server;
};

/* ---- opening ---- */

static int open_own(srn__prompts_writer *w, const char *where, const char *folder, srn_err *err) {
    srn_ledger_opts o = {.where = where, .folder = folder};
    int code = srn_ledger_open(&o, &w->ledger, err);
    return code ? code : srn_prompts_open(w->ledger, &w->prompts, err);
}

/* Who else writes is a server, or for a moment another command: then the sentence about that stays in err. */
static int find_server(srn__prompts_writer *w, const char *where, const char *folder, srn_err *err) {
    srn_err why = {0};
    int code = srn__server_find(&(srn__server_opts){.ledger = where, .folder = folder}, &w->server, &why);
    if (code == SRN_ENOENT) return SRN_EBUSY;
    if (code) *err = why;
    return code;
}

int srn__prompts_writer_open(const srn__prompts_opts *o, srn__prompts_writer **ret, srn_err *err) {
    const char *where = o->ledger;
    srn_buf place;
    srn_err own = {0};
    srn__prompts_writer *w = srn_calloc(1, sizeof *w);
    int code = srn__ledger_place(&where, o->folder, &place, err);
    if (!w) code = srn_fail_nomem(err, sizeof *w);
    if (!code) {
        srn__server_user(o->by, w->by);
        code = open_own(w, where, o->folder, &own);
        if (code == SRN_EBUSY) code = find_server(w, where, o->folder, &own);
        if (code && err) *err = own;
    }
    srn_buf_done(&place);
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
    srn__server_done(&w->server);
    free(w);
}

/* ---- changes ---- */

/* The version as JSON, as the server takes it. */
static json_t *document_of(const srn_prompt *p) {
    srn_buf b;
    srn_err err;
    srn_buf_init(&b, 4u << 20);
    json_t *o = srn_prompt_document(p, &b, &err) ? NULL : json_loadb(b.data, b.len, 0, NULL);
    srn_buf_done(&b);
    return o;
}

int srn__prompts_writer_push(srn__prompts_writer *w, const char *name, const srn_prompt *p,
                             const json_t *source, uint32_t *ret_version, bool *ret_new, srn_err *err) {
    json_t *reply = NULL;
    if (w->ledger) return srn_prompts_push(w->prompts, name, p, w->by, source, ret_version, ret_new, err);
    json_t *body = json_pack("{s:s, s:o, s:s, s:O?}", "name", name, "document", document_of(p), "by", w->by,
                             "source", source);
    int code = body ? srn__server_json(&w->server, "/v1/prompts", body, &reply, err) : srn_fail_nomem(err, 0);
    if (code) return code;
    *ret_version = (uint32_t)json_integer_value(json_object_get(reply, "version"));
    *ret_new = json_is_true(json_object_get(reply, "new"));
    json_decref(reply);
    return SRN_OK;
}

int srn__prompts_writer_label(srn__prompts_writer *w, const char *name, const char *label, uint32_t version,
                              bool *ret_moved, srn_err *err) {
    char path[SRN_PROMPT_NAME_MAX + 32];
    json_t *reply = NULL;
    if (w->ledger) return srn_prompts_label(w->prompts, name, label, version, w->by, ret_moved, err);
    json_t *body = json_pack("{s:s, s:o, s:s}", "label", label, "version",
                             version ? json_integer(version) : json_null(), "by", w->by);
    snprintf(path, sizeof path, "/v1/prompts/%s/labels", name);
    int code = body ? srn__server_json(&w->server, path, body, &reply, err) : srn_fail_nomem(err, 0);
    if (code) return code;
    *ret_moved = json_is_true(json_object_get(reply, "moved"));
    json_decref(reply);
    return SRN_OK;
}
