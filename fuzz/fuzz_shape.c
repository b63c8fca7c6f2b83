/* Fuzz target: a shape in JSON; what is accepted must have a plan in a quantisation that the first byte
 * chooses, and the head of its file must be one that the reader takes.
 */
#include <stdlib.h>

#include "synth/synth.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static size_t count_mixes(void) {
    size_t n = 0;
    while (srn_mix_at(n)) n++;
    return n;
}

static void check(bool holds) {
    if (!holds) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    srn_err err = {0};
    srn_shape s;
    if (size < 1 || size > 1u << 14) return 0;
    const srn_mix *mix = srn_mix_at(data[0] % count_mixes());
    if (srn_shape_parse((const char *)data + 1, size - 1, "shape.json", &s, &err)) {
        check(err.text[0] != 0);
        return 0;
    }
    uint64_t params, bytes;
    check(s.name[0] && memchr(s.name, 0, sizeof s.name) && srn_shape_check(&s, &err) == SRN_OK);
    if (s.n_layer > 64 || s.n_vocab > 4096) return 0; /* slow, and nothing new */
    int code = srn_synth_measure(&s, mix, data[0] & 128, &params, &bytes, &err);
    if (code) return 0; /* more bytes than can be counted */
    srn_synth *made;
    check(srn_synth_new(&s, mix, NULL, &made, &err) == SRN_OK);
    check(params == srn_synth_params(made) && (data[0] & 128 || bytes < srn_synth_file_bytes(made)));
    srn_synth_free(made);
    return 0;
}
