/* Registered prompts in requests (prompt.h): the field and the header are read, the version is found in the
 * registry, and what it says is laid under what the request says. Worker threads.
 */
#include "serve/prompt.h"

#include "serve/rollout.h"

/* ---- what is named ---- */

static int read_which(const json_t *field, srn_prompt_ref *ref, srn__fields *f) {
    const json_t *version = json_object_get(field, "version"), *label = json_object_get(field, "label");
    bool has_version = srn__field_given(field, "version"), has_label = srn__field_given(field, "label");
    srn_prompt_ref r;
    srn_buf b;
    if (!has_version && !has_label) return SRN_OK;
    if (has_version && has_label)
        return srn__field_wrong(f, SRN_EINVAL, "prompt.version", "'version' and 'label' exclude each other");
    const char *param = has_version ? "prompt.version" : "prompt.label";
    if (ref->version || ref->label[0])
        return srn__field_wrong(f, SRN_EINVAL, param, "the name of the prompt says already which version");
    if (has_version && json_is_integer(version)) {
        json_int_t v = json_integer_value(version);
        if (v < 1 || v > INT32_MAX) return srn__field_wrong(f, SRN_EINVAL, param, "needs a number from 1 on");
        ref->version = (uint32_t)v;
        return SRN_OK;
    }
    const json_t *text = has_version ? version : label;
    if (!json_is_string(text))
        return srn__field_wrong(f, SRN_EINVAL, param, "needs %s, it is %s",
                                has_version ? "a number" : "a text", srn__json_type_name(text));
    srn_buf_init(&b, SRN_PROMPT_NAME_MAX + SRN_PROMPT_LABEL_MAX + 8);
    bool fits = srn_buf_addf(&b, "%s@%s", ref->name, json_string_value(text));
    int code = fits ? srn_prompt_ref_parse((srn_str){b.data, b.len}, &r, NULL) : SRN_EINVAL;
    srn_buf_done(&b);
    if (code || (has_version ? !r.version : !r.label[0]))
        return srn__field_wrong(f, SRN_EINVAL, param, "'%.80s' is no %s", json_string_value(text),
                                has_version ? "version; one that a label points at is asked for by 'label'"
                                            : "label");
    *ref = r;
    return SRN_OK;
}

static int read_members(const json_t *field, srn__fields *f) {
    static const char *const known[] = {"id", "version", "label", "variables"};
    const char *key;
    json_t *v;
    char param[96];
    if (!json_is_object(field))
        return srn__field_wrong(f, SRN_EINVAL, "prompt",
                                "needs an object {\"id\", \"version\" or \"label\", \"variables\"}, it is %s",
                                srn__json_type_name(field));
    json_object_foreach((json_t *)(uintptr_t)field, key, v) {
        size_t i = 0;
        while (i < SRN_LEN(known) && strcmp(key, known[i]) != 0) i++;
        snprintf(param, sizeof param, "prompt.%.80s", key);
        if (i == SRN_LEN(known))
            return srn__field_wrong(f, SRN_EINVAL, param,
                                    "is unknown; there are id, version, label and variables");
    }
    return SRN_OK;
}

int srn__prompt_field(const json_t *field, const char *header, srn__prompt_asked *ret, srn__fields *f) {
    srn__prompt_asked a = {.given = (field && !json_is_null(field)) || header, .by_header = header};
    srn_err why = {0};
    int code = SRN_OK;
    if (header && srn_prompt_ref_parse(srn_str_of(header), &a.ref, &why))
        return srn__field_wrong(f, SRN_EINVAL, "x-serin-prompt", "%s", why.text);
    if (!field || json_is_null(field)) {
        *ret = a;
        return SRN_OK;
    }
    code = read_members(field, f);
    const json_t *id = json_object_get(field, "id");
    bool named = srn__field_given(field, "id");
    if (!code && named && header)
        code = srn__field_wrong(f, SRN_EINVAL, "prompt.id", "the header x-serin-prompt names a prompt too");
    if (!code && named && !json_is_string(id))
        code =
            srn__field_wrong(f, SRN_EINVAL, "prompt.id", "needs a text, it is %s", srn__json_type_name(id));
    if (!code && !named && !header)
        code = srn__field_wrong(f, SRN_EINVAL, "prompt.id", "is missing: the name of a registered prompt");
    if (!code && named && srn_prompt_ref_parse(srn_str_of(json_string_value(id)), &a.ref, &why))
        code = srn__field_wrong(f, SRN_EINVAL, "prompt.id", "%s", why.text);
    if (!code) code = read_which(field, &a.ref, f);
    if (code) return code;
    a.variables = json_object_get(field, "variables");
    *ret = a;
    return SRN_OK;
}

