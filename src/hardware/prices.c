/* The user's two files: what the cloud charges (prices.yaml) and what machines of one's own cost
 * (costs.yaml). Tables of keys, one a mapping, say what each value is and where it goes. Pure. Refuses
 * unknown keys, missing ones and values out of range, with file, line and key.
 */
#include <math.h>
#include <stdlib.h>

#include "config/yaml.h"
#include "hardware/advise.h"

enum { MAX_DEPTH = 8, ARENA_BYTES = 4 << 20, PATH_BYTES = 128, MOST_SPARE = 64 };
#define NO_PRICE (-1.0) /* cached tokens without a price of their own cost what input does */

typedef enum kind { TEXT, DATE, RANGE, COUNT, ITEMS, MAPPING } kind;

/* A key of a mapping; its value goes to the struct's byte `at`. Of ITEMS and MAPPING `at` is not used: who
 * reads the mapping reads them. */
typedef struct field {
    const char *key;
    kind kind;
    size_t at;
    double min, max;
    bool required;
} field;

typedef struct reader {
    srn_yaml *y;
    const char *file;
    srn_arena *arena;
    srn_err *err;
} reader;

#define F(type, key, kind, member, min, max, required)                                                       \
    { key, kind, offsetof(type, member), min, max, required }
#define SUB(key, kind, required)                                                                             \
    { key, kind, 0, 0, 0, required }

static const field prices_fields[] = {
    F(srn_prices, "currency", TEXT, currency, 1, 8, true),
    F(srn_prices, "date", DATE, date, 0, 0, true),
    SUB("offers", ITEMS, true),
};
#define PRICE(key, i, required)                                                                              \
    { key, RANGE, offsetof(srn_offer, tiers[0].price[i]), 0, 1e6, required }
static const field offer_fields[] = {
    F(srn_offer, "provider", TEXT, provider, 1, 63, true),
    F(srn_offer, "model", TEXT, model, 1, 127, true),
    F(srn_offer, "source", TEXT, source, 1, 500, true),
    F(srn_offer, "date", DATE, date, 0, 0, true),
    F(srn_offer, "token_ratio", RANGE, token_ratio, 0.1, 10, true),
    PRICE("input", SRN_PRICE_INPUT, true),
    PRICE("cached_read", SRN_PRICE_CACHED_READ, false),
    PRICE("cached_write", SRN_PRICE_CACHED_WRITE, false),
    PRICE("output", SRN_PRICE_OUTPUT, true),
    F(srn_offer, "cache_hit", RANGE, cache_hit, 0, 1, false),
    F(srn_offer, "cache_written", RANGE, cache_written, 0, 1, false),
    F(srn_offer, "batch", RANGE, batch, 0, 1, false),
    F(srn_offer, "availability", RANGE, availability, 0.5, 1, false),
    SUB("long", ITEMS, false),
};
typedef struct tier { /* as in srn_offer, which has no name for it */
    srn_bounds above, price[SRN_PRICE_END];
} tier;
static const field tier_fields[] = {
    F(tier, "above", RANGE, above, 1, 1e8, true),
    F(tier, "input", RANGE, price[SRN_PRICE_INPUT], 0, 1e6, true),
    F(tier, "cached_read", RANGE, price[SRN_PRICE_CACHED_READ], 0, 1e6, false),
    F(tier, "cached_write", RANGE, price[SRN_PRICE_CACHED_WRITE], 0, 1e6, false),
    F(tier, "output", RANGE, price[SRN_PRICE_OUTPUT], 0, 1e6, true),
};

