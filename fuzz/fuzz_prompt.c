/* Fuzz target: prompt files, and values for their variables (behind the first zero byte). What was read is
 * written again, as JSON and as YAML, and must be the same version. */
#include <stdlib.h>
#include <unistd.h>

#include "prompts/prompts.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool ok) {
    if (!ok) abort();
}

static void again(const srn_prompt *p, int (*write)(const srn_prompt *, srn_buf *, srn_err *)) {
    srn_buf b;
    srn_err err = {0};
    srn_prompt *q = NULL;
    srn_buf_init(&b, 64u << 20);
    check(write(p, &b, &err) == SRN_OK);
    if (b.len <= SRN_PROMPT_FILE_MAX) {
        check(srn_prompt_parse((srn_str){b.data, b.len}, "again", &q, &err) == SRN_OK);
        check(strcmp(p->hash, q->hash) == 0);
    }
    srn_prompt_free(q);
    srn_buf_done(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    srn_err err = {0};
    srn_prompt *p = NULL;
    srn_prompt_ref ref;
    char param[96];
    if (size > 1u << 15) return 0;
    const uint8_t *zero = size ? memchr(data, 0, size) : NULL;
    size_t n = zero ? (size_t)(zero - data) : size;
    srn_prompt_ref_parse((srn_str){(const char *)data, n}, &ref, &err);
    if (srn_prompt_parse((srn_str){(const char *)data, n}, "prompt", &p, &err)) return 0;
    again(p, srn_prompt_document);
    again(p, srn_prompt_yaml);
    json_t *values = zero ? json_loadb((const char *)zero + 1, size - n - 1, 0, NULL) : NULL,
           *messages = NULL;
    int code = srn_prompt_fill(p, values, &messages, param, &err);
    check(code ? param[0] && err.text[0] : json_array_size(messages) == json_array_size(p->messages));
    json_decref(messages);
    json_decref(values);
    srn_prompt_free(p);
    return 0;
}