/* ---- the version ---- */

/* The registry's sentence names the prompt, the version or the label; all of them are the client's mistake.
 */
static int not_found(srn_prompts *registry, const srn__prompt_asked *a, const srn_err *why, srn__fields *f) {
    srn_prompt_ref name_only = a->ref;
    const srn_prompt *known = NULL;
    name_only.version = 0;
    name_only.label[0] = 0;
    srn_prompts_get(registry, &name_only, &known, NULL, NULL);
    const char *param = a->by_header     ? "x-serin-prompt"
                        : !known         ? "prompt.id"
                        : a->ref.version ? "prompt.version"
                                         : "prompt.label";
    srn_prompts_put(known);
    return srn__field_wrong(f, why->code == SRN_ENOENT ? SRN_EINVAL : why->code, param, "%s", why->text);
}

static void note(srn__call *c, const srn_prompt *p, const char *label) {
    srn__call_prompt *n = &srn__call_get_facts(c)->prompt;
    n->version = p->version;
    snprintf(n->name, sizeof n->name, "%s", p->name);
    snprintf(n->hash, sizeof n->hash, "%s", p->hash);
    snprintf(n->label, sizeof n->label, "%s", label);
}

/* The version that the call's arm gets in place of the one that it named. */
static void take_assigned(srn__call *c, srn_prompts *registry, const json_t *body, srn__prompt_use *use) {
    const srn__assigned *a = srn__assign(c, json_string_value(json_object_get(body, "model")));
    srn_prompt_ref ref = {.version = srn__assigned_version(a, use->prompt->name, use->prompt->version)};
    const srn_prompt *other = NULL;
    srn_err why = {0};
    if (ref.version == use->prompt->version) return;
    snprintf(ref.name, sizeof ref.name, "%s", use->prompt->name);
    if (srn_prompts_get(registry, &ref, &other, NULL, &why)) return srn__assign_fall_back(c);
    srn_prompts_put(use->prompt);
    use->prompt = other;
    note(c, other, "");
}

int srn__prompt_take(srn__call *c, const json_t *body, srn__prompt_use *ret, srn__fields *f) {
    srn__prompt_asked a;
    srn__prompt_use use = {0};
    char label[SRN_PROMPT_LABEL_MAX + 1];
    srn_err why = {0};
    *ret = use;
    srn__call_get_facts(c)->prompt = (srn__call_prompt){0};
    int code =
        srn__prompt_field(json_object_get(body, "prompt"), srn__call_header(c, "x-serin-prompt"), &a, f);
    if (code || !a.given) return code;
    srn_prompts *registry = srn__call_prompts(c);
    if (!registry)
        return srn__field_wrong(f, SRN_EUNSUP, "prompt",
                                "registered prompts are kept in the ledger, and this server has none");
    if (srn_prompts_get(registry, &a.ref, &use.prompt, label, &why)) return not_found(registry, &a, &why, f);
    note(c, use.prompt, label);
    take_assigned(c, registry, body, &use);
    code = srn_prompt_fill(use.prompt, a.variables, &use.messages, f->param, f->err);
    if (code)
        srn__prompt_use_done(&use);
    else
        f->param[0] = 0;
    *ret = use;
    return code;
}

void srn__prompt_use_done(srn__prompt_use *u) {
    srn_prompts_put(u->prompt);
    json_decref(u->messages);
    *u = (srn__prompt_use){0};
}

/* ---- what it gives ---- */

static bool any_given(const json_t *body, const char *const *names, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (srn__field_given(body, names[i])) return true;
    return false;
}