static const field costs_fields[] = {
    F(srn_costs, "currency", TEXT, currency, 1, 8, true),
    F(srn_costs, "date", DATE, date, 0, 0, true),
    F(srn_costs, "spare", COUNT, spare, 0, MOST_SPARE, false),
    F(srn_costs, "utilisation", RANGE, utilisation, 0.01, 1, false),
    F(srn_costs, "site_availability", RANGE, site, 0.5, 1, false),
    SUB("electricity", MAPPING, true),
    SUB("staff", MAPPING, true),
    SUB("machines", ITEMS, true),
};
static const field electricity_fields[] = {
    F(srn_costs, "price_per_kwh", RANGE, kwh, 0, 1e4, true),
    F(srn_costs, "pue", RANGE, pue, 1, 5, false),
};
static const field staff_fields[] = {
    F(srn_costs, "hours_per_month", RANGE, staff_hours, 0, 1e4, true),
    F(srn_costs, "price_per_hour", RANGE, staff_price, 0, 1e5, true),
};
typedef struct repair {
    srn_bounds mtbf, mttr; /* hours */
} repair;
static const field machine_fields[] = {
    F(srn_owned, "name", TEXT, name, 1, 63, true),
    F(srn_owned, "source", TEXT, source, 1, 500, false),
    F(srn_owned, "date", DATE, date, 0, 0, false),
    F(srn_owned, "price", RANGE, price, 0, 1e9, true),
    F(srn_owned, "resale", RANGE, resale, 0, 1, false),
    F(srn_owned, "life_years", RANGE, life_years, 0.1, 50, true),
    F(srn_owned, "hosting_per_month", RANGE, hosting, 0, 1e7, false),
    F(srn_owned, "watts_idle", RANGE, watts_idle, 0, 1e5, true),
    F(srn_owned, "availability", RANGE, availability, 0.5, 1, false),
    SUB("joules_per_token", MAPPING, true),
    SUB("repair", MAPPING, false),
    SUB("capacity", MAPPING, false),
};
static const field joules_fields[] = {
    F(srn_owned, "prefill", RANGE, prefill_joules, 0, 1e6, true),
    F(srn_owned, "decode", RANGE, decode_joules, 0, 1e6, true),
};
static const field repair_fields[] = {
    F(repair, "mtbf_hours", RANGE, mtbf, 1, 1e9, true),
    F(repair, "mttr_hours", RANGE, mttr, 0, 1e6, true),
};
static const field capacity_fields[] = {
    F(srn_capacity, "prefill_tok_per_s", RANGE, prefill_tok_per_s, 1e-3, 1e9, true),
    F(srn_capacity, "decode_tok_per_s", RANGE, decode_tok_per_s, 1e-3, 1e9, true),
    F(srn_capacity, "parallel", RANGE, parallel, 1, 1e6, true),
};

/* ---- one value ---- */

static int fail_at(const reader *r, const char *path, const char *fmt, ...) SRN_PRINTF(3, 4);
static int fail_at(const reader *r, const char *path, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    int code = srn_vfail(r->err, SRN_EFORMAT, fmt, ap);
    va_end(ap);
    return srn_fail_prefix(r->err, code, "%.200s:%u: %s", r->file, srn_yaml_line(r->y, path),
                           *path ? path : "the file");
}

/* A number, or for shares "99.9%". */
static bool number_of(const json_t *j, double *ret) {
    const char *text = json_string_value(j);
    char *end;
    if (json_is_number(j)) return *ret = json_number_value(j), true;
    if (!text || !*text || strlen(text) > 20 || text[strspn(text, "0123456789.")] != '%') return false;
    *ret = strtod(text, &end) / 100;
    return end != text && strcmp(end, "%") == 0;
}

static int read_range(const reader *r, const char *path, const field *f, const json_t *j, srn_bounds *to) {
    srn_bounds v;
    bool two = json_is_array(j) && json_array_size(j) == 2;
    if (!number_of(two ? json_array_get(j, 0) : j, &v.low) ||
        !number_of(two ? json_array_get(j, 1) : j, &v.high))
        return fail_at(r, path, "needs a number, or [at least, at most]");
    if (!(v.low >= f->min) || !(v.high <= f->max) || !(v.low <= v.high))
        return fail_at(r, path, "must be from %.12g to %.12g%s", f->min, f->max,
                       two ? ", the smaller one first" : "");
    *to = v;
    return SRN_OK;
}

