/* tokens_tool: lets Python tests ask one vocabulary many questions in one process.
 *
 *   tokens_tool MODEL.gguf    questions on standard input, one a line, one line of answer each:
 *     t FLAGS SPAN...   ids of the spans' text, parted by commas. FLAGS: SRN_TOK_* as a number. SPAN: "+" for
 *                       trusted or "-" for untrusted, then the bytes in hex
 *     s FLAGS SPAN...   the same, but the number of steps that it took
 *     d SPECIAL IDS     the bytes that the stream gives, in hex; SPECIAL 0 or 1; IDS parted by commas
 *     e ID              1 where the token ends an answer
 *
 * An error is a line "! CODE sentence". Exit code 2 for bad usage or a model that cannot be opened.
 */
#include <stdlib.h>

#include "token/token_internal.h"

enum { MAX_SPANS = 4096 };

static size_t unhex(char *s) {
    size_t n = strlen(s) / 2;
    for (size_t i = 0; i < n; i++) {
        char two[3] = {s[2 * i], s[2 * i + 1], 0};
        s[i] = (char)strtoul(two, NULL, 16);
    }
    return n;
}

static void tokenize(const srn_vocab *v, char *rest, bool steps_only) {
    static srn_span spans[MAX_SPANS];
    size_t n = 0;
    char *save = NULL;
    unsigned flags = (unsigned)strtoul(strtok_r(rest, " ", &save), NULL, 10);
    for (char *word; n < MAX_SPANS && (word = strtok_r(NULL, " ", &save)); n++)
        spans[n] = (srn_span){.trusted = word[0] == '+', .text = {word + 1, unhex(word + 1)}};
    srn_tokens t = {0};
    srn_err err = {0};
    uint64_t steps = 0;
    if (srn__tokenize_counted(v, spans, n, flags, &t, &steps, &err))
        printf("! %s %s", srn_err_name(err.code), err.text);
    else if (steps_only)
        printf("%llu", (unsigned long long)steps);
    else
        for (size_t i = 0; i < t.n; i++) printf("%s%d", i ? "," : "", t.ids[i]);
    putchar('\n');
    srn_tokens_done(&t);
}

static void detokenize(const srn_vocab *v, char *rest) {
    srn_detok d;
    srn_buf b;
    srn_buf_init(&b, SIZE_MAX / 2);
    srn_detok_init(&d, v, rest[0] == '1');
    char *save = NULL;
    strtok_r(rest, " ", &save);
    for (char *word; (word = strtok_r(NULL, ",", &save));)
        srn_detok_add(&d, (int32_t)strtol(word, NULL, 10), &b);
    srn_detok_end(&d, &b);
    for (size_t i = 0; i < b.len; i++) printf("%02x", (unsigned)(uint8_t)b.data[i]);
    putchar('\n');
    srn_buf_done(&b);
}

static void answer(const srn_vocab *v, char *line) {
    switch (line[0]) {
    case 't':
    case 's':
        tokenize(v, line + 2, line[0] == 's');
        break;
    case 'd':
        detokenize(v, line + 2);
        break;
    case 'e':
        printf("%d\n", srn_vocab_is_eog(v, (int32_t)strtol(line + 2, NULL, 10)));
        break;
    default:
        puts("! EUSAGE there is no such question");
    }
}

int main(int argc, char **argv) {
    srn_weights *w = NULL;
    srn_vocab *v = NULL;
    srn_err err = {0};
    if (argc != 2) return fprintf(stderr, "usage: tokens_tool MODEL.gguf\n"), 2;
    if (srn_weights_open(argv[1], &(srn_open_opts){.vocab_only = true}, &w, &err) ||
        srn_vocab_new(w, &v, &err)) {
        fprintf(stderr, "%s\n", err.text);
        srn_weights_free(w);
        return 2;
    }
    char *line = NULL;
    size_t cap = 0;
    for (ssize_t n; (n = getline(&line, &cap, stdin)) > 2;) {
        line[n - 1] = 0;
        answer(v, line);
    }
    free(line);
    srn_vocab_free(v);
    srn_weights_free(w);
    return 0;
}