/* Fields that say the same in other words: where one is given, the version's does not count. */
static bool says_otherwise(const json_t *body, const char *key) {
    static const char *const lengths[] = {"max_completion_tokens", "n_predict"};
    static const char *const penalties[] = {"repetition_penalty"};
    static const char *const forms[] = {"json_schema",       "grammar",        "guided_json",
                                        "guided_regex",      "guided_grammar", "guided_choice",
                                        "structured_outputs"};
    if (strcmp(key, "max_tokens") == 0) return any_given(body, lengths, SRN_LEN(lengths));
    if (strcmp(key, "repeat_penalty") == 0) return any_given(body, penalties, SRN_LEN(penalties));
    if (strcmp(key, "response_format") == 0) return any_given(body, forms, SRN_LEN(forms));
    return false;
}

static bool lay_under(json_t *body, const char *key, const json_t *v) {
    if (!v || srn__field_given(body, key) || says_otherwise(body, key)) return true;
    return json_object_set(body, key, (json_t *)(uintptr_t)v) == 0;
}

json_t *srn__prompt_defaults(const srn_prompt *p, const json_t *body) {
    json_t *out = json_copy((json_t *)(uintptr_t)body), *v;
    const char *key;
    if (!out) return NULL;
    json_object_del(out, "prompt");
    bool whole = lay_under(out, "tools", p->tools) && lay_under(out, "response_format", p->response_format);
    json_object_foreach((json_t *)(uintptr_t)p->sampling, key, v) whole = whole && lay_under(out, key, v);
    if (whole) return out;
    json_decref(out);
    return NULL;
}

void srn__prompt_sampling(const srn_prompt *p, srn__job_spec *spec) {
    srn_sampling *s = &spec->sampling;
    const json_t *o = p->sampling, *v;
    struct {
        const char *key;
        float *at;
    } reals[] = {{"temperature", &s->temperature},
                 {"top_p", &s->top_p},
                 {"min_p", &s->min_p},
                 {"presence_penalty", &s->presence_penalty},
                 {"frequency_penalty", &s->frequency_penalty},
                 {"repeat_penalty", &s->repeat_penalty}};
    for (size_t i = 0; i < SRN_LEN(reals); i++)
        if ((v = json_object_get(o, reals[i].key))) *reals[i].at = (float)json_number_value(v);
    if ((v = json_object_get(o, "top_k"))) s->top_k = (int32_t)json_integer_value(v);
    if ((v = json_object_get(o, "repeat_last_n"))) s->repeat_last_n = (int32_t)json_integer_value(v);
    if ((v = json_object_get(o, "seed"))) s->seed = (uint64_t)json_integer_value(v);
    if ((v = json_object_get(o, "max_tokens"))) spec->max_tokens = (uint32_t)json_integer_value(v);
}

json_t *srn__prompt_messages(const srn__prompt_use *u, const json_t *own) {
    json_t *all = json_copy(u->messages);
    if (all && own && json_array_extend(all, (json_t *)(uintptr_t)own)) {
        json_decref(all);
        return NULL;
    }
    return all;
}

static bool is_model(const char *word, const srn_config_model *model, const char *weights_id) {
    bool same = strcmp(word, model->name) == 0 || strcmp(word, weights_id) == 0;
    for (uint32_t i = 0; i < model->n_aliases; i++) same = same || strcmp(word, model->aliases[i]) == 0;
    return same;
}

int srn__prompt_check_model(const srn_prompt *p, const srn_config_model *model, const char *weights_id,
                            srn_err *err) {
    char list[200] = "";
    int n = 0;
    if (!p->n_models) return SRN_OK;
    for (uint32_t i = 0; i < p->n_models; i++) {
        if (is_model(p->models[i], model, weights_id)) return SRN_OK;
        if (n < 120) n += snprintf(list + n, sizeof list - (size_t)n, "%s%.70s", i ? ", " : "", p->models[i]);
    }
    return srn_fail(err, SRN_EINVAL, "the prompt '%s@%u' may run on %s, and not on '%s'", p->name, p->version,
                    list, model->name);
}