static int read_text(const reader *r, const char *path, const field *f, const json_t *j, const char **to) {
    const char *text = json_string_value(j);
    size_t n = json_string_length(j);
    if (!text) return fail_at(r, path, "needs a text; a number that is one stands in quotes");
    if ((double)n < f->min || (double)n > f->max || strlen(text) != n)
        return fail_at(r, path, "must have from %.0f to %.0f bytes", f->min, f->max);
    *to = srn_arena_strndup(r->arena, text, n);
    return *to ? SRN_OK : srn_fail_nomem(r->err, n);
}

static int read_date(const reader *r, const char *path, const json_t *j, const char **to) {
    static const field any = {.min = 10, .max = 10};
    const char *text = json_string_value(j), *form = "0000-00-00";
    bool good = text && strlen(text) == 10;
    for (size_t i = 0; good && form[i]; i++)
        good = form[i] == '-' ? text[i] == '-' : text[i] >= '0' && text[i] <= '9';
    return good ? read_text(r, path, &any, j, to)
                : fail_at(r, path, "needs a date like 2026-11-23: the day on which it was so");
}

static int read_count(const reader *r, const char *path, const field *f, const json_t *j, uint32_t *to) {
    json_int_t v = json_integer_value(j);
    if (!json_is_integer(j) || (double)v < f->min || (double)v > f->max)
        return fail_at(r, path, "needs a whole number from %.0f to %.0f", f->min, f->max);
    *to = (uint32_t)v;
    return SRN_OK;
}

static int read_field(const reader *r, const char *path, const field *f, const json_t *j, void *base) {
    void *to = (char *)base + f->at;
    switch (f->kind) {
    case TEXT:
        return read_text(r, path, f, j, to);
    case DATE:
        return read_date(r, path, j, to);
    case RANGE:
        return read_range(r, path, f, j, to);
    case COUNT:
        return read_count(r, path, f, j, to);
    case ITEMS:
        return json_is_array(j) && json_array_size(j)
                   ? SRN_OK
                   : fail_at(r, path, "needs a list of mappings, at least one");
    case MAPPING:
        return SRN_OK;
    }
    return SRN_OK;
}

/* ---- a mapping ---- */

static void path_of(char path[PATH_BYTES], const char *where, const char *key) {
    snprintf(path, PATH_BYTES, "%s%s%.40s", where, *where ? "." : "", key);
}

static int read_fields(const reader *r, const char *where, const json_t *o, const field *fields, size_t n,
                       void *base) {
    char path[PATH_BYTES];
    const char *key;
    json_t *j;
    if (!json_is_object(o)) return fail_at(r, where, "needs a mapping");
    json_object_foreach((json_t *)(uintptr_t)o, key, j) {
        const field *f = NULL;
        path_of(path, where, key);
        for (size_t i = 0; i < n && !f; i++)
            if (strcmp(fields[i].key, key) == 0) f = &fields[i];
        if (!f) {
            srn_buf known;
            srn_buf_init(&known, 400);
            for (size_t i = 0; i < n; i++) srn_buf_addf(&known, "%s%s", i ? ", " : "", fields[i].key);
            int code = fail_at(r, path, "there is no such key; known are: %s", known.len ? known.data : "");
            srn_buf_done(&known);
            return code;
        }
        int code = read_field(r, path, f, j, base);
        if (code) return code;
    }
    for (size_t i = 0; i < n; i++)
        if (fields[i].required && !json_object_get(o, fields[i].key))
            return fail_at(r, where, "%s is missing", fields[i].key);
    return SRN_OK;
}

/* The mapping under a key of o, if it is there. */
static int read_below(const reader *r, const char *where, const json_t *o, const char *key,
                      const field *fields, size_t n, void *base) {
    char path[PATH_BYTES];
    const json_t *below = json_object_get(o, key);
    path_of(path, where, key);
    return below ? read_fields(r, path, below, fields, n, base) : SRN_OK;
}

