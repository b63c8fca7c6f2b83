/* Packing of panels and scalar expansion, for every x86 level: the layouts of layout.h in plain C. Called
 * while a model is loaded (pack) and in products with types that have no panel layout of their own (expand).
 * Any thread; no memory of its own. It refuses nothing.
 */
#include "cpu/x86/layout.h"

#define CHUNK_GROUPS 8 /* groups decoded at a time: a multiple of every type's block */

static const srn__x86_type native_types[] = {
    [SRN_Q4_0] = SRN__LAYOUT_Q4_0, [SRN_Q4_1] = SRN__LAYOUT_Q4_1, [SRN_Q5_0] = SRN__LAYOUT_Q5_0,
    [SRN_Q5_1] = SRN__LAYOUT_Q5_1, [SRN_Q8_0] = SRN__LAYOUT_Q8_0, [SRN_Q4_K] = SRN__LAYOUT_Q4_K,
    [SRN_Q5_K] = SRN__LAYOUT_Q5_K, [SRN_Q6_K] = SRN__LAYOUT_Q6_K,
};

srn__x86_type srn__x86_type_of(srn_type type) {
    if ((size_t)type < SRN_LEN(native_types) && native_types[type].record_groups) return native_types[type];
    const srn_type_info *t = srn_type_get((uint32_t)type);
    switch (t->form) {
    case SRN_FORM_SUB_MIN:
        return (srn__x86_type){.bits = 4, .zero = 0};
    case SRN_FORM_SPLIT:
        return (srn__x86_type){.bits = 5, .zero = 16};
    case SRN_FORM_SUB:
        if (t->q_min >= -32 && t->q_max <= 31) return (srn__x86_type){.bits = 6, .zero = 32};
        break;
    default:
        break;
    }
    return (srn__x86_type){.bits = 8, .zero = 128};
}

static uint32_t float_bytes(srn_type type) {
    return type == SRN_F16 || type == SRN_BF16 ? 2 : 4;
}

size_t srn__x86_panel_bytes(srn_type type, uint32_t cols) {
    if (srn_type_get((uint32_t)type)->form == SRN_FORM_FLOAT)
        return srn_align_up((uint64_t)cols * SRN_PANEL * float_bytes(type), 64);
    srn__x86_type t = srn__x86_type_of(type);
    if (!t.record_groups) return 0;
    uint32_t groups = cols / SRN_GROUP;
    return (groups + t.record_groups - 1) / t.record_groups * srn__record_bytes(t);
}

/* ---- codes ---- */

static void put_codes(uint8_t *dst, uint32_t bits, uint32_t row, const uint8_t u[SRN_GROUP]) {
    dst += 4 * row;
    if (bits == 8) {
        for (uint32_t j = 0; j < SRN__QUADS; j++) memcpy(dst + 64 * j, u + 4 * j, 4);
        return;
    }
    for (uint32_t j = 0; j < 4; j++)
        for (uint32_t i = 0; i < 4; i++)
            dst[srn__nibbles_at(bits) + 64 * j + i] = (uint8_t)((u[4 * j + i] & 15) | u[16 + 4 * j + i] << 4);
    if (bits == 5)
        for (uint32_t i = 0; i < 4; i++) {
            uint32_t h = 0;
            for (uint32_t j = 0; j < SRN__QUADS; j++) h |= (uint32_t)(u[4 * j + i] >> 4 & 1) << j;
            dst[i] = (uint8_t)h;
        }
    if (bits == 6)
        for (uint32_t h = 0; h < 2; h++)
            for (uint32_t i = 0; i < 4; i++) {
                uint32_t v = 0;
                for (uint32_t f = 0; f < 4; f++) v |= (uint32_t)(u[16 * h + 4 * f + i] >> 4 & 3) << 2 * f;
                dst[64 * h + i] = (uint8_t)v;
            }
}

/* ---- scales: one block of a row, whose first group is g, into its record ---- */

static void put_scales(srn_type type, uint8_t *record, uint32_t g, uint32_t row, const uint8_t *block) {
    switch (type) {
    case SRN_Q4_0:
    case SRN_Q5_0:
    case SRN_Q8_0:
        memcpy(record + g % 2 * 32 + 2 * row, block, 2);
        break;
    case SRN_Q4_1:
    case SRN_Q5_1:
        memcpy(record + 2 * row, block, 2);
        memcpy(record + 32 + 2 * row, block + 2, 2);
        break;
    case SRN_Q4_K:
    case SRN_Q5_K:
        for (uint32_t v = 0; v < 3; v++) memcpy(record + 64 * v + 4 * row, block + 4 + 4 * v, 4);
        memcpy(record + 192 + 2 * row, block, 2);
        memcpy(record + 224 + 2 * row, block + 2, 2);
        break;
    case SRN_Q6_K:
        for (uint32_t s = 0; s < 16; s++) record[16 * s + row] = block[192 + s];
        memcpy(record + 256 + 2 * row, block + 208, 2);
        break;
    default:
        break;
    }
}

