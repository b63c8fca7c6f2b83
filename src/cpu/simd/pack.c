/* Packing of panels for every SIMD level: the layouts of layout.h in plain C. Called while a model is loaded,
 * on any thread; no memory of its own. It refuses nothing. What x86/repack_avx2.c has is done there, quicker
 * and to the same bytes.
 */
#include "cpu/simd/layout.h"

#define CHUNK_GROUPS 8 /* groups decoded at a time: a multiple of every type's block */

static uint32_t float_bytes(srn_type type) {
    return type == SRN_F16 || type == SRN_BF16 ? 2 : 4;
}

size_t srn__simd_panel_bytes(srn_type type, uint32_t cols) {
    if (srn_type_get((uint32_t)type)->form == SRN_FORM_FLOAT)
        return srn_align_up((uint64_t)cols * SRN_PANEL * float_bytes(type), 64);
    srn__simd_type t = srn__simd_type_of(type);
    uint32_t groups = cols / SRN_GROUP, rest = groups % t.record_groups;
    size_t last = rest ? t.scale_bytes + rest * srn__code_bytes(t.bits) : 0;
    return groups / t.record_groups * srn__record_bytes(t) + last;
}

/* ---- codes ---- */

#define EACH(byte) (0x01010101u * (byte))

/* A quad, the codes of 4 elements, is a dword with an element a byte. */
static void put_quad(uint8_t *vector, uint32_t row, uint32_t quad) {
    memcpy(vector + 4 * row, &quad, 4);
}

static void put_nibbles(uint8_t *dst, uint32_t bits, uint32_t row, const uint32_t u[SRN__QUADS]) {
    uint32_t high[2] = {0, 0};
    for (uint32_t j = 0; j < SRN__QUADS; j++) {
        if (bits == 5) high[0] |= (u[j] >> 4 & EACH(1)) << j;
        if (bits == 6) high[j / 4] |= (u[j] >> 4 & EACH(3)) << 2 * (j % 4);
    }
    for (uint32_t i = 0; i < bits - 4; i++) put_quad(dst + 64 * i, row, high[i]);
    dst += srn__nibbles_at(bits);
    for (uint32_t j = 0; j < 4; j++)
        put_quad(dst + 64 * j, row, (u[j] & EACH(15)) | (u[j + 4] & EACH(15)) << 4);
}

static void put_3_bits(uint8_t *dst, uint32_t row, const uint32_t u[SRN__QUADS]) {
    uint32_t v[3];
    for (uint32_t i = 0; i < 3; i++) v[i] = u[2 * i] | u[2 * i + 1] << 3;
    v[0] |= (u[6] & EACH(3)) << 6;
    v[1] |= (u[7] & EACH(3)) << 6;
    v[2] |= (u[6] & EACH(4)) << 4 | (u[7] & EACH(4)) << 5;
    for (uint32_t i = 0; i < 3; i++) put_quad(dst + 64 * i, row, v[i]);
}

/* Stored codes u of one group of a row. */
static void put_codes(uint8_t *dst, uint32_t bits, uint32_t row, const uint32_t u[SRN__QUADS]) {
    uint32_t v[2] = {0, 0};
    switch (bits) {
    case 1:
        for (uint32_t j = 0; j < SRN__QUADS; j++) v[0] |= u[j] << j;
        put_quad(dst, row, v[0]);
        break;
    case 2:
        for (uint32_t j = 0; j < SRN__QUADS; j++) v[j / 4] |= (u[j] & EACH(3)) << 2 * (j % 4);
        for (uint32_t h = 0; h < 2; h++) put_quad(dst + 64 * h, row, v[h]);
        break;
    case 3:
        put_3_bits(dst, row, u);
        break;
    case 8:
        for (uint32_t j = 0; j < SRN__QUADS; j++) put_quad(dst + 64 * j, row, u[j]);
        break;
    default:
        put_nibbles(dst, bits, row, u);
        break;
    }
}

/* How a type stores its codes: store[q + 128]. */
typedef struct stored {
    uint8_t of[256];
} stored;

static void stored_of(srn_type type, stored *s) {
    const srn__simd_type t = srn__simd_type_of(type);
    const int8_t *table = srn__code_table(type);
    memset(s, 0, sizeof *s);
    for (int q = -128; q < 128; q++) s->of[q + 128] = (uint8_t)(t.bits == 1 ? (q + 1) / 2 : q + t.zero);
    for (int i = 15; table && i >= 0; i--) s->of[table[i] + 128] = (uint8_t)i; /* the first place counts */
}

/* ---- scales of one block of a row, whose first group is i in its record ---- */

