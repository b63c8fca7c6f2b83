/* serin run: how tokens are drawn and what an answer may look like: the options for it, and what becomes of
 * them. Ranges and constraints are checked before the model is opened; what needs its vocabulary (texts of
 * tokens, breakers, masks) before its weights are packed. Main thread.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <sys/random.h>

#include "cli/run.h"
#include "engine/stream.h"

/* 53 bits, so that every reader of JSON keeps them. */
#define SEED_BITS 53
#define SEED_MAX  ((double)((1ull << SEED_BITS) - 1))

enum { MAX_CONSTRAINT_BYTES = 1 << 20 };

/* ---- options ---- */

size_t srn__run_sampling_opts(srn__run *r, srn_opt *ret) {
    const srn_opt opts[] = {
        {"temp", 0, SRN_OPT_FLOAT, &r->temperature, 0, 100, "X", "temperature; 0 is greedy (0.8)"},
        {"top-k", 0, SRN_OPT_INT, &r->top_k, 0, INT32_MAX, "N", "only the N likeliest tokens; 0: all (40)"},
        {"top-p", 0, SRN_OPT_FLOAT, &r->top_p, 0, 1, "X", "only the likeliest that make up X; 1: all (0.95)"},
        {"min-p", 0, SRN_OPT_FLOAT, &r->min_p, 0, 1, "X",
         "only those with X of the likeliest one's share (0.05)"},
        {"typical-p", 0, SRN_OPT_FLOAT, &r->typical_p, 0, 1, "X",
         "only the most typical that make up X; 1: all (1)"},
        {"repeat-penalty", 0, SRN_OPT_FLOAT, &r->repeat_penalty, 0, 100, "X",
         "over 1 makes tokens seen before less likely (1)"},
        {"repeat-last-n", 0, SRN_OPT_INT, &r->repeat_last_n, -1, INT32_MAX, "N",
         "how far back the penalty looks; -1: all (64)"},
        {"presence-penalty", 0, SRN_OPT_FLOAT, &r->presence_penalty, -2, 2, "X",
         "takes X from the logits of tokens in the answer (0)"},
        {"frequency-penalty", 0, SRN_OPT_FLOAT, &r->frequency_penalty, -2, 2, "X",
         "the same for each time that they are in it (0)"},
        {"dry-multiplier", 0, SRN_OPT_FLOAT, &r->dry_multiplier, 0, 100, "X",
         "DRY, against repeated sequences of tokens; 0: off (0)"},
        {"dry-base", 0, SRN_OPT_FLOAT, &r->dry_base, 1, 100, "X",
         "what each token more multiplies it by (1.75)"},
        {"dry-allowed-length", 0, SRN_OPT_INT, &r->dry_allowed_length, 0, INT32_MAX, "N",
         "shorter sequences may repeat (2)"},
        {"dry-last-n", 0, SRN_OPT_INT, &r->dry_last_n, -1, INT32_MAX, "N",
         "how far back DRY looks; -1: all (-1)"},
        {"dry-breaker", 0, SRN_OPT_LIST, &r->dry_breaker, 0, 0, "TEXT",
         "sequences end at it; may be repeated (line break : \" *)"},
        {"logit-bias", 0, SRN_OPT_LIST, &r->logit_bias, 0, 0, "TOKEN=X",
         "adds X to a token's logit; -100: never; TOKEN: id or text"},
        {"seed", 0, SRN_OPT_INT, &r->seed, 0, SEED_MAX, "N", "equal seeds repeat an answer (random)"},
        {"stop", 0, SRN_OPT_LIST, &r->stop, 0, 0, "TEXT",
         "ends the answer before this text; may be repeated"},
        {"schema", 0, SRN_OPT_STR, &r->schema, 0, 0, "FILE",
         "the answer is JSON that this JSON schema accepts"},
        {"regex", 0, SRN_OPT_STR, &r->regex, 0, 0, "R", "the whole answer matches this regular expression"},
        {"gbnf", 0, SRN_OPT_STR, &r->gbnf, 0, 0, "FILE", "the answer follows this GBNF grammar"},
    };
    _Static_assert(SRN_LEN(opts) <= SRN__RUN_SAMPLING_OPTS, "room for the options");
    memcpy(ret, opts, sizeof opts);
    return SRN_LEN(opts);
}

void srn__run_sampling_defaults(srn__run *r) {
    srn_sampling d = srn_sampling_default();
    /* Decimal as they are documented: a float's own digits would show in the JSON. */
    r->temperature = 0.8;
    r->top_k = d.top_k;
    r->top_p = 0.95;
    r->min_p = 0.05;
    r->typical_p = 1;
    r->repeat_penalty = 1;
    r->repeat_last_n = d.repeat_last_n;
    r->dry_base = 1.75;
    r->dry_allowed_length = d.dry_allowed_length;
    r->dry_last_n = d.dry_last_n;
    r->seed = -1;
}

