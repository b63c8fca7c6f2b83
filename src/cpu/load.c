/* Loading of a CPU device: every matrix that is multiplied is packed into the form that the kernels read. The
 * threads of the pool walk the matrices in one order, each packing the panels that it will multiply; so they
 * are dealt evenly, their memory lies near the processor that reads it (it is first touched there), and no
 * thread waits for another. The file's pages are given back behind, so that what is held stays close to the
 * packed size. Rows of a watched model are copied first, told of and packed from the copy, so that the bytes
 * that were told are those that run, whatever happens to the file meanwhile. Called by srn_cpu_device_new's
 * thread, which also tells the progress.
 */
#include "cpu/device_internal.h"

#include <stdlib.h>

/* Bytes of the file that a thread packs between two looks at what is not packing. */
#define SLICE_BYTES ((size_t)4 << 20)
/* Of a watched model's rows that are copied at a time: they stay in a core's own cache meanwhile. */
#define COPY_BYTES ((size_t)128 << 10)

/* ---- what there is to pack ---- */

/* The embedding is only looked up, not multiplied, unless it is the head too. */
static bool is_multiplied(const srn_model *m, const srn_mat *mat) {
    return mat != m->embd || m->head == m->embd;
}

srn_packed srn__packed_part(const srn_cpu *c, const srn_mat *mat, uint32_t e) {
    uint64_t row_bytes = 0;
    srn_type_bytes(mat->t->type, mat->cols, &row_bytes);
    srn_packed w = {.type = mat->t->type,
                    .form = srn_type_get((uint32_t)mat->t->type)->form,
                    .rows = mat->rows / mat->parts,
                    .cols = mat->cols,
                    .row_bytes = (size_t)row_bytes};
    w.raw = (const uint8_t *)mat->t->data + (mat->row0 + (uint64_t)e * w.rows) * row_bytes;
    if (is_multiplied(c->m, mat)) w.panel_bytes = c->k.panel_bytes(w.type, w.cols);
    return w;
}

static uint32_t panels_of(const srn_cpu *c, const srn_mat *mat) {
    return srn__panel_count(srn__packed(c, mat, 0));
}

static void share_in_units(srn_cpu *c, const srn_mat *mat, uint32_t unit) {
    if (mat) c->shares[mat - c->m->mats] = (srn_share){0, panels_of(c, mat), unit};
}

/* As forward.c multiplies: queries, keys and values are one list, and gate and up are cut at whole groups of
 * the activations that they become. */
static void deal_panels(srn_cpu *c) {
    for (uint32_t i = 0; i < c->m->n_mats; i++) share_in_units(c, &c->m->mats[i], 1);
    for (uint32_t i = 0; i < c->m->hp.n_layer; i++) {
        const srn_layer *l = &c->m->layers[i];
        const srn_mat *qkv[3] = {l->q, l->k, l->v}, *pairs[] = {l->gate, l->up, l->gate_exps, l->up_exps};
        uint32_t n = panels_of(c, l->q) + panels_of(c, l->k) + panels_of(c, l->v), at = 0;
        for (uint32_t k = 0; k < 3; k++) {
            c->shares[qkv[k] - c->m->mats] = (srn_share){at, n, 1};
            at += panels_of(c, qkv[k]);
        }
        for (uint32_t k = 0; k < SRN_LEN(pairs); k++) share_in_units(c, pairs[k], SRN_GROUP / SRN_PANEL);
    }
}

static int describe(srn_cpu *c, srn_err *err) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < c->m->n_mats; i++) n += c->m->mats[i].parts;
    c->packed = srn_calloc(n, sizeof *c->packed);
    c->first_packed = srn_calloc(c->m->n_mats, sizeof *c->first_packed);
    c->shares = srn_calloc(c->m->n_mats, sizeof *c->shares);
    if (!c->packed || !c->first_packed || !c->shares) return srn_fail_nomem(err, n * sizeof *c->packed);
    n = 0;
    for (uint32_t i = 0; i < c->m->n_mats; i++) {
        const srn_mat *mat = &c->m->mats[i];
        c->first_packed[i] = n;
        for (uint32_t e = 0; e < mat->parts; e++) {
            srn_packed *w = &c->packed[n++];
            *w = srn__packed_part(c, mat, e);
            c->panels_bytes += w->panel_bytes * srn__panel_count(w);
        }
    }
    deal_panels(c);
    return SRN_OK;
}

/* ---- packing ---- */

typedef struct packing {
    srn_cpu *c;
    uint8_t *copies;            /* [thread][copy_bytes]; NULL: nobody watches */
    size_t copy_bytes;          /* at least one panel of every matrix */
    atomic_uint_least64_t done; /* packed bytes, of all threads */
    atomic_bool cancelled;
} packing;

/* One thread's way through the matrices. */
typedef struct packer {
    packing *p;
    srn_cpu *c;
    uint32_t thread, n_threads;
    uint8_t *copy; /* or NULL */
    /* The stretch of a part's file that was read since the last look, and what was read and written. */
    uint32_t part;
    uint64_t begin, end;
    size_t read, written;
} packer;

static void look_up(packer *t) {
    srn_weights_drop_pages(t->c->m->weights, t->part, t->begin, t->end);
    uint64_t done = atomic_fetch_add_explicit(&t->p->done, t->written, memory_order_relaxed) + t->written;
    t->begin = UINT64_MAX;
    t->end = t->read = t->written = 0;
    const srn_device_opts *o = &t->c->o;
    if (o->cancel && *o->cancel) atomic_store_explicit(&t->p->cancelled, true, memory_order_relaxed);
    if (t->thread == 0 && o->progress && done < t->c->panels_bytes)
        o->progress(o->progress_ctx, "packing weights", done, t->c->panels_bytes);
}

