/* regress: the result as JSON, for the command, the report's readers and the server's jobs. Pure. */
#include "serve/openai_internal.h"
#include "serve/regress.h"

static json_t *both(uint64_t a, uint64_t b) {
    return json_pack("[I, I]", (json_int_t)a, (json_int_t)b);
}

static json_t *side_json(const srn_regress_side *s) {
    char name[SRN_PROMPT_NAME_MAX + 16];
    snprintf(name, sizeof name, "%s@%u", s->ref.name, s->ref.version);
    json_t *o =
        json_pack("{s:o, s:s, s:s, s:s, s:s, s:i, s:s}", "model", srn__text_json(srn_str_of(s->model)),
                  "weights", s->ids.weights, "quantisation", s->ids.quantisation, "tokenizer",
                  s->ids.tokenizer, "engine", s->ids.engine, "numerics", (int)s->ids.numerics, "kv", s->kv);
    json_object_set_new(o, "prompt", s->prompt ? json_string(name) : json_null());
    json_object_set_new(o, "program",
                        s->program ? json_pack("{s:o, s:s}", "path", srn__text_json(srn_str_of(s->program)),
                                               "sha256", s->program_id)
                                   : json_null());
    return o;
}

const char *srn_regress_differs(const srn_regress *g, size_t i) {
    const srn_regress_side *a = &g->sides[0], *b = &g->sides[1];
    const struct {
        const char *name;
        bool differs;
    } all[] = {{"weights", strcmp(a->ids.weights, b->ids.weights) != 0},
               {"tokenizer", strcmp(a->ids.tokenizer, b->ids.tokenizer) != 0},
               {"numerics", a->ids.numerics != b->ids.numerics},
               {"cache type", strcmp(a->kv, b->kv) != 0},
               {"engine", strcmp(a->ids.engine, b->ids.engine) != 0},
               {"program", strcmp(a->program_id, b->program_id) != 0},
               {"prompt", a->prompt && a->ref.version != b->ref.version}};
    for (size_t k = 0; k < SRN_LEN(all); k++)
        if (all[k].differs && i-- == 0) return all[k].name;
    return NULL;
}

static json_t *sum_json(const srn_regress_sum *s) {
    json_t *o =
        json_pack("{s:s, s:I, s:I, s:o, s:I, s:o, s:I, s:I, s:f, s:I, s:I, s:o, s:o, s:o}", "name", s->name,
                  "items", (json_int_t)s->items, "compared", (json_int_t)s->compared, "not_answered",
                  both(s->errors[0], s->errors[1]), "checked", (json_int_t)s->checked, "passed",
                  both(s->passed[0], s->passed[1]), "lost", (json_int_t)s->lost, "won", (json_int_t)s->won,
                  "mcnemar_p", s->p, "same_answers", (json_int_t)s->same, "same_bits",
                  (json_int_t)s->same_bits, "output_tokens", both(s->tokens[0], s->tokens[1]), "ttft_us",
                  both(s->ttft_us[0], s->ttft_us[1]), "total_us", both(s->total_us[0], s->total_us[1]));
    json_object_set_new(o, "divergence",
                        s->kl_tokens ? json_pack("{s:I, s:f, s:f, s:f}", "tokens", (json_int_t)s->kl_tokens,
                                                 "mean", s->kl_sum / (double)s->kl_tokens, "max", s->kl_max,
                                                 "top1", (double)s->top1 / (double)s->kl_tokens)
                                     : json_null());
    return o;
}

static json_t *answer_json(const srn_regress_result *s) {
    json_t *o = json_object();
    if (s->ran) {
        json_object_set_new(o, "text", srn__text_json((srn_str){s->answer.text, s->answer.n_text}));
        json_object_set_new(o, "finish", json_string(s->answer.finish));
        json_object_set_new(o, "input_tokens", json_integer(s->answer.n_prompt));
        json_object_set_new(o, "output_tokens", json_integer(s->answer.n_tokens));
        json_object_set_new(o, "ttft_us", json_integer((json_int_t)s->answer.ttft_us));
        json_object_set_new(o, "total_us", json_integer((json_int_t)s->answer.total_us));
    }
    json_object_set_new(o, "error", s->ran ? json_null() : srn__text_json(srn_str_of(s->why.text)));
    json_object_set(o, "checks", s->checks ? s->checks : json_null());
    return o;
}

const char *srn_regress_verdict(const srn_regress_item *it) {
    if (!it->n_checks) return "no checks";
    if (srn_regress_lost(it)) return "lost";
    if (srn_regress_won(it)) return "won";
    return it->sides[0].passed ? "passed" : "failed";
}

/* {"at", "kind"}: the first token at which the bits part; null where they do not, or a side did not run. */
static json_t *difference_json(const srn_regress_item *it) {
    const srn_replay_answer *a = &it->sides[0].answer, *b = &it->sides[1].answer;
    uint32_t at;
    if (!it->sides[0].ran || !it->sides[1].ran || srn_regress_same_bits(it, &at)) return json_null();
    bool both_go_on = at < a->n_tokens && at < b->n_tokens;
    const char *kind = !both_go_on ? "length" : a->tokens[at] != b->tokens[at] ? "token" : "logit";
    return json_pack("{s:I, s:s}", "at", (json_int_t)at, "kind", kind);
}

static json_t *item_json(const srn_regress_item *it) {
    json_t *o =
        json_pack("{s:o, s:s, s:s, s:b, s:b, s:o, s:o, s:o}", "id", srn__text_json(srn_str_of(it->id)),
                  "prompt", it->group, "verdict", srn_regress_verdict(it), "same", srn_regress_same(it),
                  "same_bits", srn_regress_same_bits(it, NULL), "first_difference", difference_json(it),
                  "from", answer_json(&it->sides[0]), "to", answer_json(&it->sides[1]));
    json_object_set_new(o, "divergence",
                        it->has_divergence ? srn_divergence_json(&it->divergence) : json_null());
    return o;
}

json_t *srn_regress_json(const srn_regress *g, const srn_regress_sum *sums, size_t n) {
    json_t *o = json_object(), *groups = json_array(), *items = json_array(), *differs = json_array();
    const char *name;
    for (size_t i = 0; i + 1 < n; i++) json_array_append_new(groups, sum_json(&sums[i]));
    for (size_t i = 0; i < g->n; i++) json_array_append_new(items, item_json(&g->items[i]));
    for (size_t i = 0; (name = srn_regress_differs(g, i)); i++)
        json_array_append_new(differs, json_string(name));
    json_object_set_new(o, "from", side_json(&g->sides[0]));
    json_object_set_new(o, "to", side_json(&g->sides[1]));
    json_object_set_new(o, "differs", differs);
    json_object_set_new(o, "same_weights",
                        json_boolean(strcmp(g->sides[0].ids.weights, g->sides[1].ids.weights) == 0));
    json_object_set(o, "weights_differ", g->weights_differ ? g->weights_differ : json_null());
    json_object_set_new(o, "no_divergence",
                        g->no_divergence_why ? json_string(g->no_divergence_why) : json_null());
    json_object_set_new(o, "total", sum_json(&sums[n - 1]));
    json_object_set_new(o, "prompts", groups);
    json_object_set_new(o, "items", items);
    return o;
}