void srn__run_sampling_done(srn__run *r) {
    free((void *)(uintptr_t)r->sampling.logit_bias);
    free((void *)(uintptr_t)r->sampling.dry_breakers);
    free(r->stops);
    srn_constraint_free(r->constraint);
    srn_token_trie_free(r->trie);
    srn_str_list_done(&r->stop);
    srn_str_list_done(&r->logit_bias);
    srn_str_list_done(&r->dry_breaker);
}

/* ---- before the model is opened ---- */

static int pick_seed(const srn__run *r, uint64_t *ret, srn_err *err) {
    *ret = (uint64_t)r->seed;
    if (r->seed >= 0) return SRN_OK;
    if (getrandom(ret, sizeof *ret, 0) != (ssize_t)sizeof *ret)
        return srn_fail(err, SRN_EIO, "the system gives no random seed; give one with --seed N");
    *ret >>= 64 - SEED_BITS;
    return SRN_OK;
}

/* Puts the option's name in the place of the field's, with which a sentence of srn_sampling_check begins. */
static int name_option(int code, srn_err *err) {
    char name[64];
    size_t n = strcspn(err->text, " ");
    if (!code || n >= sizeof name) return code;
    for (size_t i = 0; i <= n; i++) name[i] = (char)(i == n ? 0 : err->text[i] == '_' ? '-' : err->text[i]);
    srn_err was = *err;
    return srn_fail(err, code, "--%s%s", name, was.text + n);
}

static int compile_schema(srn__run *r, srn_str text, srn_err *err) {
    json_error_t why;
    json_t *schema = json_loadb(text.ptr, text.len, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, &why);
    if (!schema)
        return srn_fail(err, SRN_EFORMAT, "--schema: %s is no JSON: line %d, column %d: %s", r->schema,
                        why.line, why.column, why.text);
    int code = srn_constraint_of_schema(schema, &r->constraint, err);
    json_decref(schema);
    return code ? srn_fail_prefix(err, code, "--schema %s", r->schema) : SRN_OK;
}

static int compile_constraint(srn__run *r, srn_err *err) {
    const char *file = r->schema ? r->schema : r->gbnf;
    srn_str text = {0};
    char *read = NULL;
    int code = SRN_OK;
    if ((r->schema != NULL) + (r->regex != NULL) + (r->gbnf != NULL) > 1)
        return srn_fail(err, SRN_EUSAGE, "an answer has one form; give one of --schema, --regex and --gbnf");
    if (r->regex) {
        code = srn_constraint_of_regex(srn_str_of(r->regex), &r->constraint, err);
        return code ? srn_fail_prefix(err, code, "--regex") : SRN_OK;
    }
    if (!file) return SRN_OK;
    code = srn_read_file(file, MAX_CONSTRAINT_BYTES, &read, &text.len, err);
    text.ptr = read;
    if (!code && r->schema) code = compile_schema(r, text, err);
    if (!code && r->gbnf && (code = srn_constraint_of_gbnf(text, &r->constraint, err)))
        srn_fail_prefix(err, code, "--gbnf %s", r->gbnf);
    free(read);
    return code;
}

int srn__run_check_sampling(srn__run *r, srn_err *err) {
    r->sampling = (srn_sampling){.temperature = (float)r->temperature,
                                 .top_k = (int32_t)r->top_k,
                                 .top_p = (float)r->top_p,
                                 .min_p = (float)r->min_p,
                                 .typical_p = (float)r->typical_p,
                                 .repeat_penalty = (float)r->repeat_penalty,
                                 .repeat_last_n = (int32_t)r->repeat_last_n,
                                 .presence_penalty = (float)r->presence_penalty,
                                 .frequency_penalty = (float)r->frequency_penalty,
                                 .dry_multiplier = (float)r->dry_multiplier,
                                 .dry_base = (float)r->dry_base,
                                 .dry_allowed_length = (int32_t)r->dry_allowed_length,
                                 .dry_last_n = (int32_t)r->dry_last_n};
    int code = name_option(srn_sampling_check(&r->sampling, err), err);
    if (!code) code = pick_seed(r, &r->sampling.seed, err);
    if (!code) code = compile_constraint(r, err);
    if (!code && r->stop.n && !(r->stops = srn_calloc(r->stop.n, sizeof *r->stops)))
        code = srn_fail_nomem(err, r->stop.n * sizeof *r->stops);
    for (size_t i = 0; !code && i < r->stop.n; i++) r->stops[i] = srn_str_of(r->stop.items[i]);
    for (size_t i = 0; !code && i < r->dry_breaker.n; i++)
        if (!r->dry_breaker.items[i][0]) code = srn_fail(err, SRN_EUSAGE, "--dry-breaker is empty");
    return code;
}

