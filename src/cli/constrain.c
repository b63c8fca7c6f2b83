/* cli: `serin constrain`: whether a text is let through by a schema, pattern or grammar, byte by byte and
 * token by token, and what masks cost. Main thread; needs a model's vocabulary and no tensors.
 */
#include "cli/cli.h"
#include "cli/tokens.h"
#include "constrain/constrain.h"

#include <stdlib.h>
#include <time.h>

enum { MAX_SOURCE_BYTES = 16 << 20, MAX_TEXT_BYTES = 64 << 20, MAX_WALK = 1000000 };

typedef struct request {
    const char *schema, *regex, *gbnf, *model, *accepts, *walk;
    bool bench, json;
    int64_t tokens, seed;
} request;

/* What both questions need. */
typedef struct opened {
    srn_weights *w;
    srn_vocab *v;
    srn_token_trie *trie;
    srn_constraint *c;
    uint64_t compile_us, trie_us;
} opened;

static void opened_done(opened *o) {
    srn_constraint_free(o->c);
    srn_token_trie_free(o->trie);
    srn_vocab_free(o->v);
    srn_weights_free(o->w);
}

static int by_value(const void *a, const void *b) {
    const uint64_t *x = a, *y = b;
    return *x < *y ? -1 : *x > *y;
}

static int compile_schema(srn_str text, const char *path, srn_constraint **ret, srn_err *err) {
    json_error_t e;
    json_t *schema = json_loadb(text.ptr, text.len, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &e);
    if (!schema)
        return srn_fail(err, SRN_EFORMAT, "%s, line %d, column %d: %s", path, e.line, e.column, e.text);
    int code = srn_constraint_of_schema(schema, ret, err);
    json_decref(schema);
    return code;
}

static int compile_once(const request *r, srn_str text, srn_constraint **ret, srn_err *err) {
    if (r->schema) return compile_schema(text, r->schema, ret, err);
    if (r->regex) return srn_constraint_of_regex(text, ret, err);
    int code = srn_constraint_of_gbnf(text, ret, err);
    return code ? srn_fail_prefix(err, code, "%s", r->gbnf) : code;
}

/* For a benchmark several times, and the median counts. */
static int compile(const request *r, opened *o, srn_err *err) {
    enum { MOST = 9 };
    char *source = NULL;
    size_t len = 0;
    uint64_t us[MOST];
    int times = r->bench ? MOST : 1;
    int code = r->regex
                   ? SRN_OK
                   : srn_read_file(r->schema ? r->schema : r->gbnf, MAX_SOURCE_BYTES, &source, &len, err);
    if (code) return code;
    srn_str text = r->regex ? srn_str_of(r->regex) : (srn_str){source, len};
    for (int i = 0; !code && i < times; i++) {
        srn_constraint_free(o->c);
        o->c = NULL;
        uint64_t start = srn_now_us();
        code = compile_once(r, text, &o->c, err);
        us[i] = srn_now_us() - start;
    }
    free(source);
    if (code) return code;
    qsort(us, (size_t)times, sizeof *us, by_value);
    o->compile_us = us[times / 2];
    return SRN_OK;
}

static int open_all(const request *r, opened *o, srn_err *err) {
    int code = compile(r, o, err);
    if (code == SRN_OK) code = srn__cli_open_vocab(r->model, &o->w, &o->v, err);
    uint64_t start = srn_now_us();
    if (code == SRN_OK) code = srn_token_trie_new(o->v, &o->trie, err);
    o->trie_us = srn_now_us() - start;
    return code;
}

/* ---- --accepts ---- */

typedef struct answer {
    size_t n_bytes;   /* let through */
    bool complete;    /* and the text may end there */
    size_t n_tokens;  /* of the text, let through by masks */
    size_t of_tokens; /* that it has */
    size_t token_at;  /* byte at which the token that was refused begins */
} answer;

/* Bytes that may come next, as runs. */
static size_t next_bytes(srn_matcher *m, uint8_t runs[256][2], srn_err *err) {
    size_t n = 0;
    for (int b = 0; b < 256; b++) {
        char c = (char)b;
        if (srn_matcher_accept_bytes(m, &c, 1) == 0) continue;
        srn_matcher_rollback(m, 1, err);
        if (n && runs[n - 1][1] == b - 1) {
            runs[n - 1][1] = (uint8_t)b;
        } else {
            runs[n][0] = runs[n][1] = (uint8_t)b;
            n++;
        }
    }
    return n;
}

