/* Fuzzes GBNF: the grammar is compiled, then a text drawn from its own masks is walked, byte
 * by byte: whatever is let in must be possible to go on with or to end.
 */
#include "constrain_walk.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    srn_grammar *g = NULL;
    srn__program p;
    srn_err err = {0};
    if (size == 0 || size > 4096 || srn_grammar_new(1 << 14, &g, &err)) return 0;
    srn_node root = srn_g_gbnf(g, (srn_str){(const char *)data, size}, &err);
    if (root != SRN_NODE_NONE && srn__compile(g, root, &p, &err) == SRN_OK) {
        walk_program(&p, data, size, 200);
        srn__program_done(&p);
    }
    srn_grammar_free(g);
    return 0;
}