/* ---- with the vocabulary ---- */

/* The token that a word names: its id, or a text that is one token. */
static int find_token(const srn__run *r, srn_str word, int32_t *ret, srn_err *err) {
    int64_t id = 0;
    size_t digits = 0;
    while (digits < word.len && word.ptr[digits] >= '0' && word.ptr[digits] <= '9' && id < INT32_MAX)
        id = 10 * id + (word.ptr[digits++] - '0');
    if (digits && digits == word.len && id < srn_vocab_size(r->vocab)) return *ret = (int32_t)id, SRN_OK;
    if (digits && digits == word.len)
        return srn_fail(err, SRN_EUSAGE, "--logit-bias: there is no token %.*s; the vocabulary has 0 to %d",
                        (int)word.len, word.ptr, srn_vocab_size(r->vocab) - 1);
    int32_t exact = srn_vocab_find(r->vocab, word);
    if (exact >= 0) return *ret = exact, SRN_OK; /* special ones too */
    srn_tokens t = {0};
    srn_span span = {word, false};
    int code = srn_tokenize(r->vocab, &span, 1, SRN_TOK_NO_BOS, &t, err);
    if (!code && t.n != 1)
        code = srn_fail(err, SRN_EUSAGE,
                        "--logit-bias: '%.*s' is %zu tokens; give one token, by its text or its id ('serin "
                        "tokenize' tells it)",
                        (int)SRN_MIN(word.len, (size_t)100), word.ptr, t.n);
    if (!code) *ret = t.ids[0];
    srn_tokens_done(&t);
    return code;
}

static int by_id(const void *a, const void *b) {
    int32_t x = ((const srn_logit_bias *)a)->id, y = ((const srn_logit_bias *)b)->id;
    return x < y ? -1 : x > y;
}

/* TOKEN=X: the text may hold a '=' itself. */
static int parse_bias(const srn__run *r, const char *word, srn_logit_bias *ret, srn_err *err) {
    const char *equals = strrchr(word, '=');
    char *end = NULL;
    double x = equals ? strtod(equals + 1, &end) : 0;
    if (!equals || equals == word || end == equals + 1 || *end || !(x >= -1e6 && x <= 1e6))
        return srn_fail(err, SRN_EUSAGE,
                        "--logit-bias needs TOKEN=X with a number X, such as --logit-bias 198=-5");
    ret->bias = (float)x;
    return find_token(r, (srn_str){word, (size_t)(equals - word)}, &ret->id, err);
}

static int take_biases(srn__run *r, srn_err *err) {
    size_t n = r->logit_bias.n;
    if (n == 0) return SRN_OK;
    srn_logit_bias *list = srn_calloc(n, sizeof *list);
    if (!list) return srn_fail_nomem(err, n * sizeof *list);
    r->sampling.logit_bias = list;
    for (size_t i = 0; i < n; i++) {
        int code = parse_bias(r, r->logit_bias.items[i], &list[i], err);
        if (code) return code;
    }
    qsort(list, n, sizeof *list, by_id);
    r->sampling.n_logit_bias = (uint32_t)n;
    return name_option(srn_sampling_check(&r->sampling, err), err);
}

static int take_breakers(srn__run *r, srn_err *err) {
    size_t n = r->dry_breaker.n;
    if (r->dry_multiplier <= 0) return SRN_OK;
    srn_str *texts = n ? srn_calloc(n, sizeof *texts) : NULL;
    if (n && !texts) return srn_fail_nomem(err, n * sizeof *texts);
    for (size_t i = 0; i < n; i++) texts[i] = srn_str_of(r->dry_breaker.items[i]);
    int32_t *ids = NULL;
    int code = srn_dry_breakers(r->vocab, texts, n, &ids, &r->sampling.n_dry_breakers, err);
    r->sampling.dry_breakers = ids;
    free(texts);
    return code;
}

int srn__run_bind_sampling(srn__run *r, srn_err *err) {
    srn_stream *probe = NULL;
    int code = srn_stream_new(r->vocab, false, r->stops, (uint32_t)r->stop.n, false, &probe, err);
    srn_stream_free(probe);
    if (code) return srn_fail_prefix(err, code, "--stop");
    code = take_biases(r, err);
    if (!code) code = take_breakers(r, err);
    if (!code && r->constraint) code = srn_token_trie_new(r->vocab, &r->trie, err);
    return code;
}
