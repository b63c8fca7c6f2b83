/* Fuzz target: a request's body. The first byte chooses the depth; what the checks pass must parse without
 * deep recursion, and what is parsed must have passed the checks.
 */
#include <stdlib.h>

#include "serve/http_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Containers inside each other. */
static uint32_t depth_of(const json_t *v) {
    uint32_t most = 0;
    size_t i;
    const char *name;
    json_t *item;
    if (json_is_array(v)) json_array_foreach(v, i, item) most = SRN_MAX(most, depth_of(item));
    if (json_is_object(v))
        json_object_foreach((json_t *)(uintptr_t)v, name, item) most = SRN_MAX(most, depth_of(item));
    return most + (json_is_array(v) || json_is_object(v));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 1 || size > 1u << 16) return 0;
    srn_err err = {0};
    srn_str body = {(const char *)data + 1, size - 1};
    uint32_t depth = 1 + data[0] % 64;
    json_t *v = NULL;
    int checked = srn__json_check(body, depth, &err);
    int code = srn__json_parse(body, depth, &v, &err);
    if (!code && (checked || depth_of(v) > depth)) abort();
    if (code && !err.text[0]) abort();
    if (!code) {
        char *text = json_dumps(v, JSON_COMPACT | JSON_ENCODE_ANY); /* what came in can go out */
        if (!text) abort();
        free(text);
    }
    json_decref(v);
    return 0;
}
