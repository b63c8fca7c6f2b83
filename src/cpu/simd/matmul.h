/* The product of a range of panels, for every level: columns go in blocks, panels inside them, runs inside
 * those; a block's running sums wait in scratch for their tree. Included once by each level's
 * translation unit, after the kernels of that level:
 *   act_bytes, quantize, must_gather, list_bytes, LIST_BLOCK, act_block, open_block, tile_source   of
 * columns.h or act_tiles.h WIDEST(planes), FUSED_COLUMNS, WIDE   of tiles_*.h gemm_family(form, bits,
 * planes), natives[]
 */
#ifndef SRN_CPU_SIMD_MATMUL_H
#define SRN_CPU_SIMD_MATMUL_H

#include "cpu/simd/gemm_float.h"

#define ACC_STRIDE ((size_t)SRN_MAX_RUNS * SRN_PANEL) /* floats between columns of scratch->acc */

/* What stays the same over the panels of one call. */
typedef struct product {
    const srn_packed *w;
    srn__simd_type layout;
    uint32_t planes, groups, runs;
    bool bytes;                       /* panels are read as they are */
    bool wide;                        /* expanded codes are 16-bit numbers */
    bool gather;                      /* columns are gathered first */
    uint32_t start[SRN_MAX_RUNS + 1]; /* elements */
} product;

SRN__INLINE void store_columns(const product *pr, int runs, uint32_t p, const float *acc, uint32_t n,
                               float *y, size_t y_stride) {
    uint32_t rows = SRN_MIN(pr->w->rows - p * SRN_PANEL, SRN_PANEL);
    y += (size_t)p * SRN_PANEL;
    for (uint32_t c = 0; c < n; c++, acc += ACC_STRIDE) {
        v16 r[SRN_MAX_RUNS];
        SRN__UNROLL for (int i = 0; i < runs; i++) r[i] = v16_load(acc + i * SRN_PANEL);
        SRN__UNROLL for (int step = 1; step < runs; step *= 2) {
            SRN__UNROLL for (int i = 0; i < runs; i += 2 * step) r[i] = v16_add(r[i], r[i + step]);
        }
        if (rows == SRN_PANEL)
            v16_store(y + c * y_stride, r[0]);
        else
            v16_store_part(y + c * y_stride, r[0], rows);
    }
}

/* Adds the runs of each column by the tree and stores rows of panel p. */
static void store_panel(const product *pr, uint32_t p, const float *acc, uint32_t n, float *y,
                        size_t y_stride) {
    switch (pr->runs) {
    case 1:
        store_columns(pr, 1, p, acc, n, y, y_stride);
        break;
    case 2:
        store_columns(pr, 2, p, acc, n, y, y_stride);
        break;
    case 4:
        store_columns(pr, 4, p, acc, n, y, y_stride);
        break;
    default:
        store_columns(pr, 8, p, acc, n, y, y_stride);
        break;
    }
}

/* Few columns: a run of the panel is read once from memory and unpacked in registers for each tile. */
static void panel_fused(const product *pr, const uint8_t *panel, act_block *b, uint32_t n, float *acc) {
    fused_fn *const *family = natives[pr->w->type].fused[pr->planes - 1];
    uint32_t tile = WIDEST(pr->planes);
    for (uint32_t r = 0; r < pr->runs; r++) {
        uint32_t g0 = pr->start[r] / SRN_GROUP, g1 = pr->start[r + 1] / SRN_GROUP;
        for (uint32_t c = 0; c < n; c += tile) {
            uint32_t take = SRN_MIN(tile, n - c);
            family[take - 1](panel, g0, g1, tile_source(b, c, take, g0), acc + c * ACC_STRIDE + r * SRN_PANEL,
                             ACC_STRIDE);
        }
    }
}

/* What is fetched while tiles are computed: the codes that the next expansion will read, and before the last
 * run is done the lines of y that the panel will be stored to, each on a page of its own. */
typedef struct fetch {
    const uint8_t *at;
    uint32_t lines;
    const float *y; /* NULL: not yet */
    size_t y_stride;
} fetch;

/* n_groups expanded groups, the first of them g0, times all columns of the block. */
static void block_gemm(const product *pr, const srn__simd_scratch *scratch, uint32_t g0, uint32_t n_groups,
                       bool first, act_block *b, uint32_t n, float *acc, fetch next) {
    gemm_fn *const *family = gemm_family(pr->w->form, pr->layout.code_bits, pr->planes);
    uint32_t tile = WIDEST(pr->planes), tiles = (n + tile - 1) / tile;
    uint32_t lines_per_tile = (next.lines + tiles - 1) / tiles;
    for (uint32_t c = 0; c < n; c += tile) {
        uint32_t take = SRN_MIN(tile, n - c);
        for (uint32_t i = 0; i < lines_per_tile; i++, next.at += 64) __builtin_prefetch(next.at, 0, 2);
        for (uint32_t i = 0; i < take && next.y; i++) __builtin_prefetch(next.y + (c + i) * next.y_stride, 1);
        family[take - 1](scratch->e, scratch->wide, n_groups, tile_source(b, c, take, g0), first,
                         acc + c * ACC_STRIDE, ACC_STRIDE);
    }
}

/* Where what group g reads begins: its record, or in a record its codes. */
static size_t bytes_before(srn__simd_type t, uint32_t g) {
    return g % t.record_groups ? srn__codes_at(t, g) : srn__record_at(t, g);
}

