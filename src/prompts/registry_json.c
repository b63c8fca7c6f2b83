/* The registry as JSON: what /v1/prompts and the commands show. Any thread; each works on one snapshot. */
#include "prompts/registry_internal.h"

static bool put_label(void *ctx, const char *label, uint32_t version) {
    return json_object_set_new(ctx, label, json_integer(version)) == 0;
}

static json_t *labels_of(const srn__entry *e) {
    json_t *o = json_object();
    if (o) srn__entry_labels(e, put_label, o);
    return o;
}

static json_t *text_or_null(const char *z) {
    return z ? json_string(z) : json_null();
}

static json_t *short_version(const srn__version *v) {
    return json_pack("{s:I, s:s, s:s, s:I, s:o, s:O?}", "version", (json_int_t)v->pub.version, "hash",
                     v->pub.hash, "by", v->by, "at_us", (json_int_t)v->at_us, "description",
                     text_or_null(v->pub.description), "source", v->source);
}

static json_t *short_entry(const srn__entry *e) {
    const srn__version *v = e->versions[e->n_versions - 1];
    return json_pack("{s:s, s:I, s:o, s:s, s:s, s:I, s:o}", "name", e->name, "latest",
                     (json_int_t)e->n_versions, "labels", labels_of(e), "hash", v->pub.hash, "by", v->by,
                     "at_us", (json_int_t)v->at_us, "description", text_or_null(v->pub.description));
}

static json_t *list_of(const srn__snapshot *s) {
    json_t *data = json_array();
    for (size_t i = 0; data && i < s->n; i++) json_array_append_new(data, short_entry(s->entries[i]));
    return json_pack("{s:s, s:o}", "object", "list", "data", data);
}

static json_t *whole_entry(const srn__entry *e) {
    json_t *versions = json_array();
    for (uint32_t i = 0; versions && i < e->n_versions; i++)
        json_array_append_new(versions, short_version(e->versions[i]));
    return json_pack("{s:s, s:s, s:I, s:o, s:o}", "object", "prompt", "name", e->name, "latest",
                     (json_int_t)e->n_versions, "labels", labels_of(e), "versions", versions);
}

int srn_prompts_json(srn_prompts *p, const char *name, json_t **ret, srn_err *err) {
    srn__snapshot *s = srn__prompts_hold(p);
    const srn__entry *e = name ? srn__prompts_find(s, name, err) : NULL;
    json_t *o = e ? whole_entry(e) : name ? NULL : list_of(s);
    srn__prompts_drop(s);
    if (name && !e) return SRN_ENOENT;
    if (!o) return srn_fail_nomem(err, 0);
    *ret = o;
    return SRN_OK;
}

/* The labels that point at version v. */
static json_t *labels_at(const srn__entry *e, uint32_t v) {
    json_t *all = labels_of(e), *list = json_array(), *at;
    const char *label;
    json_object_foreach(all, label, at) {
        if ((uint32_t)json_integer_value(at) == v) json_array_append_new(list, json_string(label));
    }
    json_decref(all);
    return list;
}

int srn_prompts_version_json(srn_prompts *p, const srn_prompt_ref *ref, json_t **ret, srn_err *err) {
    srn__snapshot *s = srn__prompts_hold(p);
    const srn__entry *e = srn__prompts_find(s, ref->name, err);
    const srn__version *v = e ? srn__prompts_which(e, ref, NULL, err) : NULL;
    json_t *o =
        v ? json_pack("{s:s, s:s, s:I, s:s, s:s, s:I, s:o, s:O?, s:o}", "object", "prompt.version", "name",
                      e->name, "version", (json_int_t)v->pub.version, "hash", v->pub.hash, "by", v->by,
                      "at_us", (json_int_t)v->at_us, "labels", labels_at(e, v->pub.version), "source",
                      v->source, "document", json_deep_copy(v->doc))
          : NULL;
    srn__prompts_drop(s);
    if (!v) return SRN_ENOENT;
    if (!o) return srn_fail_nomem(err, 0);
    *ret = o;
    return SRN_OK;
}

static json_t *pushed(const srn__version *v) {
    return json_pack("{s:s, s:I, s:s, s:s, s:I, s:O?}", "event", "prompt_pushed", "version",
                     (json_int_t)v->pub.version, "hash", v->pub.hash, "by", v->by, "at_us",
                     (json_int_t)v->at_us, "source", v->source);
}

static json_t *moved(const srn__move *m) {
    return json_pack("{s:s, s:s, s:o, s:o, s:s, s:I}", "event", "label_moved", "label", m->label, "from",
                     m->from ? json_integer(m->from) : json_null(), "to",
                     m->to ? json_integer(m->to) : json_null(), "by", m->by, "at_us", (json_int_t)m->at_us);
}

/* Versions and moves are each in the order of time; a version comes before a move of the same moment. */
static json_t *history_of(const srn__entry *e) {
    json_t *list = json_array();
    size_t k = 0;
    for (uint32_t i = 0; list && i < e->n_versions; i++) {
        for (; k < e->n_moves && e->moves[k].at_us < e->versions[i]->at_us && e->moves[k].to <= i; k++)
            json_array_append_new(list, moved(&e->moves[k]));
        json_array_append_new(list, pushed(e->versions[i]));
    }
    for (; list && k < e->n_moves; k++) json_array_append_new(list, moved(&e->moves[k]));
    return json_pack("{s:s, s:s, s:o}", "object", "prompt.history", "name", e->name, "history", list);
}

int srn_prompts_history(srn_prompts *p, const char *name, json_t **ret, srn_err *err) {
    srn__snapshot *s = srn__prompts_hold(p);
    const srn__entry *e = srn__prompts_find(s, name, err);
    json_t *o = e ? history_of(e) : NULL;
    srn__prompts_drop(s);
    if (!e) return SRN_ENOENT;
    if (!o) return srn_fail_nomem(err, 0);
    *ret = o;
    return SRN_OK;
}
