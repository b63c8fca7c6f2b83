/* Sets of items and the transitions between them, made when they are first needed. Belongs to one matcher at
 * a time. Left recursion needs no care here, for a call is made once a set, whoever waits for it; rules that
 * can match nothing are completed at the call (Aycock and Horspool, Computer Journal 45, 2002). Memory and
 * work are capped, so that an ambiguous grammar ends in SRN_ELIMIT.
 */
#include "constrain/constrain_internal.h"

#include <stdlib.h>

/* Most items of one set. */
#define MAX_ITEMS (1u << 14)
/* Memory that the sets of one matcher may hold. */
#define MAX_BYTES ((uint64_t)64 << 20)
/* Items that can be looked at in the time of one operation. */
#define LOOKED_AT 8u

/* ---- memory ---- */

static bool grow(srn__sets *s, void *table, uint32_t used, uint32_t *cap, uint32_t n, size_t size) {
    void **t = table;
    if ((uint64_t)used + n <= *cap) return true;
    uint64_t want = SRN_MAX((uint64_t)used + n, *cap ? 2 * (uint64_t)*cap : 64);
    uint64_t more = (want - *cap) * size;
    if (want > UINT32_MAX / 2 || s->bytes + more > MAX_BYTES) {
        s->failed = SRN_ELIMIT;
        return false;
    }
    void *p = srn_realloc_array(*t, (size_t)want, size);
    if (!p) {
        s->failed = SRN_ENOMEM;
        return false;
    }
    *t = p;
    *cap = (uint32_t)want;
    s->bytes += more;
    return true;
}

void srn__sets_done(srn__sets *s) {
    free(s->sets);
    free(s->items);
    free(s->rows);
    free(s->table);
    free(s->work);
    free(s->calls);
    free(s->waiting);
    free(s->seen);
    *s = (srn__sets){0};
}

/* ---- numbers of sets ---- */

static uint64_t hash_items(const srn__sets *s, const srn__item *items, uint32_t n, uint32_t flags) {
    return srn_hash(s->seed ^ flags, (srn_str){(const char *)items, n * sizeof *items});
}

static bool grow_table(srn__sets *s) {
    uint32_t size = s->table_size ? 2 * s->table_size : 256;
    uint32_t *table = srn_calloc(size, sizeof *table);
    if (!table) {
        s->failed = SRN_ENOMEM;
        return false;
    }
    for (uint32_t i = SRN__FIRST_SET; i < s->n_sets; i++) {
        const srn__set *x = &s->sets[i];
        uint64_t h = hash_items(s, s->items + x->items, x->n_bytes + x->n_calls, x->flags);
        uint32_t at = (uint32_t)h & (size - 1);
        while (table[at]) at = (at + 1) & (size - 1);
        table[at] = i;
    }
    free(s->table);
    s->table = table;
    s->bytes += (uint64_t)(size - s->table_size) * sizeof *table;
    s->table_size = size;
    return true;
}

/* The number of the set with these items, which come from outside the table's own array. */
static uint32_t number_of(srn__sets *s, const srn__item *bytes, uint32_t n_bytes, const srn__item *calls,
                          uint32_t n_calls, uint32_t flags) {
    uint32_t n = n_bytes + n_calls;
    if (s->n_sets * 2 >= s->table_size && !grow_table(s)) return SRN__FAILED;
    if (!grow(s, &s->items, s->n_items, &s->cap_items, n + 1, sizeof *s->items)) return SRN__FAILED;
    srn__item *items = s->items + s->n_items;
    if (n_bytes) memcpy(items, bytes, n_bytes * sizeof *bytes);
    if (n_calls) memcpy(items + n_bytes, calls, n_calls * sizeof *calls);
    uint32_t at = (uint32_t)hash_items(s, items, n, flags) & (s->table_size - 1);
    for (; s->table[at]; at = (at + 1) & (s->table_size - 1)) {
        const srn__set *x = &s->sets[s->table[at]];
        if (x->n_bytes == n_bytes && x->n_calls == n_calls && x->flags == flags &&
            memcmp(s->items + x->items, items, n * sizeof *items) == 0)
            return s->table[at];
    }
    if (!grow(s, &s->sets, s->n_sets, &s->cap_sets, 1, sizeof *s->sets)) return SRN__FAILED;
    s->sets[s->n_sets] = (srn__set){s->n_items, n_bytes, n_calls, SRN__NO_ROW, flags};
    s->n_items += n;
    s->table[at] = s->n_sets;
    return s->n_sets++;
}

