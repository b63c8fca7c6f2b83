/* /v1/prompts: what administrators see of the registry and change in it. Handlers run on workers; a change
 * answers when it is committed. Refuses everything where there is no ledger to keep prompts.
 */
#include <stdlib.h>

#include "serve/fields.h"
#include "serve/rollout.h"
#include "serve/routes.h"

/* Labels stand still while roll-outs are frozen. */
static int check_thawed(srn__call *c, srn_err *err) {
    srn__rollouts *x = srn__call_rollouts(c);
    if (!x || !srn__rollouts_frozen(x)) return SRN_OK;
    return srn_fail(err, SRN_EBUSY,
                    "roll-outs and label moves are frozen; serin canary thaw lets them go on");
}

static srn_prompts *registry_of(srn__call *c) {
    srn_prompts *p = srn__call_prompts(c);
    if (!p)
        srn__call_fail(
            c, 501, "not_implemented", NULL, "no_ledger",
            "registered prompts are kept in the ledger, and this server runs without one; start it "
            "without '--ledger off'");
    return p;
}

static void reply(srn__call *c, int code, const char *param, const srn_err *err, json_t *o) {
    if (code == SRN_EBUSY)
        srn__call_fail(c, 409, NULL, NULL, "conflict", "%s", err->text);
    else if (code)
        srn__call_fail_err(c, param && *param ? param : NULL, err);
    else
        srn__call_reply_json(c, 200, o);
}

/* ---- reading ---- */

void srn__handle_prompts_list(srn__call *c) {
    srn_prompts *p = registry_of(c);
    srn_err err = {0};
    json_t *o = NULL;
    if (!p) return;
    int code = srn_prompts_json(p, NULL, &o, &err);
    reply(c, code, NULL, &err, o);
}

/* The path without this end, into ret; false: it does not end so. */
static bool without(const char *path, const char *end, char *ret, size_t cap) {
    size_t n = strlen(path), k = strlen(end);
    if (n <= k || n - k >= cap || strcmp(path + n - k, end) != 0) return false;
    memcpy(ret, path, n - k);
    ret[n - k] = 0;
    return true;
}

/* NAME, NAME@VERSION, NAME@LABEL and NAME/history. */
void srn__handle_prompts_get(srn__call *c) {
    srn_prompts *p = registry_of(c);
    const char *path = srn__call_path_id(c);
    char name[SRN_PROMPT_NAME_MAX + 1];
    srn_prompt_ref ref;
    srn_err err = {0};
    json_t *o = NULL;
    if (!p) return;
    int code = SRN_OK;
    if (without(path, "/history", name, sizeof name))
        code = srn_prompts_history(p, name, &o, &err);
    else if ((code = srn_prompt_ref_parse(srn_str_of(path), &ref, &err)) == SRN_OK)
        code = strchr(path, '@') ? srn_prompts_version_json(p, &ref, &o, &err)
                                 : srn_prompts_json(p, ref.name, &o, &err);
    reply(c, code, "name", &err, o);
}

/* ---- changing ---- */

/* A document, or a file's text. */
static int read_draft(const json_t *body, srn_prompt **ret, srn__fields *f) {
    const json_t *document = json_object_get(body, "document"), *text = json_object_get(body, "text");
    srn_err why = {0};
    bool has_text = srn__field_given(body, "text");
    if (has_text == srn__field_given(body, "document"))
        return srn__field_wrong(f, SRN_EINVAL, "document",
                                "give the prompt as 'document', an object, or as 'text', YAML or JSON");
    if (has_text && !json_is_string(text))
        return srn__field_wrong(f, SRN_EINVAL, "text", "needs a text, it is %s", srn__json_type_name(text));
    int code = has_text ? srn_prompt_parse((srn_str){json_string_value(text), json_string_length(text)},
                                           "text", ret, &why)
                        : srn_prompt_of_json(document, "document", ret, &why);
    if (!code) return SRN_OK;
    snprintf(f->param, sizeof f->param, "%s", has_text ? "text" : "document");
    return srn_fail(f->err, code, "%s", why.text);
}