static void put_byte(srn_buf *b, unsigned c) {
    if (c == '\n')
        srn_buf_addz(b, "\\n");
    else if (c > ' ' && c < 0x7F)
        srn_buf_addf(b, "%c", (int)c);
    else if (c == ' ')
        srn_buf_addz(b, "' '");
    else
        srn_buf_addf(b, "\\x%02x", c);
}

/* "the end, [0-9], }" */
static void describe_next(srn_matcher *m, srn_buf *b) {
    uint8_t runs[256][2];
    srn_err err;
    size_t n = next_bytes(m, runs, &err);
    if (srn_matcher_may_end(m)) srn_buf_addz(b, n ? "the end, " : "the end");
    for (size_t i = 0; i < n; i++) {
        if (i) srn_buf_addz(b, ", ");
        put_byte(b, runs[i][0]);
        if (runs[i][1] > runs[i][0]) srn_buf_addz(b, " to "), put_byte(b, runs[i][1]);
    }
}

/* Token by token, as an answer would be made. */
static int check_tokens(const opened *o, srn_str text, answer *a, srn_err *err) {
    srn_tokens t = {0};
    srn_matcher *m = NULL;
    srn_span span = {text, false};
    uint64_t *mask = srn_calloc(((size_t)srn_vocab_size(o->v) + 63) / 64, sizeof *mask);
    int code = mask ? srn_tokenize(o->v, &span, 1, SRN_TOK_NO_BOS, &t, err)
                    : srn_fail_nomem(err, (size_t)srn_vocab_size(o->v) / 8);
    if (code == SRN_OK) code = srn_matcher_new(o->c, o->trie, &m, err);
    srn_detok d;
    srn_buf so_far;
    srn_buf_init(&so_far, (size_t)MAX_TEXT_BYTES * 2);
    srn_detok_init(&d, o->v, false);
    a->of_tokens = t.n;
    for (size_t i = 0; !code && i < t.n; i++) {
        int32_t id = t.ids[i];
        code = srn_matcher_mask(m, mask, err);
        if (code || !(mask[id / 64] >> id % 64 & 1)) break;
        code = srn_matcher_accept(m, id, err);
        srn_detok_add(&d, id, &so_far);
        a->token_at = so_far.len;
        a->n_tokens++;
    }
    srn_buf_done(&so_far);
    srn_matcher_free(m);
    srn_tokens_done(&t);
    free(mask);
    return code;
}

static void print_accepts_json(const answer *a, srn_str text, bool accepted, const char *next,
                               const char *id) {
    json_t *j = json_pack("{s:b s:I s:I s:b s:I s:I s:s s:s}", "accepted", accepted, "bytes",
                          (json_int_t)text.len, "accepted_bytes", (json_int_t)a->n_bytes, "complete",
                          a->complete, "tokens", (json_int_t)a->of_tokens, "accepted_tokens",
                          (json_int_t)a->n_tokens, "next", next, "constraint_id", id);
    char *s = j ? json_dumps(j, JSON_INDENT(2)) : NULL;
    if (s) puts(s);
    free(s);
    json_decref(j);
}

static void print_accepts(const answer *a, srn_str text, const char *next) {
    size_t line = 1, column = 1;
    for (size_t i = 0; i < a->n_bytes; i++) {
        column++;
        if (text.ptr[i] == '\n') line++, column = 1;
    }
    if (a->n_bytes < text.len) {
        printf("refused at byte %zu (line %zu, column %zu): ", a->n_bytes, line, column);
        srn_cli_put_text(stdout, (srn_str){text.ptr + a->n_bytes, SRN_MIN(text.len - a->n_bytes, (size_t)40)},
                         60, true);
        printf("\nthere could come: %s\n", next);
        if (a->complete && a->n_bytes + 1 == text.len && text.ptr[a->n_bytes] == '\n')
            puts("The text ends with a line break, which counts; without it, it would be let through.");
    } else if (!a->complete) {
        printf("incomplete: all %zu bytes are let through, but the text may not end there\nthere could come: "
               "%s\n",
               text.len, next);
    } else if (a->n_tokens < a->of_tokens) {
        printf("refused at token %zu of %zu, byte %zu: the text is let through, this token is not\n",
               a->n_tokens, a->of_tokens, a->token_at);
    } else {
        printf("accepted: %zu bytes, %zu tokens\n", text.len, a->of_tokens);
    }
}

