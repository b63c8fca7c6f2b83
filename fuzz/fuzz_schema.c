/* Fuzzes JSON schemas: the input is a schema. One that is let in gives a grammar that compiles, or that
 * nothing satisfies; then a text drawn from its own masks is walked. One that is refused says why.
 */
#include <jansson.h>

#include "constrain_walk.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    json_t *schema = json_loadb((const char *)data, size, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
    srn_grammar *g = NULL;
    srn_err err = {0};
    if (!schema) return 0;
    if (srn_grammar_new(SRN__MAX_NODES, &g, &err) == 0) {
        srn__program p = {0};
        srn_node root = srn_g_schema(g, schema, &err);
        int rc = root == SRN_NODE_NONE ? err.code : srn__compile(g, root, &p, &err);
        if (root == SRN_NODE_NONE && rc == 0) abort();
        if (rc && (rc != err.code || err.text[0] == 0)) abort();
        if (rc == 0) walk_program(&p, data, size, 200);
        srn__program_done(&p);
    }
    srn_grammar_free(g);
    json_decref(schema);
    return 0;
}