/* ---- making a set ---- */

static uint32_t mix(const srn__item *i) {
    uint64_t h = i->op * 0x9E3779B97F4A7C15u ^ i->rule * 0xC2B2AE3D27D4EB4Fu;
    h = (h ^ h >> 29) + i->origin * 0x165667B19E3779F9u + i->count * 0x27D4EB2F165667C5u;
    h *= 0xFF51AFD7ED558CCDu;
    return (uint32_t)(h >> 32);
}

static bool same_item(const srn__item *a, const srn__item *b) {
    return a->op == b->op && a->rule == b->rule && a->origin == b->origin && a->count == b->count;
}

static bool grow_seen(srn__sets *s) {
    uint32_t size = s->seen_size ? 2 * s->seen_size : 64;
    uint64_t *seen = srn_calloc(size, sizeof *seen);
    if (!seen) {
        s->failed = SRN_ENOMEM;
        return false;
    }
    s->generation = 1;
    for (uint32_t i = 0; i < s->n_work; i++) {
        uint32_t at = mix(&s->work[i]) & (size - 1);
        while (seen[at]) at = (at + 1) & (size - 1);
        seen[at] = (uint64_t)1 << 32 | i;
    }
    free(s->seen);
    s->seen = seen;
    s->bytes += (uint64_t)(size - s->seen_size) * sizeof *seen;
    s->seen_size = size;
    return true;
}

static void spend(srn__sets *s, uint64_t operations) {
    if (s->budget < operations) {
        s->budget = 0;
        s->failed = SRN_ELIMIT;
    } else {
        s->budget -= operations;
    }
}

/* Adds an item to the work, unless it is there. */
static void push(srn__sets *s, srn__item item) {
    if (s->failed) return;
    spend(s, 1);
    if (s->n_work >= 4 * MAX_ITEMS) s->failed = SRN_ELIMIT;
    if (s->failed) return;
    if (s->n_work * 2 >= s->seen_size && !grow_seen(s)) return;
    uint32_t at = mix(&item) & (s->seen_size - 1);
    for (; s->seen[at] >> 32 == s->generation; at = (at + 1) & (s->seen_size - 1))
        if (same_item(&s->work[(uint32_t)s->seen[at]], &item)) return;
    if (!grow(s, &s->work, s->n_work, &s->cap_work, 1, sizeof item)) return;
    s->seen[at] = (uint64_t)s->generation << 32 | s->n_work;
    s->work[s->n_work++] = item;
}

static void keep(srn__sets *s, srn__item **list, uint32_t *n, uint32_t *cap, srn__item item) {
    if (*n >= MAX_ITEMS) s->failed = SRN_ELIMIT;
    if (!s->failed && grow(s, list, *n, cap, 1, sizeof item)) (*list)[(*n)++] = item;
}

/* A rule ends: whoever waits for it in its origin goes on. A rule that ends in the set in which it was called
 * has matched nothing, and its callers have been told already. */
static void complete(srn__sets *s, const srn__item *item) {
    uint32_t origin = item->origin, rule = item->rule;
    if (rule == 0) s->flags |= SRN__SET_ACCEPTS;
    if (origin == SRN__SELF || rule == 0) return;
    if (origin < SRN__FIRST_SET) {
        s->flags |= SRN__SET_ESCAPES;
        return;
    }
    const srn__set *x = &s->sets[origin];
    const srn__item *calls = s->items + x->items + x->n_bytes;
    uint32_t lo = 0, hi = x->n_calls;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        if (s->p->calls[calls[mid].op].rule < rule)
            lo = mid + 1;
        else
            hi = mid;
    }
    for (; lo < x->n_calls && s->p->calls[calls[lo].op].rule == rule && !s->failed; lo++) {
        srn__item then = calls[lo];
        then.op = s->p->calls[then.op].next;
        if (then.origin == SRN__SELF) then.origin = origin;
        push(s, then);
    }
}

