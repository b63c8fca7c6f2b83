/* A recorded embeddings call run again: its texts are tokenized again to compare them, the recorded tokens
 * are run, and the digests of the vectors that come are held against those that were recorded. Called by
 * replays, each on its own thread.
 */
#include <stdlib.h>

#include "serve/replay_internal.h"

/* The vector of these tokens, as the digest of its bytes. */
static int digest_of(srn_replayer *r, const srn_tokens *t, char ret[65], srn_err *err) {
    srn__replay_run x;
    const srn_request_opts o = {.kind = SRN_REQUEST_EMBED,
                                .prompt = t->ids,
                                .n_prompt = (uint32_t)t->n,
                                .sampling = srn_sampling_default(),
                                .pooling = r->served->pooling};
    const uint32_t n = srn_engine_get_info(r->served->engine).n_embd;
    float *v = srn_calloc(n, sizeof *v);
    if (!v) return srn_fail_nomem(err, n * sizeof *v);
    int code = srn__replay_run_request(&x, r, &o, err);
    if (!code) code = srn__embedding_of(srn_request_embedding(x.request), n, v, ret, err);
    srn__replay_run_done(&x);
    free(v);
    return code;
}

static bool same_ids(const srn_tokens *a, const srn_tokens *b) {
    return a->n == b->n && memcmp(a->ids, b->ids, a->n * sizeof *a->ids) == 0;
}

int srn__replay_embeddings(srn_replayer *r, const json_t *body, const json_t *content, json_t *choices,
                           bool *ret_same, bool *ret_prompt_same, uint32_t *ret_n, srn_err *err) {
    srn_tokens *inputs = NULL;
    uint32_t n = 0;
    size_t i;
    const json_t *choice;
    const char *param = NULL;
    int code = srn__embedding_inputs(body, r->served->vocab, &inputs, &n, &param, err);
    json_array_foreach(json_object_get(content, "choices"), i, choice) {
        const json_t *was = json_object_get(choice, "vector");
        size_t part = (size_t)json_integer_value(json_object_get(choice, "part"));
        srn_tokens ids = {0};
        char now[65];
        if (!code && !json_is_string(was))
            code = srn_fail(err, SRN_EFORMAT, "the content of the call: a vector has no digest");
        if (!code) code = srn__replay_prompt(content, part, &ids, err);
        if (!code) code = digest_of(r, &ids, now, err);
        if (!code) {
            bool same = strcmp(now, json_string_value(was)) == 0;
            json_t *d = same ? json_null()
                             : json_pack("{s:i, s:s, s:O, s:s}", "at", 0, "kind", "vector", "recorded", was,
                                         "replayed", now);
            json_array_append_new(choices, json_pack("{s:i, s:i, s:i, s:i, s:b, s:o}", "part", (int)part,
                                                     "index", 0, "recorded", 1, "replayed", 1, "same", same,
                                                     "first_difference", d));
            if (!same) *ret_same = false;
            if (part >= n || !same_ids(&ids, &inputs[part])) *ret_prompt_same = false;
            ++*ret_n;
        }
        srn_tokens_done(&ids);
        if (code) break;
    }
    srn__embedding_inputs_done(inputs, n);
    return code;
}
