/* Fuzz target: lines of requests. What is accepted must become a body that is streamed, has one of messages
 * and prompt, and a prefix changes a text that the plain body has. */
#include <stdlib.h>

#include "serve/load.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool holds) {
    if (!holds) abort();
}

static void check_ask(const srn_load_ask *a) {
    json_t *plain = srn_load_body(a, "m", 16, NULL), *with = srn_load_body(a, "m", 16, "0123456789abcdef");
    check(plain && with && a->id);
    check(!json_object_get(plain, "messages") == a->completion);
    check(!json_object_get(plain, "prompt") == !a->completion);
    check(json_is_true(json_object_get(plain, "stream")) && json_object_get(plain, "temperature"));
    check(!a->completion || !json_equal(plain, with));
    char *text = json_dumps(with, JSON_COMPACT);
    check(text != NULL);
    free(text);
    json_decref(plain);
    json_decref(with);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    srn_load_asks a = {.raw = size % 2, .limit = size % 3 ? 0 : 2};
    srn_err err = {0};
    if (size > 1u << 16) return 0;
    int code = srn_load_asks_lines(&a, (srn_str){(const char *)data, size}, "lines", &err);
    check(!code == !err.text[0] && (code || a.n > 0));
    for (size_t i = 0; !code && i < a.n; i++) check_ask(&a.items[i]);
    srn_load_asks_done(&a);
    return 0;
}