static int accepts(const request *r, const opened *o, bool *ret_accepted, srn_err *err) {
    char *data = NULL, id[2 * SRN_SHA256_BYTES + 1];
    size_t len = 0;
    answer a = {0};
    srn_matcher *m = NULL;
    srn_buf next;
    srn_buf_init(&next, 1 << 16);
    int code = srn_read_file(r->accepts, MAX_TEXT_BYTES, &data, &len, err);
    srn_str text = {data, len};
    if (code == SRN_OK) code = srn_matcher_new(o->c, o->trie, &m, err);
    if (code == SRN_OK) {
        /* in pieces, for one call has a bound on its work */
        for (size_t n = 1; a.n_bytes < len && n; a.n_bytes += n)
            n = srn_matcher_accept_bytes(m, data + a.n_bytes, SRN_MIN(len - a.n_bytes, (size_t)64));
        a.complete = srn_matcher_may_end(m);
        describe_next(m, &next);
        code = check_tokens(o, text, &a, err);
    }
    if (code == SRN_OK) {
        *ret_accepted = a.n_bytes == len && a.complete && a.n_tokens == a.of_tokens;
        srn_constraint_id(o->c, id);
        if (r->json)
            print_accepts_json(&a, text, *ret_accepted, next.data ? next.data : "", id);
        else
            print_accepts(&a, text, next.data ? next.data : "");
    }
    srn_matcher_free(m);
    srn_buf_done(&next);
    free(data);
    return code;
}

/* ---- --bench ---- */

typedef struct figures {
    uint64_t *mask_ns; /* [n] */
    size_t n;
    uint64_t texts, accept_ns;
    srn_matcher_stats most;
} figures;

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static uint64_t step(uint64_t *seed) {
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    return *seed >> 33;
}

/* One of the tokens of the mask, each as likely as the others; -1: there is none. */
static int32_t pick(const uint64_t *mask, size_t words, uint64_t *seed) {
    uint64_t n = 0;
    for (size_t i = 0; i < words; i++) n += (uint64_t)__builtin_popcountll(mask[i]);
    if (n == 0) return -1;
    uint64_t k = step(seed) % n;
    for (size_t i = 0; i < words; i++) {
        uint64_t here = (uint64_t)__builtin_popcountll(mask[i]), w = mask[i];
        if (k >= here) {
            k -= here;
            continue;
        }
        while (k-- > 0) w &= w - 1;
        return (int32_t)(i * 64) + __builtin_ctzll(w);
    }
    return -1;
}

static int new_text(const opened *o, srn_matcher **m, figures *f, srn_err *err) {
    srn_matcher_free(*m);
    *m = NULL;
    f->texts++;
    return srn_matcher_new(o->c, o->trie, m, err);
}

/* Masks along texts: the given tokens, over and over, or tokens drawn from the masks. */
static int walk(const request *r, const opened *o, const srn_tokens *given, figures *f, srn_err *err) {
    size_t words = ((size_t)srn_vocab_size(o->v) + 63) / 64, wanted = (size_t)r->tokens, at = 0;
    uint64_t *mask = srn_calloc(words, sizeof *mask), seed = (uint64_t)r->seed;
    srn_matcher *m = NULL;
    f->mask_ns = srn_calloc(wanted, sizeof *f->mask_ns);
    int code =
        mask && f->mask_ns ? new_text(o, &m, f, err) : srn_fail_nomem(err, wanted * sizeof *f->mask_ns);
    while (!code && f->n < wanted) {
        uint64_t start = now_ns();
        code = srn_matcher_mask(m, mask, err);
        f->mask_ns[f->n++] = now_ns() - start;
        if (code) break;
        int32_t id = given->n == 0 ? pick(mask, words, &seed) : at < given->n ? given->ids[at++] : -1;
        start = now_ns();
        if (id >= 0) code = srn_matcher_accept(m, id, err);
        f->accept_ns += now_ns() - start;
        srn_matcher_stats s = srn_matcher_get_stats(m);
        f->most.bytes = SRN_MAX(f->most.bytes, s.bytes);
        f->most.sets = SRN_MAX(f->most.sets, s.sets);
        f->most.masks = SRN_MAX(f->most.masks, s.masks);
        if (!code && (id < 0 || srn_vocab_is_eog(o->v, id))) code = new_text(o, &m, f, err), at = 0;
    }
    srn_matcher_free(m);
    free(mask);
    return code;
}