static void put_half(uint8_t *dst, uint32_t row, const uint8_t *half) {
    memcpy(dst + 2 * row, half, 2);
}

static uint32_t load_word(const uint8_t *p) {
    return (uint32_t)p[0] | (uint32_t)p[1] << 8;
}

/* Scale j of Q3_K: its low 4 bits are a nibble of byte j%8, the others bits 2(j/4) and up of byte 8 + j%4. */
static int scale_q3_k(const uint8_t *p, uint32_t j) {
    return ((p[j % 8] >> 4 * (j / 8) & 15) | (p[8 + j % 4] >> 2 * (j / 4) & 3) << 4) - 32;
}

static void put_scales_iq4_xs(uint8_t *record, uint32_t row, const uint8_t *block) {
    uint32_t high = load_word(block + 2);
    for (uint32_t g = 0; g < 8; g++) {
        int sc = (block[4 + g / 2] >> 4 * (g % 2) & 15) | (int)(high >> 2 * g & 3) << 4;
        record[16 * g + row] = (uint8_t)(sc - 32);
    }
    put_half(record + 128, row, block);
}

/* A byte a group: a nibble of each half's scale, and of IQ1_M the deltas' signs. */
static void put_scales_iq1_m(uint8_t *record, uint32_t row, const uint8_t *block) {
    uint32_t half = 0, second = 0;
    for (uint32_t g = 0; g < 8; g++) {
        uint32_t scales = load_word(block + 48 + 2 * (g / 2)) >> 6 * (g % 2), v = 0;
        for (uint32_t h = 0; h < 2; h++) {
            uint32_t deltas = block[32 + 2 * g + h];
            v |= ((scales >> 3 * h & 7) | (deltas & 8)) << 4 * h;
            second |= (deltas >> 7) << (2 * g + h);
        }
        record[g / 4 * 64 + 4 * row + g % 4] = (uint8_t)v;
    }
    for (uint32_t i = 0; i < 4; i++) half |= (load_word(block + 48 + 2 * i) >> 12) << 4 * i;
    record[128 + 2 * row] = (uint8_t)half, record[129 + 2 * row] = (uint8_t)(half >> 8);
    record[160 + 2 * row] = (uint8_t)second, record[161 + 2 * row] = (uint8_t)(second >> 8);
}

/* Nibbles of 8 groups, and d. */
static void put_scales_nibble(srn_type type, uint8_t *record, uint32_t row, const uint8_t *block) {
    uint32_t v = 0;
    for (uint32_t g = 0; g < 8; g++) {
        uint32_t nibble = type == SRN_IQ1_S     ? block[35 + 2 * g] >> 4
                          : type == SRN_IQ2_XXS ? block[9 + 8 * g] >> 4
                          : type == SRN_IQ3_XXS ? block[69 + 4 * g] >> 4
                                                : block[106 + g / 2] >> 4 * (g % 2) & 15;
        v |= nibble << 4 * g;
    }
    put_quad(record, row, v);
    put_half(record + 64, row, block);
}

/* Bytes of two nibbles, one a group, from `at`; and d. */
static void put_scales_iq2(uint8_t *record, uint32_t row, const uint8_t *block, uint32_t at) {
    for (uint32_t g = 0; g < 8; g++) record[g / 4 * 64 + 4 * row + g % 4] = block[at + g];
    put_half(record + 128, row, block);
}

/* One d for half the record, at the block's beginning or of TQ at its end. */
static void put_shared_d(srn_type type, uint8_t *record, uint32_t i, uint32_t row, const uint8_t *block) {
    uint32_t at = type == SRN_TQ1_0 ? 52 : type == SRN_TQ2_0 ? 64 : 0;
    put_half(record + i / (srn__simd_type_of(type).record_groups / 2u) * 32, row, block + at);
}

