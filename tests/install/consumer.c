/* A program of somebody else's: built only with what pkg-config says about the installed library. Completes a
 * text with a model: consumer MODEL TEXT. Without arguments it only says what it is linked with. */
#include <serin/serin.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct answer {
    int32_t tokens[16];
    uint32_t n;
} answer;

static srn_go keep(void *ctx, int32_t token) {
    answer *a = ctx;
    a->tokens[a->n++] = token;
    return a->n < 16 ? SRN_GO_ON : SRN_GO_STOP;
}

static int complete(srn_engine *e, const char *text, srn_err *err) {
    srn_session *s = NULL;
    int32_t *prompt = NULL;
    uint32_t n;
    char *out = NULL;
    answer a = {{0}, 0};
    srn_generation g;
    srn_generate_opts o = {
        .sampling = srn_sampling_default(), .max_tokens = 8, .on_token = keep, .on_token_ctx = &a};
    o.sampling.temperature = 0;
    int code = srn_session_new(e, &s, err);
    if (!code) code = srn_engine_tokenize(e, text, strlen(text), 0, &prompt, &n, err);
    if (!code) code = srn_generate(s, prompt, n, &o, &g, err);
    if (!code) code = srn_engine_detokenize(e, a.tokens, a.n, 0, &out, err);
    if (!code) printf("%s|%s (%s)\n", text, out, srn_finish_name(g.finish));
    free(out);
    free(prompt);
    srn_session_free(s);
    return code;
}

int main(int argc, char **argv) {
    srn_err err = {0};
    srn_engine *e = NULL;
    if (strcmp(srn_err_name(SRN_EFORMAT), "EFORMAT") != 0) return 1;
    if (argc != 3) return printf("linked with serin %s\n", srn_version()), 0;
    int code = srn_engine_open(argv[1], NULL, &e, &err);
    if (!code) code = complete(e, argv[2], &err);
    if (code) fprintf(stderr, "%s: %s\n", srn_err_name(code), err.text);
    srn_engine_close(e);
    return code ? 1 : 0;
}