static double percentile_us(const figures *f, double share) {
    size_t i = (size_t)(share * (double)(f->n - 1) + 0.5);
    return (double)f->mask_ns[i] / 1000;
}

static int print_bench(const request *r, const opened *o, const figures *f, srn_err *err) {
    srn_constraint_stats c = srn_constraint_get_stats(o->c);
    char id[2 * SRN_SHA256_BYTES + 1];
    srn_constraint_id(o->c, id);
    double p50 = percentile_us(f, 0.5), p99 = percentile_us(f, 0.99), most = percentile_us(f, 1);
    double accept = (double)f->accept_ns / 1000 / (double)f->n;
    uint64_t trie_bytes = srn_token_trie_bytes(o->trie);
    if (!r->json) {
        printf("constraint   %s\n", id);
        printf("compile      %.3f ms: %u rules, %u operations, %u classes of bytes, %.1f KiB\n",
               (double)o->compile_us / 1000, c.rules, c.operations, c.classes, (double)c.bytes / 1024);
        printf("vocabulary   %.1f ms: %d tokens, %.1f MiB (once for a model)\n", (double)o->trie_us / 1000,
               srn_vocab_size(o->v), (double)trie_bytes / (1 << 20));
        printf("mask         p50 %.1f us, p99 %.1f us, max %.1f us over %zu tokens of %llu texts\n", p50, p99,
               most, f->n, (unsigned long long)f->texts);
        printf("accept       %.2f us a token\n", accept);
        printf("state        %llu sets, %llu masks, %.2f MiB at most\n", (unsigned long long)f->most.sets,
               (unsigned long long)f->most.masks, (double)f->most.bytes / (1 << 20));
        return SRN_OK;
    }
    json_t *j = json_pack("{s:s s:f s:i s:i s:I s:f s:i s:I s:{s:f s:f s:f s:I s:I} s:f s:I s:I s:I}",
                          "constraint_id", id, "compile_ms", (double)o->compile_us / 1000, "rules",
                          (int)c.rules, "operations", (int)c.operations, "program_bytes", (json_int_t)c.bytes,
                          "vocabulary_ms", (double)o->trie_us / 1000, "vocabulary", (int)srn_vocab_size(o->v),
                          "vocabulary_bytes", (json_int_t)trie_bytes, "mask", "p50_us", p50, "p99_us", p99,
                          "max_us", most, "tokens", (json_int_t)f->n, "texts", (json_int_t)f->texts,
                          "accept_us", accept, "sets", (json_int_t)f->most.sets, "masks",
                          (json_int_t)f->most.masks, "state_bytes", (json_int_t)f->most.bytes);
    char *s = j ? json_dumps(j, JSON_INDENT(2)) : NULL;
    json_decref(j);
    if (!s) return srn_fail_nomem(err, 1024);
    puts(s);
    free(s);
    return SRN_OK;
}

static int bench(const request *r, const opened *o, srn_err *err) {
    figures f = {0};
    srn_tokens given = {0};
    char *text = NULL;
    size_t len = 0;
    int code = SRN_OK;
    if (r->walk) {
        code = srn_read_file(r->walk, MAX_TEXT_BYTES, &text, &len, err);
        srn_span span = {{text, len}, false};
        if (code == SRN_OK) code = srn_tokenize(o->v, &span, 1, SRN_TOK_NO_BOS, &given, err);
        if (code == SRN_OK && given.n == 0)
            code = srn_fail(err, SRN_EINVAL, "'%s' is empty: there is nothing to walk", r->walk);
    }
    if (code == SRN_OK) code = walk(r, o, &given, &f, err);
    if (code && r->walk) srn_fail_prefix(err, code, "'%s' (--accepts %s tells more)", r->walk, r->walk);
    if (code == SRN_OK) {
        qsort(f.mask_ns, f.n, sizeof *f.mask_ns, by_value);
        code = print_bench(r, o, &f, err);
    }
    free(f.mask_ns);
    srn_tokens_done(&given);
    free(text);
    return code;
}

