/* serin run --json: one object that says what was answered, how fast, and by exactly which model, engine and
 * sampling, so that the call can be repeated. The weights id is computed here, after the answer.
 */
#include <inttypes.h>

#include "cli/run.h"

static json_t *ids_json(const srn_tokens *t) {
    json_t *list = json_array();
    for (size_t i = 0; i < t->n; i++) json_array_append_new(list, json_integer(t->ids[i]));
    return list;
}

static json_t *real_or_null(double v) {
    return v > 0 ? json_real(v) : json_null();
}

/* Token ids and what was added to their logits. */
static json_t *bias_json(const srn_sampling *p) {
    json_t *o = json_object();
    for (uint32_t i = 0; i < p->n_logit_bias; i++) {
        char id[16];
        snprintf(id, sizeof id, "%" PRId32, p->logit_bias[i].id);
        json_object_set_new(o, id, json_real((double)p->logit_bias[i].bias));
    }
    return o;
}

static json_t *texts_json(const srn_str_list *l) {
    json_t *list = json_array();
    for (size_t i = 0; i < l->n; i++) json_array_append_new(list, json_string(l->items[i]));
    return list;
}

/* The value that a float was given as: 0.8, not 0.800000011920929. */
static json_t *sampling_json(const srn__run *r) {
    json_t *o = json_pack(
        "{s:f, s:I, s:f, s:f, s:f, s:f, s:I, s:f, s:f, s:f, s:f, s:I, s:I, s:o, s:o, s:I, s:o}",
        "temperature", r->temperature, "top_k", (json_int_t)r->top_k, "top_p", r->top_p, "min_p", r->min_p,
        "typical_p", r->typical_p, "repeat_penalty", r->repeat_penalty, "repeat_last_n",
        (json_int_t)r->repeat_last_n, "presence_penalty", r->presence_penalty, "frequency_penalty",
        r->frequency_penalty, "dry_multiplier", r->dry_multiplier, "dry_base", r->dry_base,
        "dry_allowed_length", (json_int_t)r->dry_allowed_length, "dry_last_n", (json_int_t)r->dry_last_n,
        "dry_breakers", texts_json(&r->dry_breaker), "logit_bias", bias_json(&r->sampling), "seed",
        (json_int_t)r->sampling.seed, "stop", texts_json(&r->stop));
    char id[2 * SRN_SHA256_BYTES + 1];
    if (r->constraint) srn_constraint_id(r->constraint, id);
    json_object_set_new(o, "constraint", r->constraint ? json_string(id) : json_null());
    return o;
}

static json_t *timings_json(const srn__run *r, const srn_generation *g) {
    return json_pack("{s:I, s:I, s:o, s:I, s:o, s:o, s:f, s:f}", "prompt_tokens", (json_int_t)g->n_prompt,
                     "cached_tokens", (json_int_t)g->n_cached, "prompt_tok_per_s",
                     real_or_null(srn__run_prompt_rate(g)), "output_tokens", (json_int_t)g->n_output,
                     "output_tok_per_s", real_or_null(srn__run_output_rate(g)), "ttft_ms",
                     real_or_null((double)g->ttft_us / 1e3), "load_ms", (double)r->load_us / 1e3, "total_ms",
                     (double)(srn_now_us() - r->started_us) / 1e3);
}

static json_t *id_json(const char *id) {
    return id[0] ? json_string(id) : json_null();
}

static json_t *model_json(const srn__run *r, srn_err *err) {
    srn_ids ids;
    if (srn_weights_id(srn_engine_weights(r->engine), false, srn_cli_progress, NULL, ids.weights, err))
        return NULL;
    if (srn_engine_ids(r->engine, &ids, err)) return NULL;
    json_t *path = json_string(r->path);
    return json_pack("{s:o, s:s, s:o, s:o, s:s, s:s}", "path", path ? path : json_null(), "weights_id",
                     ids.weights, "tokenizer_id", id_json(ids.tokenizer), "template_id",
                     id_json(ids.chat_template), "architecture", srn_engine_get_info(r->engine).architecture,
                     "quantisation", ids.quantisation);
}

int srn__run_print_json(const srn__run *r, const srn__answer *a, srn_err *err) {
    json_t *timings = timings_json(r, &a->g), *model = model_json(r, err);
    if (!model) {
        json_decref(timings);
        return err->code;
    }
    json_t *o =
        json_pack("{s:s%, s:o, s:o, s:s, s:o, s:o, s:o, s:s, s:i, s:o}", "text",
                  a->text.len ? a->text.data : "", a->text.len, "tokens", ids_json(&a->tokens),
                  "prompt_tokens", ids_json(&r->prompt_tokens), "finish_reason", srn_finish_name(a->g.finish),
                  "stop", a->stop < 0 ? json_null() : json_string(r->stop.items[a->stop]), "timings", timings,
                  "model", model, "engine", srn_engine_get_info(r->engine).engine_id, "numerics",
                  SRN_NUMERICS_ID, "sampling", sampling_json(r));
    if (!o) return srn_fail_nomem(err, a->text.len);
    json_dumpf(o, stdout, JSON_COMPACT | JSON_REAL_PRECISION(15));
    json_decref(o);
    putchar('\n');
    return SRN_OK;
}
