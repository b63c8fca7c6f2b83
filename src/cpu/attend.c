/* Who computes what of a step's attention. plan cuts it into items, once a step and on one thread; attend
 * runs one layer's items on every thread of the pool, which take them from a counter, longest first.
 *
 * A unit is one tile of queries against one KV head. A unit that takes much longer than a thread's fair share
 * is cut: by segments, whose results are left unmerged in records (cpu_internal.h) and merged in order by
 * whichever thread finishes the unit's last part; and by heads where it has few segments. No cut changes a
 * bit.
 */
#include "cpu/device_internal.h"

#define QUERY_TILE 32

/* A thread's fair share is cut into so many pieces, by segments, which costs little, or by heads, each of
 * which reads the keys again. */
#define PIECES_BY_SEGMENTS 4
#define PIECES_BY_HEADS    2

/* First segment that a tile's queries see, and the one after the last. */
typedef struct span {
    uint32_t begin, end; /* positions that some query sees */
    uint32_t seg0, seg1;
} span;

static span span_of(const srn_batch *b, const srn_query_tile *tile, uint32_t window) {
    uint32_t first = b->slices[tile->slice].n_past + tile->first, end = first + tile->n;
    uint32_t begin = window && first >= window ? first + 1 - window : 0;
    return (span){begin, end, begin / SRN_SEGMENT, (end + SRN_SEGMENT - 1) / SRN_SEGMENT};
}

/* What a unit's time grows with. */
static uint64_t unit_work(const srn_batch *b, const srn_query_tile *tile, uint32_t window) {
    span s = span_of(b, tile, window);
    return (uint64_t)tile->n * (s.end - s.begin);
}

static uint32_t at_most(uint64_t n, uint32_t limit) {
    return n < limit ? (uint32_t)n : limit;
}

/* The tiles of a step in ascending order of work; those of a slice come in order, so that sorting is quick.
 */
static uint32_t plan_tiles(srn_cpu *c, const srn_batch *b) {
    srn_query_tile *tiles = c->w.tiles;
    uint32_t n = 0;
    for (uint32_t i = 0; i < b->n_slices; i++)
        for (uint32_t q = 0; q < b->slices[i].n_tokens; q += QUERY_TILE) {
            srn_query_tile tile = {i, q, SRN_MIN(b->slices[i].n_tokens - q, (uint32_t)QUERY_TILE)};
            uint32_t at = n++;
            for (; at > 0 && unit_work(b, &tiles[at - 1], 0) > unit_work(b, &tile, 0); at--)
                tiles[at] = tiles[at - 1];
            tiles[at] = tile;
        }
    return n;
}

/* The records of one sequence of the longest length fit, but for lengths at which they would be no small
 * matter any more: other units are then cut by heads. */
#define MAX_PART_FLOATS ((size_t)4 << 20)

void srn__attend_sizes(const srn_cpu *c, size_t *ret_items, uint32_t *ret_splits, size_t *ret_part_floats) {
    const srn_hparams *hp = &c->m->hp;
    size_t segments = c->o.n_ctx / SRN_SEGMENT + 1;
    /* A unit has at most one item more than it has pieces of fair shares. */
    *ret_items = (size_t)c->o.max_batch * hp->n_head_kv + PIECES_BY_SEGMENTS * (size_t)c->o.threads;
    *ret_splits = PIECES_BY_SEGMENTS * c->o.threads;
    *ret_part_floats = SRN_MIN(segments * hp->n_head * srn__attn_record(hp->d_v), MAX_PART_FLOATS);
}

/* A place for the records of a unit of so many segments and pairs; NULL when all are taken. */
static srn_attn_split *take_split(srn_attn_plan *p, size_t record, uint32_t segments, uint32_t pairs) {
    size_t floats = record * segments * pairs;
    if (p->n_splits == p->max_splits || floats > p->max_part_floats - p->part_floats) return NULL;
    srn_attn_split *s = &p->splits[p->n_splits++];
    s->part = p->parts + p->part_floats;
    p->part_floats += floats;
    return s;
}

/* The items of one unit: `by_segments` runs of segments times `by_heads` runs of the heads. */
static void plan_unit(const srn_cpu *c, srn_attn_plan *p, uint32_t tile, uint32_t kv_head, span s,
                      uint32_t by_segments, uint32_t by_heads) {
    const srn_hparams *hp = &c->m->hp;
    uint32_t group = hp->n_head / hp->n_head_kv, n = s.seg1 - s.seg0, pairs = group * c->w.tiles[tile].n;
    srn_attn_split *split = by_segments > 1 ? take_split(p, srn__attn_record(hp->d_v), n, pairs) : NULL;
    if (!split) by_segments = 1;
    if (split) {
        split->tile = tile, split->kv_head = kv_head;
        split->seg0 = s.seg0, split->n_segments = n;
        split->items = by_segments * by_heads;
        atomic_init(&split->left, split->items);
    }
    for (uint32_t i = 0; i < by_segments; i++)
        for (uint32_t h = 0; h < by_heads; h++)
            p->items[p->n_items++] = (srn_attn_item){.split = split,
                                                     .tile = tile,
                                                     .kv_head = (uint16_t)kv_head,
                                                     .head0 = (uint16_t)(group * h / by_heads),
                                                     .head1 = (uint16_t)(group * (h + 1) / by_heads),
                                                     .seg0 = s.seg0 + n * i / by_segments,
                                                     .seg1 = s.seg0 + n * (i + 1) / by_segments};
}