static void call_rule(srn__sets *s, const srn__op *op, srn__item item) {
    const srn__call *call = &s->p->calls[op->at];
    srn__item first = {s->p->starts[call->rule], call->rule, SRN__SELF, 0};
    if (op->flags & SRN__CALL_TAIL) {
        first.rule = item.rule;
        first.origin = item.origin;
    } else {
        srn__item waits = item;
        waits.op = op->at;
        keep(s, &s->calls, &s->n_calls, &s->cap_calls, waits);
    }
    push(s, first);
    if (op->flags & SRN__CALL_EMPTY) {
        item.op = call->next;
        push(s, item);
    }
}

/* Follows everything that takes no byte from the items in work. */
static void close_set(srn__sets *s) {
    const srn__program *p = s->p;
    for (uint32_t i = 0; i < s->n_work && !s->failed; i++) {
        srn__item item = s->work[i];
        const srn__op *op = &p->ops[item.op];
        switch ((srn__op_kind)op->kind) {
        case SRN__OP_BYTES:
            keep(s, &s->waiting, &s->n_waiting, &s->cap_waiting, item);
            break;
        case SRN__OP_SPLIT:
            for (uint32_t k = 0; k < op->n; k++) {
                srn__item to = item;
                to.op = p->targets[op->at + k];
                push(s, to);
            }
            break;
        case SRN__OP_CALL:
            call_rule(s, op, item);
            break;
        case SRN__OP_END:
            complete(s, &item);
            break;
        case SRN__OP_LOOP:
            if (item.count >= p->loops[op->loop].min) complete(s, &item);
            if (item.count < p->loops[op->loop].max) {
                item.op = op->at;
                push(s, item);
            }
            break;
        case SRN__OP_INC:
            /* without a max, counts beyond min are all the same */
            if (p->loops[op->loop].max != SRN_NO_MAX || item.count < p->loops[op->loop].min) item.count++;
            item.op = op->at;
            push(s, item);
            break;
        }
    }
}

static int compare_items(const void *a, const void *b) {
    const srn__item *x = a, *y = b;
    if (x->op != y->op) return x->op < y->op ? -1 : 1;
    if (x->rule != y->rule) return x->rule < y->rule ? -1 : 1;
    if (x->origin != y->origin) return x->origin < y->origin ? -1 : 1;
    return x->count < y->count ? -1 : x->count > y->count;
}

static void sort_items(srn__item *items, uint32_t n) {
    if (n > 12) {
        qsort(items, n, sizeof *items, compare_items);
        return;
    }
    for (uint32_t i = 1; i < n; i++) {
        srn__item x = items[i];
        uint32_t k = i;
        for (; k > 0 && compare_items(&x, &items[k - 1]) < 0; k--) items[k] = items[k - 1];
        items[k] = x;
    }
}

static uint32_t loop_of(const srn__sets *s, const srn__item *item, bool is_call) {
    return is_call ? s->p->calls[item->op].loop : s->p->ops[item->op].loop;
}

/* Of items that differ only in a count, those whose texts another one's include are dropped: with a max, a
 * lower count leaves more to come, once it has reached min; without one, a higher count needs less. Equal
 * items become one. Sorted before and after. */
