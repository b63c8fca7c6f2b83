/* What administrators may do at run time: load and unload models. Handlers run on workers and may take as
 * long as the loading does; running models go on meanwhile.
 */
#include "serve/fields.h"
#include "serve/routes.h"

/* Who does it: the key, and whom it says it speaks for. The key of this machine's commands speaks for their
 * user. */
int srn__call_by(srn__call *c, const json_t *body, char ret[128], srn__fields *f) {
    const json_t *by = json_object_get(body, "by");
    const srn_key *key = srn__call_key(c);
    if (srn__field_given(body, "by") && (!json_string_length(by) || json_string_length(by) > 60))
        return srn__field_wrong(f, SRN_EINVAL, "by", "needs a text of 1 to 60 bytes");
    bool local = key && strcmp(key->name, "local") == 0;
    if (json_is_string(by) && key && !local)
        snprintf(ret, 128, "%s (key %.50s)", json_string_value(by), key->name);
    else
        snprintf(ret, 128, "%.120s",
                 json_is_string(by) ? json_string_value(by)
                 : key              ? key->name
                                    : "unknown");
    return SRN_OK;
}

/* The names in the body; false: an error was replied. */
static bool read_names(srn__call *c, const char **ret_model, const char **ret_path, uint32_t *ret_grace_ms) {
    srn_err err = {0};
    srn__fields f = {.err = &err};
    const json_t *body = srn__call_json(c);
    if (!body) return false;
    const json_t *model = json_object_get(body, "model"), *path = json_object_get(body, "path");
    const srn__field grace = {"grace_ms", SRN__FIELD_U32, 0, 0, 3600000, false};
    int code = srn__field_table(&f, body, &grace, 1, ret_grace_ms);
    if (!code && (json_string_length(model) < 1 || json_string_length(model) > 127))
        code = srn__field_wrong(&f, SRN_EINVAL, "model", "needs a name of 1 to 127 bytes");
    if (!code && srn__field_given(body, "path") && !json_string_length(path))
        code = srn__field_wrong(&f, SRN_EINVAL, "path", "needs a file or the name of a model in the cache");
    if (code) {
        srn__call_fail_err(c, f.param, &err);
        return false;
    }
    *ret_model = json_string_value(model);
    *ret_path = json_string_value(path);
    return true;
}

static void reply(srn__call *c, int code, const srn_err *err, const char *model, const char *state) {
    if (code == SRN_EBUSY)
        srn__call_fail(c, 409, NULL, "model", "busy", "%s", err->text);
    else if (code)
        srn__call_fail_err(c, "model", err);
    else
        srn__call_reply_json(c, 200, json_pack("{s:s, s:s}", "model", model, "state", state));
}

void srn__handle_load(srn__call *c) {
    const char *model, *path;
    uint32_t grace = 0;
    srn_err err = {0};
    if (!read_names(c, &model, &path, &grace)) return;
    reply(c, srn__models_load(srn__call_models(c), model, path, &err), &err, model, "loaded");
}

void srn__handle_unload(srn__call *c) {
    const char *model, *path;
    uint32_t grace_ms = srn__call_config(c)->grace_ms;
    srn_err err = {0};
    if (!read_names(c, &model, &path, &grace_ms)) return;
    reply(c, srn__models_unload(srn__call_models(c), model, (uint64_t)grace_ms * 1000, &err), &err, model,
          "unloaded");
}
