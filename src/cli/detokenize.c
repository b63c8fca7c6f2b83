/* cli: `serin detokenize`: token ids to text. Main thread. Reads ids from its arguments, a file or standard
 * input, as a JSON array or parted by white space and commas; refuses ids that the vocabulary does not have.
 */
#include "cli/cli.h"
#include "cli/tokens.h"

#include <errno.h>
#include <jansson.h>
#include <limits.h>
#include <stdlib.h>

enum { MAX_INPUT_BYTES = 1 << 28 };

typedef struct request {
    bool special, json;
    const char *model;
    const char **words; /* after MODEL */
    int n_words;
} request;

static bool is_gap(char c) {
    return c == ' ' || c == ',' || c == '[' || c == ']' || (c >= '\t' && c <= '\r');
}

/* Adds the ids of text; where names the source in messages. */
static int parse_ids(const char *where, const char *text, size_t len, const srn_vocab *v, srn_tokens *ids,
                     srn_err *err) {
    for (size_t i = 0; i < len;) {
        if (is_gap(text[i])) {
            i++;
            continue;
        }
        char word[32] = {0}, *end = word;
        size_t n = 0;
        while (i + n < len && !is_gap(text[i + n])) n++;
        if (n < sizeof word) memcpy(word, text + i, n);
        errno = 0;
        long long id = strtoll(word, &end, 10);
        if (n >= sizeof word || end == word || *end)
            return srn_fail(err, SRN_EINVAL, "%s: '%.*s' at byte %zu is not a token id", where,
                            (int)SRN_MIN(n, (size_t)40), text + i, i);
        if (errno || id < 0 || id >= srn_vocab_size(v))
            return srn_fail(err, SRN_EINVAL, "%s: there is no token %s; the vocabulary has %d, from 0 to %d",
                            where, word, srn_vocab_size(v), srn_vocab_size(v) - 1);
        if (!srn_tokens_push(ids, (int32_t)id)) return srn_fail_nomem(err, ids->n * 8);
        i += n;
    }
    return SRN_OK;
}

/* Whether a single argument is ids and not a file's name. */
static bool is_ids(const char *word) {
    return word[0] == '[' ||
           (word[0] && word[strspn(word, "0123456789,+- \t\n")] == 0 && strcmp(word, "-") != 0);
}

static int read_ids(const request *r, const srn_vocab *v, srn_tokens *ids, srn_err *err) {
    if (r->n_words == 0 || (r->n_words == 1 && !is_ids(r->words[0]))) {
        const char *path = r->n_words ? r->words[0] : "-";
        char *text = NULL;
        size_t len = 0;
        int code = srn_read_file(path, MAX_INPUT_BYTES, &text, &len, err);
        if (code == SRN_OK)
            code = parse_ids(strcmp(path, "-") == 0 ? "standard input" : path, text, len, v, ids, err);
        free(text);
        return code;
    }
    int code = SRN_OK;
    for (int i = 0; i < r->n_words && code == SRN_OK; i++)
        code = parse_ids("the arguments", r->words[i], strlen(r->words[i]), v, ids, err);
    return code;
}

/* One JSON string. */
static int print_json(srn_str text, srn_err *err) {
    json_t *j = json_stringn(text.ptr, text.len);
    if (!j) return srn_fail_nomem(err, text.len);
    int failed = json_dumpf(j, stdout, JSON_ENCODE_ANY);
    json_decref(j);
    putchar('\n');
    return failed ? srn_fail(err, SRN_EIO, "standard output could not be written") : SRN_OK;
}

static int print_text(const request *r, const srn_vocab *v, const srn_tokens *ids, srn_err *err) {
    srn_detok d;
    srn_buf b;
    srn_buf_init(&b, SIZE_MAX / 2);
    srn_detok_init(&d, v, r->special);
    for (size_t i = 0; i < ids->n; i++) {
        srn_detok_add(&d, ids->ids[i], &b);
        if (r->json || b.len < 1 << 16) continue;
        srn_cli_put_result((srn_str){b.data, b.len});
        srn_buf_clear(&b);
    }
    srn_detok_end(&d, &b);
    srn_str rest = {b.data ? b.data : "", b.len};
    int code = b.failed ? srn_fail_nomem(err, b.len) : SRN_OK;
    if (!code && r->json)
        code = print_json(rest, err);
    else if (!code)
        srn_cli_put_result(rest);
    srn_buf_done(&b);
    return code;
}

static int detokenize(const request *r, srn_err *err) {
    srn_weights *w = NULL;
    srn_vocab *v = NULL;
    srn_tokens ids = {0};
    int code = srn__cli_open_vocab(r->model, &w, &v, err);
    if (code == SRN_OK) code = read_ids(r, v, &ids, err);
    if (code == SRN_OK) code = print_text(r, v, &ids, err);
    srn_tokens_done(&ids);
    srn_vocab_free(v);
    srn_weights_free(w);
    return code;
}

int srn__cmd_detokenize(int argc, char **argv) {
    request r = {0};
    const srn_opt opts[] = {
        {.name = "special",
         .kind = SRN_OPT_FLAG,
         .dest = &r.special,
         .help = "show control tokens as their text"},
        {.name = "json", .kind = SRN_OPT_FLAG, .dest = &r.json, .help = "print one JSON string"},
    };
    const srn_cli_spec spec = {
        .usage = "serin detokenize MODEL [IDS... | FILE | -] [--special] [--json]",
        .about = "Turns token ids into text. Ids are a JSON array, or parted by white space or commas.\n"
                 "MODEL may be a file that holds a vocabulary and no tensors.",
        .examples = "  serin detokenize model.gguf 19556 665\n"
                    "  serin detokenize model.gguf --special '[1,4093,198,2]'\n"
                    "  serin tokenize model.gguf --json notes.txt | serin detokenize model.gguf -\n",
        .opts = opts,
        .n_opts = SRN_LEN(opts),
        .min_operands = 1,
        .max_operands = INT_MAX,
    };
    srn_err err = {0};
    const char **operands = srn_calloc((size_t)argc, sizeof *operands);
    if (!operands) return fprintf(stderr, "serin detokenize: out of memory\n"), 1;
    int n = 0, code = srn_cli_parse(&spec, argc, argv, operands, &n);
    if (code < 0) {
        r.model = operands[0];
        r.words = operands + 1;
        r.n_words = n - 1;
        code = detokenize(&r, &err) ? srn_cli_error(argv[0], &err) : srn_cli_flush(argv[0]);
    }
    free(operands);
    return code;
}