/* The plan for layers of one group. */
static void plan_group(srn_cpu *c, const srn_batch *b, uint32_t n_tiles, uint32_t window, srn_attn_plan *p) {
    const srn_hparams *hp = &c->m->hp;
    uint32_t threads = srn__pool_threads(c->pool), group = hp->n_head / hp->n_head_kv;
    uint64_t all = 0;
    for (uint32_t i = 0; i < n_tiles; i++) all += unit_work(b, &c->w.tiles[i], window) * hp->n_head_kv;
    p->n_items = p->n_splits = 0;
    p->part_floats = 0;
    for (uint32_t i = n_tiles; i-- > 0;) { /* longest first */
        const srn_query_tile *tile = &c->w.tiles[i];
        span s = span_of(b, tile, window);
        uint64_t work = unit_work(b, tile, window) * threads;
        uint32_t by_segments = 1, by_heads = 1;
        if (threads > 1 && tile->n == 1)
            by_segments = at_most((work * PIECES_BY_SEGMENTS + all - 1) / all, s.seg1 - s.seg0);
        if (threads > 1 && (by_segments == 1 || by_segments * all <= work))
            by_heads = at_most((work * PIECES_BY_HEADS / by_segments + all - 1) / all, group);
        for (uint32_t h = 0; h < hp->n_head_kv; h++) plan_unit(c, p, i, h, s, by_segments, by_heads);
    }
}

void srn__attend_plan(srn_cpu *c, const srn_batch *b) {
    srn_kv_group groups[SRN_KV_MAX_GROUPS];
    uint32_t n_tiles = plan_tiles(c, b);
    for (uint32_t g = 0, n = srn_kv_groups(c->m, groups); g < n; g++)
        plan_group(c, b, n_tiles, groups[g].window, &c->w.attn[g]);
}

/* ---- a layer ---- */

/* Where an item's keys begin in memory. */
static const uint8_t *item_keys(const srn_cpu *c, const srn_batch *b, const srn_layer *l,
                                const srn_attn_item *item) {
    const srn_query_tile *tile = &c->w.tiles[item->tile];
    span s = span_of(b, tile, l->window);
    uint32_t pos = SRN_MAX(s.begin, item->seg0 * SRN_SEGMENT);
    const uint32_t *blocks = b->slices[tile->slice].blocks[l->kv_group];
    return srn__k_tiles(c, l, item->kv_head) + blocks[pos / SRN_KV_BLOCK] * c->kv_block_bytes[l->kv_group];
}

static srn_attn attn_of(const srn_cpu *c, const srn_batch *b, const srn_layer *l, const srn_attn_item *item) {
    const srn_hparams *hp = &c->m->hp;
    const srn_query_tile *tile = &c->w.tiles[item->tile];
    const srn_slice *s = &b->slices[tile->slice];
    size_t token = s->first + tile->first, head = item->kv_head * (hp->n_head / hp->n_head_kv) + item->head0;
    srn_attn a = {.kv_type = c->o.kv_type,
                  .k = srn__k_tiles(c, l, item->kv_head),
                  .v = srn__v_tiles(c, l, item->kv_head),
                  .k_block_stride = c->kv_block_bytes[l->kv_group],
                  .v_block_stride = c->kv_block_bytes[l->kv_group],
                  .blocks = s->blocks[l->kv_group],
                  .block_len = SRN_KV_BLOCK,
                  .d_k = hp->d_k,
                  .d_v = hp->d_v,
                  .n_past = s->n_past + tile->first,
                  .n_queries = tile->n,
                  .n_heads = (uint32_t)item->head1 - item->head0,
                  .window = l->window,
                  .scale = hp->attn_scale,
                  .softcap = hp->attn_softcap,
                  .q = c->w.q + (token * hp->n_head + head) * hp->d_k,
                  .q_stride = (size_t)hp->n_head * hp->d_k,
                  .out = c->w.att + (token * hp->n_head + head) * hp->d_v,
                  .out_stride = (size_t)hp->n_head * hp->d_v};
    if (item->split) { /* one query */
        size_t record = srn__attn_record(hp->d_v);
        a.part_stride = record * (hp->n_head / hp->n_head_kv);
        a.part = item->split->part + (item->seg0 - item->split->seg0) * a.part_stride + item->head0 * record;
        a.seg0 = item->seg0, a.seg1 = item->seg1;
    }
    return a;
}

/* What a split unit's last part leaves to do; the count starts again for the next layer. */
static void merge_unit(const srn_cpu *c, const srn_batch *b, srn_attn_split *split) {
    const srn_hparams *hp = &c->m->hp;
    const srn_query_tile *tile = &c->w.tiles[split->tile];
    uint32_t group = hp->n_head / hp->n_head_kv;
    size_t record = srn__attn_record(hp->d_v), token = b->slices[tile->slice].first + tile->first;
    float *out = c->w.att + (token * hp->n_head + split->kv_head * group) * hp->d_v;
    atomic_store_explicit(&split->left, split->items, memory_order_relaxed);
    for (uint32_t h = 0; h < group; h++)
        c->k.attn_merge(hp->d_v, split->n_segments, split->part + h * record, record * group,
                        out + h * hp->d_v);
}

bool srn__attend(srn_cpu *c, const srn_batch *b, const srn_layer *l, void *scratch) {
    srn_attn_plan *p = &c->w.attn[l->kv_group];
    uint32_t i, threads = srn__pool_threads(c->pool);
    bool finite = true;
    while ((i = atomic_fetch_add_explicit(&c->next_item, 1, memory_order_relaxed)) < p->n_items) {
        const srn_attn_item *item = &p->items[i];
        srn_attn a = attn_of(c, b, l, item);
        if (i + threads < p->n_items) /* probably this thread's next */
            a.soon = item_keys(c, b, l, item + threads);
        finite = c->k.attention(&a, scratch) && finite;
        if (item->split && atomic_fetch_sub_explicit(&item->split->left, 1, memory_order_acq_rel) == 1)
            merge_unit(c, b, item->split);
    }
    return finite;
}