/* ---- panels ---- */

static void pack_codes_row(const srn_packed *w, srn__x86_type t, const uint8_t *raw, uint32_t row,
                           uint8_t *panel) {
    const srn_type_info *info = srn_type_get((uint32_t)w->type);
    uint32_t groups = w->cols / SRN_GROUP, block_groups = info->block_elems / SRN_GROUP;
    for (uint32_t g = 0; g < groups; g += CHUNK_GROUPS) {
        srn_group decoded[CHUNK_GROUPS];
        uint32_t n = SRN_MIN(groups - g, CHUNK_GROUPS);
        const uint8_t *src = raw + (size_t)(g / block_groups) * info->block_bytes;
        srn_group_decode(w->type, src, decoded, (size_t)n * SRN_GROUP);
        for (uint32_t i = 0; i < n; i++) {
            uint8_t u[SRN_GROUP];
            for (uint32_t e = 0; e < SRN_GROUP; e++) u[e] = (uint8_t)(decoded[i].q[e] + t.zero);
            put_codes(panel + srn__codes_at(t, g + i), t.bits, row, u);
        }
        for (uint32_t b = 0; b < n / block_groups; b++) {
            uint32_t first = g + b * block_groups;
            put_scales(w->type, panel + srn__record_at(t, first), first, row,
                       src + (size_t)b * info->block_bytes);
        }
    }
}

static void pack_floats_row(const srn_packed *w, const uint8_t *raw, uint32_t row, uint8_t *panel) {
    uint32_t size = float_bytes(w->type), from = srn_type_get((uint32_t)w->type)->block_bytes;
    for (uint32_t k = 0; k < w->cols; k++) {
        uint8_t *dst = panel + ((size_t)k * SRN_PANEL + row) * size;
        if (from == size) {
            memcpy(dst, raw + (size_t)k * size, size);
        } else {
            float f;
            srn_dequant(w->type, raw + (size_t)k * from, &f, 1);
            memcpy(dst, &f, size);
        }
    }
}

void srn__x86_pack(const srn_packed *w, uint32_t p0, uint32_t p1) {
    for (uint32_t p = p0; p < p1; p++) {
        uint8_t *panel = w->panels + p * w->panel_bytes;
        uint32_t rows = SRN_MIN(w->rows - p * SRN_PANEL, SRN_PANEL);
        if (rows < SRN_PANEL) memset(panel, 0, w->panel_bytes);
        for (uint32_t r = 0; r < rows; r++) {
            const uint8_t *raw = w->raw + ((size_t)p * SRN_PANEL + r) * w->row_bytes;
            if (w->form == SRN_FORM_FLOAT)
                pack_floats_row(w, raw, r, panel);
            else
                pack_codes_row(w, srn__x86_type_of(w->type), raw, r, panel);
        }
    }
}

/* ---- expansion from raw ---- */

static void expand_group(srn_form form, uint8_t zero, const srn_group *g, uint32_t row, srn__expanded *e) {
    for (uint32_t i = 0; i < SRN_GROUP; i++) e->q[i / 4][row][i % 4] = (uint8_t)(g->q[i] + zero);
    e->d[row] = form == SRN_FORM_SPLIT ? g->d2[0] : g->d;
    e->m[row] = form == SRN_FORM_SPLIT ? g->d2[1] : g->m;
    for (uint32_t h = 0; h < 2; h++) {
        e->sc[h][row] = g->sc[h];
        e->mn[h][row] = g->mn[h];
    }
}

void srn__x86_expand_raw(const srn_packed *w, uint32_t p, uint32_t g0, uint32_t n, srn__expanded *e) {
    const srn_type_info *info = srn_type_get((uint32_t)w->type);
    uint32_t block_groups = info->block_elems / SRN_GROUP, rows = SRN_MIN(w->rows - p * SRN_PANEL, SRN_PANEL);
    uint8_t zero = srn__x86_type_of(w->type).zero;
    if (rows < SRN_PANEL) memset(e, 0, n * sizeof *e);
    for (uint32_t r = 0; r < rows; r++) {
        const uint8_t *raw = w->raw + ((size_t)p * SRN_PANEL + r) * w->row_bytes;
        for (uint32_t g = 0; g < n;) {
            srn_group decoded[CHUNK_GROUPS];
            uint32_t skip = (g0 + g) % block_groups;
            uint32_t take = block_groups > 1 ? block_groups - skip : CHUNK_GROUPS;
            take = SRN_MIN(take, n - g);
            srn_group_decode(w->type, raw + (size_t)((g0 + g) / block_groups) * info->block_bytes, decoded,
                             (size_t)srn_align_up(take, block_groups) * SRN_GROUP);
            for (uint32_t i = 0; i < take; i++) expand_group(w->form, zero, &decoded[skip + i], r, &e[g + i]);
            g += take;
        }
    }
}