static void panel_expanded(const product *pr, uint32_t p, act_block *b, uint32_t n, const float *y,
                           size_t y_stride, srn__simd_scratch *scratch) {
    const srn_packed *w = pr->w;
    uint32_t unit = srn_type_get((uint32_t)w->type)->block_elems / SRN_GROUP;
    const uint8_t *panel = w->panels + p * w->panel_bytes;
    for (uint32_t r = 0; r < pr->runs; r++) {
        uint32_t g0 = pr->start[r] / SRN_GROUP, g1 = pr->start[r + 1] / SRN_GROUP;
        for (uint32_t g = g0; g < g1;) {
            uint32_t take = SRN_MIN(g1 - g, SRN__EXPAND_GROUPS / unit * unit), end = g + take;
            bool last = end == pr->groups;
            fetch next = {.y = last ? y + (size_t)p * SRN_PANEL : NULL, .y_stride = y_stride};
            natives[w->type].expand[pr->wide](panel, g, take, scratch->e, scratch->wide);
            next.at = end < pr->groups ? panel + bytes_before(pr->layout, end) : panel + w->panel_bytes;
            next.lines = (uint32_t)((bytes_before(pr->layout, end) - bytes_before(pr->layout, g)) / 64);
            block_gemm(pr, scratch, g, take, g == g0, b, n, &scratch->acc[0][r][0], next);
            g = end;
        }
    }
}

static void block_codes(const product *pr, uint32_t p0, uint32_t p1, const srn_act *a, const uint32_t *cols,
                        uint32_t n, uint32_t first, float *y, size_t y_stride, srn__simd_scratch *scratch) {
    act_block b;
    open_block(a, pr->layout.code_bits, cols, pr->gather, first, n, scratch, &b);
    for (uint32_t p = p0; p < p1; p++) {
        if (pr->bytes || n * pr->planes <= FUSED_COLUMNS)
            panel_fused(pr, pr->w->panels + p * pr->w->panel_bytes, &b, n, &scratch->acc[0][0][0]);
        else
            panel_expanded(pr, p, &b, n, y, y_stride, scratch);
        store_panel(pr, p, &scratch->acc[0][0][0], n, y, y_stride);
    }
}

static void block_floats(const product *pr, uint32_t p0, uint32_t p1, const srn_act *a, const uint32_t *cols,
                         uint32_t n, uint32_t first, float *y, size_t y_stride, srn__simd_scratch *scratch) {
    const srn__float_panel layout = srn__float_panel_of(pr->w->type, pr->w->cols);
    const float *x[SRN__COLUMN_BLOCK];
    for (uint32_t c = 0; c < n; c++) x[c] = a->x + (cols ? cols[first + c] : first + c) * a->x_stride;
    for (uint32_t p = p0; p < p1; p++) {
        float *acc = &scratch->acc[0][0][0];
        float_panel(pr->w->type, pr->w->panels + p * pr->w->panel_bytes, &layout, x, n, acc, ACC_STRIDE);
        store_panel(pr, p, acc, n, y, y_stride);
    }
}

static void matmul(const srn_packed *w, uint32_t p0, uint32_t p1, const srn_act *a, const uint32_t *cols,
                   uint32_t n_cols, float *y, size_t y_stride, void *scratch) {
    bool is_float = w->form == SRN_FORM_FLOAT;
    product pr = {
        .w = w, .planes = a->planes, .groups = w->cols / SRN_GROUP, .runs = srn__run_count(w->cols)};
    if (!is_float) pr.layout = srn__simd_type_of(w->type);
    uint32_t unit = srn_type_get((uint32_t)w->type)->block_elems;
    for (uint32_t r = 0; r <= pr.runs; r++) pr.start[r] = srn__run_start(w->cols, unit, r, pr.runs);
    pr.wide = !is_float && WIDE(a->planes, pr.layout.code_bits);
    pr.bytes = !is_float && !pr.wide && srn__simd_reads_bytes(pr.layout.bits, w->cols, a->planes);
    uint32_t block = pr.bytes ? SRN__COLUMN_BLOCK / 2 : SRN__COLUMN_BLOCK;
    if (!is_float) block -= block % MAX_TILE; /* tiles begin where a block does */
    pr.gather = !is_float && must_gather(a, cols, n_cols);
    if (pr.gather) block = SRN_MIN(block, (uint32_t)LIST_BLOCK(a->planes));
    for (uint32_t c = 0; c < n_cols; c += block) {
        uint32_t n = SRN_MIN(block, n_cols - c);
        if (is_float)
            block_floats(&pr, p0, p1, a, cols, n, c, y + c * y_stride, y_stride, scratch);
        else
            block_codes(&pr, p0, p1, a, cols, n, c, y + c * y_stride, y_stride, scratch);
    }
}

static size_t scratch_bytes(uint32_t k) {
    return sizeof(srn__simd_scratch) + list_bytes(k);
}

static void fill_matmul(srn_kernels *k) {
    k->panel_bytes = srn__simd_panel_bytes;
#if defined(__x86_64__)
    k->pack = srn__simd_pack_avx2;
#else
    k->pack = srn__simd_pack;
#endif
    k->act_bytes = act_bytes;
    k->quantize = quantize;
    k->scratch_bytes = scratch_bytes;
    k->matmul = matmul;
}

#endif
