/* Fuzz target: serin.yaml (first byte even) and the key file (odd), then the checks and a match. */
#include <stdlib.h>

#include "config/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    srn_err err = {0};
    if (size < 1 || size > 1u << 16) return 0;
    srn_str text = {(const char *)data + 1, size - 1};
    if (data[0] & 1) {
        srn_keys *k;
        if (srn_keys_parse(text, "keys", &k, &err) == SRN_OK) {
            srn_keys_find(k, text);
            srn_keys_free(k);
        }
        return 0;
    }
    srn_config c;
    srn_config_init(&c);
    if (srn_config_parse(&c, text, "serin.yaml", &err) == SRN_OK) {
        srn_route_query q = {.endpoint = "/v1/completions", .alias = "a"};
        if (srn_config_check(&c, &err) == SRN_OK) srn_config_route_of(&c, &q);
    }
    srn_config_done(&c);
    return 0;
}