/* A file: its text as JSON with lines. The caller gives both back by end_file. */
static int begin_file(reader *r, srn_str text, json_t **ret) {
    int code = srn_yaml_parse(text, r->file, MAX_DEPTH, &r->y, r->err);
    if (!code) code = srn_yaml_json(r->y, ret, r->err);
    return code;
}

static void end_file(reader *r, json_t *root) {
    json_decref(root);
    srn_yaml_free(r->y);
}

/* ---- prices.yaml ---- */

static int read_tiers(const reader *r, const char *where, const json_t *list, srn_offer *o) {
    char path[PATH_BYTES];
    size_t i;
    json_t *j;
    json_array_foreach(list, i, j) {
        tier t = {.price = {[SRN_PRICE_CACHED_READ] = {NO_PRICE, NO_PRICE},
                            [SRN_PRICE_CACHED_WRITE] = {NO_PRICE, NO_PRICE}}};
        snprintf(path, sizeof path, "%.40s.long[%u]", where, (unsigned)i);
        if (o->n_tiers == SRN_ADVISE_MOST_TIERS)
            return fail_at(r, path, "there are more than %d tiers", SRN_ADVISE_MOST_TIERS - 1);
        int code = read_fields(r, path, j, tier_fields, SRN_LEN(tier_fields), &t);
        if (code) return code;
        if (t.above.low != t.above.high) return fail_at(r, path, "above: needs one number");
        if (t.above.low <= o->tiers[o->n_tiers - 1].above)
            return fail_at(r, path, "above: must be more than that of the tier before");
        o->tiers[o->n_tiers].above = t.above.low;
        memcpy(o->tiers[o->n_tiers].price, t.price, sizeof t.price);
        o->n_tiers++;
    }
    return SRN_OK;
}

static int read_offer(const reader *r, uint32_t i, const json_t *j, srn_offer *o) {
    char where[PATH_BYTES];
    const srn_bounds unset = {NO_PRICE, NO_PRICE};
    snprintf(where, sizeof where, "offers[%u]", i);
    *o = (srn_offer){
        .n_tiers = 1, .line = srn_yaml_line(r->y, where), .cache_hit = unset, .cache_written = unset};
    o->tiers[0].price[SRN_PRICE_CACHED_READ] = unset;
    o->tiers[0].price[SRN_PRICE_CACHED_WRITE] = unset;
    int code = read_fields(r, where, j, offer_fields, SRN_LEN(offer_fields), o);
    if (code) return code;
    o->has_batch = json_object_get(j, "batch") != NULL;
    o->has_availability = json_object_get(j, "availability") != NULL;
    bool reads = o->tiers[0].price[SRN_PRICE_CACHED_READ].low >= 0,
         writes = o->tiers[0].price[SRN_PRICE_CACHED_WRITE].low >= 0;
    if (o->cache_hit.low < 0) o->cache_hit = (srn_bounds){0, reads ? 1 : 0};
    if (o->cache_written.low < 0) o->cache_written = (srn_bounds){0, writes ? 1 : 0};
    return read_tiers(r, where, json_object_get(j, "long"), o);
}

static int read_prices(const reader *r, const json_t *root, srn_prices *p) {
    const json_t *list = json_object_get(root, "offers");
    int code = read_fields(r, "", root, prices_fields, SRN_LEN(prices_fields), p);
    if (code) return code;
    if (json_array_size(list) > SRN_ADVISE_MOST_OFFERS)
        return fail_at(r, "offers", "there are more than %d", SRN_ADVISE_MOST_OFFERS);
    p->n = (uint32_t)json_array_size(list);
    p->offers = srn_arena_alloc(r->arena, p->n * sizeof *p->offers);
    if (!p->offers) return srn_fail_nomem(r->err, p->n * sizeof *p->offers);
    for (uint32_t i = 0; !code && i < p->n; i++)
        code = read_offer(r, i, json_array_get(list, i), &p->offers[i]);
    return code;
}