static uint32_t drop_dominated(const srn__sets *s, srn__item *items, uint32_t n, bool are_calls) {
    uint32_t out = 0;
    for (uint32_t i = 0; i < n; i++) {
        const srn__item *x = &items[i], *last = out ? &items[out - 1] : NULL;
        if (last && last->op == x->op && last->rule == x->rule && last->origin == x->origin) {
            if (last->count == x->count) continue;
            const srn__loop *l = &s->p->loops[loop_of(s, x, are_calls)]; /* else all counts are 0 */
            if (l->max == SRN_NO_MAX)
                out--;
            else if (last->count >= l->min)
                continue;
        }
        items[out++] = *x;
    }
    return out;
}

static void begin_set(srn__sets *s) {
    s->n_work = s->n_calls = s->n_waiting = s->flags = 0;
    if (++s->generation == 0) { /* after 2^32 sets */
        if (s->seen_size) memset(s->seen, 0, s->seen_size * sizeof *s->seen);
        s->generation = 1;
    }
}

static uint32_t number_set(srn__sets *s) {
    sort_items(s->waiting, s->n_waiting);
    s->n_waiting = drop_dominated(s, s->waiting, s->n_waiting, false);
    sort_items(s->calls, s->n_calls);
    s->n_calls = drop_dominated(s, s->calls, s->n_calls, true);
    return number_of(s, s->waiting, s->n_waiting, s->calls, s->n_calls, s->flags);
}

static uint32_t end_set(srn__sets *s) {
    close_set(s);
    if (s->failed) return SRN__FAILED;
    return s->n_waiting == 0 && s->flags == 0 ? SRN__DEAD : number_set(s);
}

/* ---- transitions ---- */

static const srn__edge *edge_of(const srn__program *p, const srn__op *op, unsigned byte) {
    uint32_t lo = op->at, hi = op->at + op->n;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        if (p->edges[mid].last < byte)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < op->at + op->n && p->edges[lo].first <= byte ? &p->edges[lo] : NULL;
}

static uint32_t make_next(srn__sets *s, uint32_t set, unsigned byte_class) {
    const srn__program *p = s->p;
    const srn__set *x = &s->sets[set];
    unsigned byte = p->byte_of[byte_class];
    begin_set(s);
    spend(s, x->n_bytes / LOOKED_AT);
    for (uint32_t i = 0; i < x->n_bytes; i++) {
        srn__item item = s->items[x->items + i];
        const srn__edge *e = edge_of(p, &p->ops[item.op], byte);
        if (!e) continue;
        item.op = e->next;
        if (item.origin == SRN__SELF) item.origin = set;
        push(s, item);
    }
    if (s->failed) return SRN__FAILED;
    return s->n_work ? end_set(s) : SRN__DEAD;
}

uint32_t srn__sets_next(srn__sets *s, uint32_t set, unsigned byte_class) {
    uint32_t classes = s->p->n_classes, row = s->sets[set].row;
    if (row != SRN__NO_ROW) {
        uint32_t known = s->rows[(size_t)row * classes + byte_class];
        if (known != SRN__UNKNOWN) return known;
    }
    uint32_t to = make_next(s, set, byte_class);
    if (to == SRN__FAILED) return to;
    if (row == SRN__NO_ROW) {
        uint32_t used = s->n_rows * classes;
        if (!grow(s, &s->rows, used, &s->cap_rows, classes, sizeof *s->rows)) return SRN__FAILED;
        memset(s->rows + used, 0xFF, classes * sizeof *s->rows);
        row = s->sets[set].row = s->n_rows++;
    }
    s->rows[(size_t)row * classes + byte_class] = to;
    return to;
}

int srn__sets_init(srn__sets *s, const srn__program *p, srn_err *err) {
    *s = (srn__sets){.p = p, .seed = srn_hash_seed(), .budget = UINT32_MAX};
    if (grow(s, &s->sets, 0, &s->cap_sets, SRN__FIRST_SET, sizeof *s->sets)) {
        for (uint32_t i = 0; i < SRN__FIRST_SET; i++) s->sets[i] = (srn__set){.row = SRN__NO_ROW};
        s->n_sets = SRN__FIRST_SET;
        begin_set(s);
        push(s, (srn__item){p->starts[0], 0, SRN__SELF, 0});
        s->start = s->failed ? SRN__FAILED : end_set(s);
    }
    if (!s->failed) return SRN_OK;
    int code = s->failed;
    srn__sets_done(s);
    return srn_fail(err, code, "the constraint needs too much memory to begin with");
}

