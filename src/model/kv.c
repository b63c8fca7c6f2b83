/* The groups of layers whose KV caches live and die together, and what their blocks take. Pure; any thread.
 */
#include "model/device.h"

static const char *const type_names[] = {[SRN_KV_F16] = "f16", [SRN_KV_F32] = "f32", [SRN_KV_Q8_0] = "q8_0"};

bool srn_kv_type_by_name(const char *name, srn_kv_type *ret) {
    for (size_t i = 0; i < SRN_LEN(type_names); i++)
        if (strcmp(name, type_names[i]) == 0) return *ret = (srn_kv_type)i, true;
    return false;
}

const char *srn_kv_type_name(srn_kv_type type) {
    return (size_t)type < SRN_LEN(type_names) ? type_names[type] : "?";
}

uint32_t srn_kv_groups(const srn_model *m, srn_kv_group ret[SRN_KV_MAX_GROUPS]) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < m->hp.n_layer; i++) {
        const srn_layer *l = &m->layers[i];
        n = SRN_MAX(n, l->kv_group + 1);
        ret[l->kv_group].window = l->window;
        ret[l->kv_group].n_layers = l->kv_index + 1;
    }
    return n;
}

uint64_t srn_kv_tile_bytes(srn_kv_type type, uint32_t d) {
    uint64_t values = (uint64_t)SRN_KV_BLOCK * d, scales = (uint64_t)SRN_KV_BLOCK * (((uint64_t)d + 31) / 32);
    return type == SRN_KV_Q8_0 ? values + 2 * scales : values * (type == SRN_KV_F32 ? 4 : 2);
}

uint64_t srn_kv_bytes(const srn_model *m, srn_kv_type type, uint32_t group, uint64_t n_blocks) {
    const srn_hparams *hp = &m->hp;
    srn_kv_group groups[SRN_KV_MAX_GROUPS];
    if (group >= srn_kv_groups(m, groups)) return 0;
    uint64_t tiles =
        (uint64_t)groups[group].n_layers * hp->n_head_kv; /* at most 2^28, of at most 2^23 bytes */
    uint64_t bytes;
    return srn_mul_u64(tiles * (srn_kv_tile_bytes(type, hp->d_k) + srn_kv_tile_bytes(type, hp->d_v)),
                       n_blocks, &bytes)
               ? bytes
               : UINT64_MAX;
}