int srn_prices_parse(srn_str text, const char *file, srn_prices *ret, srn_err *err) {
    json_t *root = NULL;
    *ret = (srn_prices){.n = 0};
    srn_arena_init(&ret->arena, ARENA_BYTES);
    reader r = {.file = file, .arena = &ret->arena, .err = err};
    int code = begin_file(&r, text, &root);
    if (!code) code = read_prices(&r, root, ret);
    end_file(&r, root);
    if (code) srn_prices_done(ret);
    return code;
}

void srn_prices_done(srn_prices *p) {
    srn_arena_done(&p->arena);
    *p = (srn_prices){.n = 0};
}

/* ---- costs.yaml ---- */

static int read_availability(const reader *r, const char *where, const json_t *j, srn_owned *m) {
    repair fix = {.mtbf = {0, 0}};
    bool given = json_object_get(j, "availability") != NULL, rates = json_object_get(j, "repair") != NULL;
    if (given && rates)
        return fail_at(r, where, "availability and repair both say how often it is down; give one");
    int code = read_below(r, where, j, "repair", repair_fields, SRN_LEN(repair_fields), &fix);
    if (!code && rates)
        m->availability = (srn_bounds){fix.mtbf.low / (fix.mtbf.low + fix.mttr.high),
                                       fix.mtbf.high / (fix.mtbf.high + fix.mttr.low)};
    m->has_availability = given || rates;
    return code;
}

static int read_machine(const reader *r, uint32_t i, const json_t *j, srn_owned *m) {
    char where[PATH_BYTES];
    snprintf(where, sizeof where, "machines[%u]", i);
    *m = (srn_owned){.source = "", .date = "", .line = srn_yaml_line(r->y, where)};
    int code = read_fields(r, where, j, machine_fields, SRN_LEN(machine_fields), m);
    if (!code) code = read_below(r, where, j, "joules_per_token", joules_fields, SRN_LEN(joules_fields), m);
    if (!code)
        code = read_below(r, where, j, "capacity", capacity_fields, SRN_LEN(capacity_fields), &m->capacity);
    if (!code && json_object_get(j, "capacity")) m->capacity.source = SRN_FACT_GIVEN;
    return code ? code : read_availability(r, where, j, m);
}

static int read_costs(const reader *r, const json_t *root, srn_costs *c) {
    const json_t *list = json_object_get(root, "machines");
    int code = read_fields(r, "", root, costs_fields, SRN_LEN(costs_fields), c);
    if (!code)
        code = read_below(r, "", root, "electricity", electricity_fields, SRN_LEN(electricity_fields), c);
    if (!code) code = read_below(r, "", root, "staff", staff_fields, SRN_LEN(staff_fields), c);
    if (code) return code;
    if (json_array_size(list) > SRN_ADVISE_MOST_OFFERS)
        return fail_at(r, "machines", "there are more than %d", SRN_ADVISE_MOST_OFFERS);
    c->n = (uint32_t)json_array_size(list);
    c->machines = srn_arena_alloc(r->arena, c->n * sizeof *c->machines);
    if (!c->machines) return srn_fail_nomem(r->err, c->n * sizeof *c->machines);
    for (uint32_t i = 0; !code && i < c->n; i++)
        code = read_machine(r, i, json_array_get(list, i), &c->machines[i]);
    return code;
}

int srn_costs_parse(srn_str text, const char *file, srn_costs *ret, srn_err *err) {
    json_t *root = NULL;
    *ret = (srn_costs){.pue = {1, 1}, .utilisation = {0.8, 0.8}, .site = {1, 1}};
    srn_arena_init(&ret->arena, ARENA_BYTES);
    reader r = {.file = file, .arena = &ret->arena, .err = err};
    int code = begin_file(&r, text, &root);
    if (!code) code = read_costs(&r, root, ret);
    end_file(&r, root);
    if (code) srn_costs_done(ret);
    return code;
}

void srn_costs_done(srn_costs *c) {
    srn_arena_done(&c->arena);
    *c = (srn_costs){.n = 0};
}
