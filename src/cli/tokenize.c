/* cli: `serin tokenize`: text to token ids. Main thread. The text's special tokens are parsed, for whoever
 * types the command is trusted; --no-special reads them as plain text, as a user's message would be.
 */
#include "cli/cli.h"
#include "cli/tokens.h"

#include <stdlib.h>
#include <unistd.h>

enum { MAX_INPUT_BYTES = 1 << 28 };

typedef struct request {
    bool json, no_bos, no_special;
    const char *text; /* --text, or NULL */
    const char *model, *file;
} request;

int srn__cli_open_vocab(const char *model, srn_weights **ret_w, srn_vocab **ret_v, srn_err *err) {
    char path[4096];
    int code = srn_weights_locate(model, path, sizeof path, err);
    srn_weights *w = NULL;
    if (code == SRN_OK) code = srn_weights_open(path, &(srn_open_opts){.vocab_only = true}, &w, err);
    if (code == SRN_OK) code = srn_vocab_new(w, ret_v, err);
    if (code)
        srn_weights_free(w);
    else
        *ret_w = w;
    return code;
}

static const char *kind_of(const srn_vocab *v, int32_t id) {
    if (srn_vocab_is_eog(v, id)) return "  control, ends an answer";
    switch (srn_vocab_attr(v, id)) {
    case SRN_TOKEN_CONTROL:
        return "  control";
    case SRN_TOKEN_UNKNOWN:
        return "  unknown";
    case SRN_TOKEN_USER_DEFINED:
        return "  user-defined";
    case SRN_TOKEN_UNUSED:
        return "  unused";
    case SRN_TOKEN_BYTE:
        return "  byte";
    default:
        return "";
    }
}

static void print_list(const srn_vocab *v, const srn_tokens *t) {
    srn_buf b;
    srn_buf_init(&b, 1 << 20);
    for (size_t i = 0; i < t->n; i++) {
        srn_buf_clear(&b);
        srn_token_bytes(v, t->ids[i], true, &b);
        printf("%8d  ", t->ids[i]);
        srn_cli_put_text(stdout, (srn_str){b.data ? b.data : "", b.len}, SIZE_MAX, true);
        printf("%s\n", kind_of(v, t->ids[i]));
    }
    srn_buf_done(&b);
}

static void print_json(const srn_tokens *t) {
    putchar('[');
    for (size_t i = 0; i < t->n; i++) printf("%s%d", i ? "," : "", t->ids[i]);
    puts("]");
}

static int read_text(const request *r, char **ret, size_t *ret_len, srn_err *err) {
    if (r->text) {
        *ret_len = strlen(r->text);
        *ret = srn_strndup(r->text, *ret_len);
        return *ret ? SRN_OK : srn_fail_nomem(err, *ret_len);
    }
    if (!r->file && isatty(STDIN_FILENO))
        return srn_fail(err, SRN_EUSAGE,
                        "there is no text; give --text TEXT, a file, or - for standard input");
    return srn_read_file(r->file ? r->file : "-", MAX_INPUT_BYTES, ret, ret_len, err);
}

static int tokenize(const request *r, srn_err *err) {
    srn_weights *w = NULL;
    srn_vocab *v = NULL;
    char *text = NULL;
    size_t len = 0;
    srn_tokens t = {0};
    int code = read_text(r, &text, &len, err);
    if (code == SRN_OK) code = srn__cli_open_vocab(r->model, &w, &v, err);
    if (code == SRN_OK) {
        srn_span span = {{text, len}, !r->no_special};
        code = srn_tokenize(v, &span, 1, r->no_bos ? SRN_TOK_NO_BOS : 0, &t, err);
    }
    if (code == SRN_OK) {
        if (r->json)
            print_json(&t);
        else
            print_list(v, &t);
    }
    srn_tokens_done(&t);
    srn_vocab_free(v);
    srn_weights_free(w);
    free(text);
    return code;
}

int srn__cmd_tokenize(int argc, char **argv) {
    request r = {0};
    const srn_opt opts[] = {
        {.name = "text",
         .letter = 't',
         .kind = SRN_OPT_STR,
         .dest = &r.text,
         .arg = "TEXT",
         .help = "the text itself"},
        {.name = "json", .kind = SRN_OPT_FLAG, .dest = &r.json, .help = "print one JSON array of ids"},
        {.name = "no-bos",
         .kind = SRN_OPT_FLAG,
         .dest = &r.no_bos,
         .help = "add no BOS or EOS, even where the model asks for it"},
        {.name = "no-special",
         .kind = SRN_OPT_FLAG,
         .dest = &r.no_special,
         .help = "read special tokens' text as plain text"},
    };
    const srn_cli_spec spec = {
        .usage = "serin tokenize MODEL [--text TEXT | FILE | -] [--json] [--no-bos] [--no-special]",
        .about = "Turns text into the model's token ids, one a line with its text, or as a JSON array.\n"
                 "MODEL may be a file that holds a vocabulary and no tensors.",
        .examples = "  serin tokenize model.gguf --text 'Hello there'\n"
                    "  serin tokenize model.gguf --json --no-bos README.md > ids.json\n"
                    "  echo '<|im_start|>user' | serin tokenize model.gguf --no-special -\n",
        .opts = opts,
        .n_opts = SRN_LEN(opts),
        .min_operands = 1,
        .max_operands = 2,
    };
    const char *operands[2] = {0};
    int n = 0;
    srn_err err = {0};
    int code = srn_cli_parse(&spec, argc, argv, operands, &n);
    if (code >= 0) return code;
    r.model = operands[0];
    r.file = n > 1 ? operands[1] : NULL;
    if (r.text && r.file) {
        srn_fail(&err, SRN_EUSAGE, "there are both --text and '%s'; give one of them", r.file);
        return srn_cli_error(argv[0], &err);
    }
    return tokenize(&r, &err) ? srn_cli_error(argv[0], &err) : srn_cli_flush(argv[0]);
}