static int read_name(const json_t *body, const char *key, srn__fields *f) {
    if (json_is_string(json_object_get(body, key))) return SRN_OK;
    return srn__field_wrong(f, SRN_EINVAL, key, "needs a text, it is %s",
                            srn__json_type_name(json_object_get(body, key)));
}

typedef struct change {
    const char *name, *label;
    char by[128];
    uint32_t version;
    bool is_new, moved;
} change;

static int push(srn_prompts *p, const json_t *body, change *g, srn__fields *f) {
    const json_t *source = json_object_get(body, "source");
    srn_prompt *draft = NULL;
    int code = read_draft(body, &draft, f);
    if (!code && srn__field_given(body, "source") && !json_is_object(source))
        code = srn__field_wrong(f, SRN_EINVAL, "source", "needs an object");
    if (!code) {
        snprintf(f->param, sizeof f->param, "name");
        code = srn_prompts_push(p, g->name, draft, g->by, json_is_object(source) ? source : NULL, &g->version,
                                &g->is_new, f->err);
    }
    srn_prompt_free(draft);
    if (code || !g->label) return code;
    snprintf(f->param, sizeof f->param, "label");
    return srn_prompts_label(p, g->name, g->label, g->version, g->by, &g->moved, f->err);
}

/* {"name", "document" or "text", "label", "by", "source"} */
void srn__handle_prompts_push(srn__call *c) {
    srn_prompts *p = registry_of(c);
    srn_err err = {0};
    srn__fields f = {.err = &err};
    change g = {0};
    json_t *body = p ? srn__call_json(c) : NULL;
    if (!body) return;
    bool labelled = srn__field_given(body, "label");
    int code = read_name(body, "name", &f);
    if (!code && labelled) code = read_name(body, "label", &f);
    g.name = json_string_value(json_object_get(body, "name"));
    g.label = labelled ? json_string_value(json_object_get(body, "label")) : NULL;
    if (!code && g.label) { /* before anything is stored */
        code = srn_prompt_check_label(srn_str_of(g.label), &err);
        if (code) snprintf(f.param, sizeof f.param, "label");
    }
    if (!code) code = srn__call_by(c, body, g.by, &f);
    if (!code && g.label) code = check_thawed(c, &err);
    if (!code) code = push(p, body, &g, &f);
    reply(c, code, f.param, &err,
          code ? NULL
               : json_pack("{s:s, s:I, s:b, s:s?, s:b}", "name", g.name, "version", (json_int_t)g.version,
                           "new", g.is_new, "label", g.label, "moved", g.moved));
}

/* POST NAME/labels with {"label", "version", "by"}; version null takes the label away. */
void srn__handle_prompts_label(srn__call *c) {
    srn_prompts *p = registry_of(c);
    char name[SRN_PROMPT_NAME_MAX + 1];
    srn_err err = {0};
    srn__fields f = {.err = &err};
    change g = {.name = name};
    if (!p) return;
    if (!without(srn__call_path_id(c), "/labels", name, sizeof name))
        return srn__call_fail(c, 404, NULL, NULL, "not_found",
                              "labels are moved by POST /v1/prompts/NAME/labels, versions pushed by POST "
                              "/v1/prompts");
    json_t *body = srn__call_json(c);
    if (!body) return;
    const json_t *version = json_object_get(body, "version");
    json_int_t v = json_integer_value(version);
    int code = read_name(body, "label", &f);
    if (!code && !(json_is_null(version) || (json_is_integer(version) && v >= 1 && v <= INT32_MAX)))
        code = srn__field_wrong(&f, SRN_EINVAL, "version",
                                "needs a number from 1 on, or null, which takes the label away");
    if (!code) code = srn__call_by(c, body, g.by, &f);
    if (!code) code = check_thawed(c, &err);
    if (!code) {
        g.label = json_string_value(json_object_get(body, "label"));
        code = srn_prompts_label(p, name, g.label, (uint32_t)v, g.by, &g.moved, &err);
        if (code) snprintf(f.param, sizeof f.param, code == SRN_EINVAL ? "label" : "version");
    }
    reply(c, code, f.param, &err,
          code ? NULL
               : json_pack("{s:s, s:s, s:o, s:b}", "name", name, "label", g.label, "version",
                           json_is_null(version) ? json_null() : json_integer(v), "moved", g.moved));
}