/* ---- the command ---- */

static int check_usage(const request *r, srn_err *err) {
    if (!!r->schema + !!r->regex + !!r->gbnf != 1)
        return srn_fail(err, SRN_EUSAGE, "give one of --schema FILE, --regex R and --gbnf FILE");
    if (!r->model)
        return srn_fail(
            err, SRN_EUSAGE,
            "give --model MODEL, whose vocabulary the text is made of; `serin info` lists what is here");
    if (!!r->accepts + r->bench != 1)
        return srn_fail(err, SRN_EUSAGE, "give --accepts FILE to check a text, or --bench to time masks");
    if (r->walk && !r->bench) return srn_fail(err, SRN_EUSAGE, "--walk belongs to --bench");
    return SRN_OK;
}

static int constrain(const request *r) {
    srn_err err = {0};
    opened o = {0};
    bool accepted = true;
    int code = check_usage(r, &err);
    if (code == SRN_OK) code = open_all(r, &o, &err);
    if (code == SRN_OK) code = r->bench ? bench(r, &o, &err) : accepts(r, &o, &accepted, &err);
    opened_done(&o);
    if (code) return srn_cli_error("constrain", &err);
    int flushed = srn_cli_flush("constrain");
    return flushed ? flushed : accepted ? 0 : 1;
}

int srn__cmd_constrain(int argc, char **argv) {
    request r = {.tokens = 1000, .seed = 1};
    const srn_opt opts[] = {
        {.name = "schema", .kind = SRN_OPT_STR, .dest = &r.schema, .arg = "FILE", .help = "a JSON schema"},
        {.name = "regex",
         .kind = SRN_OPT_STR,
         .dest = &r.regex,
         .arg = "R",
         .help = "a regular expression that the whole text must match"},
        {.name = "gbnf", .kind = SRN_OPT_STR, .dest = &r.gbnf, .arg = "FILE", .help = "a GBNF grammar"},
        {.name = "model",
         .letter = 'm',
         .kind = SRN_OPT_STR,
         .dest = &r.model,
         .arg = "MODEL",
         .help = "whose vocabulary; a file without tensors will do"},
        {.name = "accepts",
         .kind = SRN_OPT_STR,
         .dest = &r.accepts,
         .arg = "FILE",
         .help = "is exactly this text let through? (- reads standard input)"},
        {.name = "bench", .kind = SRN_OPT_FLAG, .dest = &r.bench, .help = "time compilation and masks"},
        {.name = "walk",
         .kind = SRN_OPT_STR,
         .dest = &r.walk,
         .arg = "FILE",
         .help = "with --bench, along this text instead of random tokens"},
        {.name = "tokens",
         .letter = 'n',
         .kind = SRN_OPT_INT,
         .dest = &r.tokens,
         .min = 1,
         .max = MAX_WALK,
         .arg = "N",
         .help = "masks to time (1000)"},
        {.name = "seed",
         .kind = SRN_OPT_INT,
         .dest = &r.seed,
         .min = 0,
         .max = 1e15,
         .arg = "N",
         .help = "of the random tokens (1)"},
        {.name = "json", .kind = SRN_OPT_FLAG, .dest = &r.json, .help = "print one JSON object"},
    };
    const srn_cli_spec spec = {
        .usage = "serin constrain (--schema FILE | --regex R | --gbnf FILE) --model MODEL\n"
                 "                       (--accepts FILE | --bench [--walk FILE]) [--json]",
        .about =
            "Says whether a constraint lets exactly this text through (exit code 0, or 1 if not, with the\n"
            "byte at which it was refused and what could have come), or what its masks cost.",
        .examples =
            "  serin constrain --schema person.json -m model.gguf --accepts answer.json\n"
            "  printf 2024-06-01 | serin constrain --regex '\\d{4}-\\d\\d-\\d\\d' -m model.gguf --accepts -\n"
            "  serin constrain --gbnf chess.gbnf -m model.gguf --bench --json\n",
        .opts = opts,
        .n_opts = SRN_LEN(opts),
    };
    int n = 0;
    int code = srn_cli_parse(&spec, argc, argv, NULL, &n);
    return code >= 0 ? code : constrain(&r);
}