static bool goes_on(const packer *t) {
    return !atomic_load_explicit(&t->p->cancelled, memory_order_relaxed);
}

/* The same panels, a few at a time, from copies of their rows. */
static void pack_copies(packer *t, const srn_mat *mat, const srn_packed *w, uint32_t p0, uint32_t p1) {
    uint32_t step = (uint32_t)(t->p->copy_bytes / (SRN_PANEL * w->row_bytes));
    uint64_t row0 = (uint64_t)(w->raw - (const uint8_t *)mat->t->data) / w->row_bytes;
    for (uint32_t p = p0; p < p1; p += step) {
        uint32_t end = SRN_MIN(p + step, p1), first = p * SRN_PANEL;
        srn_packed part = *w;
        part.rows = SRN_MIN(end * SRN_PANEL, w->rows) - first;
        part.raw = memcpy(t->copy, w->raw + (size_t)first * w->row_bytes, part.rows * w->row_bytes);
        part.panels += p * w->panel_bytes;
        srn_weights_saw(t->c->m->weights, mat->t, row0 + first, part.rows, part.raw);
        t->c->k.pack(&part, 0, end - p);
    }
}

static void pack_panels(packer *t, const srn_mat *mat, const srn_packed *w, uint32_t p0, uint32_t p1) {
    if (t->copy)
        pack_copies(t, mat, w, p0, p1);
    else
        t->c->k.pack(w, p0, p1);
    uint64_t base = mat->t->offset + (uint64_t)(w->raw - (const uint8_t *)mat->t->data);
    uint64_t begin = base + (uint64_t)p0 * SRN_PANEL * w->row_bytes;
    uint64_t end = base + SRN_MIN((uint64_t)p1 * SRN_PANEL, (uint64_t)w->rows) * w->row_bytes;
    /* rows of the embedding are looked up in the file's form */
    if (mat != t->c->m->embd) srn_weights_forget(t->c->m->weights, t->part, begin, end);
    t->begin = SRN_MIN(t->begin, begin);
    t->end = SRN_MAX(t->end, end);
    t->read += (size_t)(end - begin);
    t->written += (p1 - p0) * w->panel_bytes;
}

static void pack_part(packer *t, const srn_mat *mat, const srn_packed *w) {
    uint32_t p0, p1, slice = (uint32_t)SRN_MAX(SLICE_BYTES / (SRN_PANEL * w->row_bytes), (size_t)1);
    srn__panel_share(t->c, mat, t->thread, t->n_threads, &p0, &p1);
    for (uint32_t p = p0; p < p1 && goes_on(t); p += slice) {
        if (mat->t->part != t->part) look_up(t);
        t->part = mat->t->part;
        pack_panels(t, mat, w, p, SRN_MIN(p + slice, p1));
        if (t->read >= SLICE_BYTES) look_up(t);
    }
}

static void pack_all(void *ctx, uint32_t thread, uint32_t n_threads) {
    packing *p = ctx;
    packer t = {.p = p, .c = p->c, .thread = thread, .n_threads = n_threads, .begin = UINT64_MAX};
    if (p->copies) t.copy = p->copies + thread * p->copy_bytes;
    for (uint32_t i = 0; i < p->c->m->n_mats && goes_on(&t); i++) {
        const srn_mat *mat = &p->c->m->mats[i];
        for (uint32_t e = 0; e < mat->parts; e++) {
            const srn_packed *w = srn__packed(p->c, mat, e);
            if (w->panels) pack_part(&t, mat, w);
        }
    }
    look_up(&t);
}

static int new_copies(packing *p, srn_err *err) {
    const srn_cpu *c = p->c;
    if (!srn_weights_watched(c->m->weights)) return SRN_OK;
    p->copy_bytes = COPY_BYTES;
    for (uint32_t i = 0; i < c->m->n_mats; i++)
        p->copy_bytes = SRN_MAX(p->copy_bytes, SRN_PANEL * srn__packed(c, &c->m->mats[i], 0)->row_bytes);
    p->copy_bytes = (size_t)srn_align_up(p->copy_bytes, 64);
    p->copies = srn_aligned_calloc(srn__pool_threads(c->pool), p->copy_bytes);
    return p->copies ? SRN_OK : srn_fail_nomem(err, p->copy_bytes);
}

int srn__cpu_load(srn_cpu *c, srn_err *err) {
    int code = describe(c, err);
    if (code || !c->panels_bytes) return code;
    c->panels = srn_pages_alloc(c->panels_bytes);
    if (!c->panels)
        return srn_fail(err, SRN_ENOMEM, "the packed weights need %zu bytes of memory and they cannot be had",
                        c->panels_bytes);
    size_t at = 0;
    for (uint32_t i = 0; i < c->m->n_mats; i++)
        for (uint32_t e = 0; e < c->m->mats[i].parts; e++) {
            srn_packed *w = &c->packed[c->first_packed[i] + e];
            if (w->panel_bytes) w->panels = c->panels + at;
            at += w->panel_bytes * srn__panel_count(w);
        }
    packing p = {.c = c};
    code = new_copies(&p, err);
    if (code) return code;
    srn__pool_run(c->pool, pack_all, &p);
    srn_aligned_free(p.copies);
    srn_weights_drop_tensors(c->m->weights);
    if (atomic_load(&p.cancelled))
        return srn_fail(err, SRN_ECANCELLED, "interrupted while the weights were packed");
    if (c->o.progress) c->o.progress(c->o.progress_ctx, "packing weights", c->panels_bytes, c->panels_bytes);
    return SRN_OK;
}