/* ---- shapes ---- */

/* How far a shape looks ahead where bounds are near: one of LEAST_SHORT, its double and so on. */
#define LEAST_SHORT 8u
#define MOST_SHORT  32u

/* The stand-in for an origin: the first that was not taken yet, or the one it has. 0: there are no more. */
static uint32_t stand_in(uint32_t *taken, uint32_t *n, uint32_t origin) {
    for (uint32_t i = 0; i < *n; i++)
        if (taken[i] == origin) return i + 1;
    if (*n == SRN__STAND_INS) return 0;
    taken[(*n)++] = origin;
    return *n;
}

static uint32_t count_shape(const srn__loop *l, uint32_t count, uint32_t ahead) {
    if (count < l->min) return l->min - count > ahead ? 0 : count;
    return l->max - count > ahead ? l->min : count;
}

uint32_t srn__sets_look_ahead(const srn__sets *s, uint32_t set, uint32_t most) {
    const srn__set *x = &s->sets[set];
    for (uint32_t i = 0; i < x->n_bytes + x->n_calls; i++) {
        const srn__item *item = &s->items[x->items + i];
        uint32_t loop = loop_of(s, item, i >= x->n_bytes), left = most, ahead = MOST_SHORT;
        if (loop == SRN__NO_LOOP) continue;
        const srn__loop *l = &s->p->loops[loop];
        left = (item->count < l->min ? l->min : l->max) - item->count;
        if (left > most || left <= LEAST_SHORT) continue;
        while (ahead >= left) ahead /= 2;
        most = SRN_MIN(most, ahead);
    }
    return most;
}

uint32_t srn__sets_shape(srn__sets *s, uint32_t set, uint32_t ahead) {
    const srn__set *x = &s->sets[set];
    uint32_t taken[SRN__STAND_INS], n_taken = 0;
    bool differs = false;
    begin_set(s);
    spend(s, (x->n_bytes + x->n_calls) / LOOKED_AT);
    for (uint32_t i = 0; i < x->n_bytes + x->n_calls; i++) {
        srn__item was = s->items[x->items + i], item = was;
        bool is_call = i >= x->n_bytes;
        uint32_t loop = loop_of(s, &item, is_call);
        if (item.origin != SRN__SELF && !(item.origin = stand_in(taken, &n_taken, item.origin)))
            return SRN__FAILED;
        if (loop != SRN__NO_LOOP) item.count = count_shape(&s->p->loops[loop], item.count, ahead);
        differs |= item.origin != was.origin || item.count != was.count;
        if (is_call)
            keep(s, &s->calls, &s->n_calls, &s->cap_calls, item);
        else
            keep(s, &s->waiting, &s->n_waiting, &s->cap_waiting, item);
    }
    if (s->failed) return SRN__FAILED;
    return differs ? number_set(s) : set;
}

/* ---- collection ---- */

uint64_t srn__sets_used(const srn__sets *s) {
    return s->n_sets * sizeof *s->sets + s->n_items * sizeof *s->items +
           (uint64_t)s->n_rows * s->p->n_classes * sizeof *s->rows;
}

/* to [n_sets]: 1 for each set that is needed. Origins have lower numbers than the sets that know them. */
static void mark(const srn__sets *s, const uint32_t *roots, size_t n, uint32_t *to) {
    for (uint32_t i = 0; i < SRN__FIRST_SET; i++) to[i] = 1;
    to[s->start] = 1;
    for (size_t i = 0; i < n; i++) to[roots[i]] = 1;
    for (uint32_t i = s->n_sets; i-- > SRN__FIRST_SET;) {
        const srn__set *x = &s->sets[i];
        for (uint32_t k = 0; to[i] && k < x->n_bytes + x->n_calls; k++) {
            uint32_t origin = s->items[x->items + k].origin;
            if (origin != SRN__SELF) to[origin] = 1;
        }
    }
}