void srn__simd_put_scales(srn_type type, uint8_t *record, uint32_t i, uint32_t row, const uint8_t *block) {
    switch (type) {
    case SRN_Q4_1:
    case SRN_Q5_1:
        put_half(record, row, block);
        put_half(record + 32, row, block + 2);
        break;
    case SRN_Q4_K:
    case SRN_Q5_K:
        for (uint32_t v = 0; v < 3; v++) memcpy(record + 64 * v + 4 * row, block + 4 + 4 * v, 4);
        put_half(record + 192, row, block);
        put_half(record + 224, row, block + 2);
        break;
    case SRN_Q2_K:
        for (uint32_t s = 0; s < 16; s++) record[16 * s + row] = block[s];
        put_half(record + 256, row, block + 80);
        put_half(record + 288, row, block + 82);
        break;
    case SRN_Q3_K:
        for (uint32_t s = 0; s < 16; s++) record[16 * s + row] = (uint8_t)scale_q3_k(block + 96, s);
        put_half(record + 256, row, block + 108);
        break;
    case SRN_Q6_K:
        for (uint32_t s = 0; s < 16; s++) record[16 * s + row] = block[192 + s];
        put_half(record + 256, row, block + 208);
        break;
    case SRN_IQ4_XS:
        put_scales_iq4_xs(record, row, block);
        break;
    case SRN_IQ1_M:
        put_scales_iq1_m(record, row, block);
        break;
    case SRN_IQ2_XS:
    case SRN_IQ2_S:
        put_scales_iq2(record, row, block, type == SRN_IQ2_XS ? 66 : 74);
        break;
    case SRN_IQ1_S:
    case SRN_IQ2_XXS:
    case SRN_IQ3_XXS:
    case SRN_IQ3_S:
        put_scales_nibble(type, record, row, block);
        break;
    case SRN_MXFP4:
        record[16 * i + row] = block[0];
        break;
    case SRN_NVFP4:
        for (uint32_t h = 0; h < 4; h++)
            record[16 * h + row] = (uint8_t)(block[h] == 0x7f ? 0 : block[h] & 0x7f);
        break;
    default:
        put_shared_d(type, record, i, row, block);
        break;
    }
}

/* ---- panels ---- */

static void pack_codes_row(const srn_packed *w, const stored *store, const uint8_t *raw, uint32_t row,
                           uint8_t *panel) {
    const srn_type_info *info = srn_type_get((uint32_t)w->type);
    const srn__simd_type t = srn__simd_type_of(w->type);
    uint32_t groups = w->cols / SRN_GROUP, block_groups = info->block_elems / SRN_GROUP;
    for (uint32_t g = 0; g < groups; g += CHUNK_GROUPS) {
        srn_group decoded[CHUNK_GROUPS];
        uint32_t n = SRN_MIN(groups - g, CHUNK_GROUPS);
        const uint8_t *src = raw + (size_t)(g / block_groups) * info->block_bytes;
        srn_group_decode(w->type, src, decoded, (size_t)n * SRN_GROUP);
        for (uint32_t i = 0; i < n; i++) {
            uint8_t u[SRN_GROUP];
            uint32_t quads[SRN__QUADS];
            for (uint32_t e = 0; e < SRN_GROUP; e++) u[e] = store->of[decoded[i].q[e] + 128];
            memcpy(quads, u, sizeof quads);
            put_codes(panel + srn__codes_at(t, g + i), t.bits, row, quads);
        }
        for (uint32_t b = 0; b < n / block_groups; b++) {
            uint32_t first = g + b * block_groups;
            srn__simd_put_scales(w->type, panel + srn__record_at(t, first), first % t.record_groups, row,
                                 src + (size_t)b * info->block_bytes);
        }
    }
}

static void pack_floats_row(const srn_packed *w, const uint8_t *raw, uint32_t row, uint8_t *panel) {
    const srn__float_panel f = srn__float_panel_of(w->type, w->cols);
    uint32_t size = float_bytes(w->type), from = srn_type_get((uint32_t)w->type)->block_bytes;
    for (uint32_t r = 0; r < f.runs; r++)
        for (uint32_t k = f.start[r]; k < f.start[r + 1]; k++) {
            uint8_t *dst = panel + (srn__float_at(&f, r, k) * SRN_PANEL + row) * size;
            if (from == size) {
                memcpy(dst, raw + (size_t)k * size, size);
            } else {
                float v;
                srn_dequant(w->type, raw + (size_t)k * from, &v, 1);
                memcpy(dst, &v, size);
            }
        }
}

void srn__simd_pack(const srn_packed *w, uint32_t p0, uint32_t p1) {
    stored store;
    if (w->form != SRN_FORM_FLOAT) stored_of(w->type, &store);
    for (uint32_t p = p0; p < p1; p++) {
        uint8_t *panel = w->panels + p * w->panel_bytes;
        uint32_t rows = SRN_MIN(w->rows - p * SRN_PANEL, SRN_PANEL);
        if (rows < SRN_PANEL) memset(panel, 0, w->panel_bytes);
        for (uint32_t r = 0; r < rows; r++) {
            const uint8_t *raw = w->raw + ((size_t)p * SRN_PANEL + r) * w->row_bytes;
            if (w->form == SRN_FORM_FLOAT)
                pack_floats_row(w, raw, r, panel);
            else
                pack_codes_row(w, &store, raw, r, panel);
        }
    }
}