/* Moves what is marked into fresh tables; to [n_sets] becomes the new numbers, SRN__UNKNOWN where there is
 * none. Numbers keep their order, so that items stay sorted. */
static void move_sets(srn__sets *s, uint32_t *to, srn__set *sets, srn__item *items, uint32_t *rows) {
    uint32_t n_sets = 0, n_items = 0, n_rows = 0, classes = s->p->n_classes;
    for (uint32_t i = 0; i < s->n_sets; i++) to[i] = to[i] ? n_sets++ : SRN__UNKNOWN;
    for (uint32_t i = 0; i < s->n_sets; i++) {
        srn__set x = s->sets[i];
        if (to[i] == SRN__UNKNOWN) continue;
        uint32_t n = x.n_bytes + x.n_calls, at = n_items;
        for (uint32_t k = 0; k < n; k++) {
            srn__item item = s->items[x.items + k];
            if (item.origin != SRN__SELF) item.origin = to[item.origin];
            items[n_items++] = item;
        }
        x.items = at;
        if (x.row != SRN__NO_ROW) {
            const uint32_t *row = s->rows + (size_t)x.row * classes;
            for (uint32_t k = 0; k < classes; k++)
                rows[(size_t)n_rows * classes + k] = row[k] == SRN__UNKNOWN ? row[k] : to[row[k]];
            x.row = n_rows++;
        }
        sets[to[i]] = x;
    }
    s->start = to[s->start];
    s->n_sets = n_sets;
    s->n_items = n_items;
    s->n_rows = n_rows;
}

int srn__sets_collect(srn__sets *s, uint32_t *roots, size_t n, srn_err *err) {
    uint32_t classes = s->p->n_classes, kept = 0, kept_items = 0, kept_rows = 0;
    uint32_t *to = srn_calloc(s->n_sets, sizeof *to);
    if (!to) return srn_fail_nomem(err, s->n_sets * sizeof *to);
    mark(s, roots, n, to);
    for (uint32_t i = 0; i < s->n_sets; i++) {
        kept += to[i];
        kept_items += to[i] ? s->sets[i].n_bytes + s->sets[i].n_calls : 0;
        kept_rows += to[i] && s->sets[i].row != SRN__NO_ROW;
    }
    srn__set *sets = srn_calloc(kept, sizeof *sets);
    srn__item *items = srn_calloc(kept_items, sizeof *items);
    uint32_t *rows = srn_calloc((size_t)kept_rows * classes, sizeof *rows);
    uint32_t size = 256;
    while (size <= 2 * kept) size *= 2;
    uint32_t *table = srn_calloc(size / 2, sizeof *table);
    if (!sets || !items || !rows || !table) {
        free(to), free(sets), free(items), free(rows), free(table);
        return srn_fail_nomem(err, kept_items * sizeof *items);
    }
    move_sets(s, to, sets, items, rows);
    for (size_t i = 0; i < n; i++) roots[i] = to[roots[i]];
    s->bytes -= s->cap_sets * sizeof *sets + s->cap_items * sizeof *items + s->cap_rows * sizeof *rows +
                s->table_size * sizeof *table;
    free(to), free(s->sets), free(s->items), free(s->rows), free(s->table);
    s->sets = sets;
    s->items = items;
    s->rows = rows;
    s->table = table;
    s->cap_sets = kept;
    s->cap_items = kept_items;
    s->cap_rows = kept_rows * classes;
    s->table_size = size / 2;
    s->bytes += s->cap_sets * sizeof *sets + s->cap_items * sizeof *items + s->cap_rows * sizeof *rows +
                s->table_size * sizeof *table;
    if (grow_table(s)) return SRN_OK;
    int code = s->failed;
    s->failed = 0;
    return srn_fail(err, code, "out of memory for the state of a constraint");
}
