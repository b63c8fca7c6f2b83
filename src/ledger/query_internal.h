/* ledger, inside: what asks the ledger. A filter is parsed by filter.c and filter_value.c, and written as a
 * condition of SQL by filter_sql.c, with parameters $1, $2, ... in the order in which they appear, so that
 * SQLite and PostgreSQL take the same text. Sketches are the histograms of the roll-ups (sketch.c).
 */
#ifndef SRN_LEDGER_QUERY_INTERNAL_H
#define SRN_LEDGER_QUERY_INTERNAL_H

#include "ledger/ledger_internal.h"

/* ---- filters ---- */

typedef enum srn__field_kind {
    SRN__FIELD_TEXT,
    SRN__FIELD_DIGEST, /* hex, of which a beginning will do */
    SRN__FIELD_MEMBER, /* the same, of a member of the record's body that is no column */
    SRN__FIELD_WORD,   /* a word that such a member is */
    SRN__FIELD_FROM,   /* the model that is the member `from` of such a member */
    SRN__FIELD_PROMPT, /* NAME or NAME@VERSION */
    SRN__FIELD_COUNT,
    SRN__FIELD_STATUS, /* a count that may be 5xx */
    SRN__FIELD_SPAN,   /* of time, in microseconds */
    SRN__FIELD_FLAG,   /* true or false */
    SRN__FIELD_SINCE,
    SRN__FIELD_UNTIL
} srn__field_kind;

typedef struct srn__field {
    const char *name, *column; /* as it is asked for; in the tables of the store */
    srn__field_kind kind;
    bool rolled;      /* a column of roll-ups too */
    bool zero_absent; /* 0 stands for none: less than something, it is not */
} srn__field;

/* One alternative of a term. */
typedef struct srn__value {
    srn_str text;
    bool prefix;
    uint32_t version;    /* of prompts; 0: any */
    int64_t least, most; /* of numbers, both included */
} srn__value;

typedef struct srn__term {
    const srn__field *field;
    bool negated, contains;
    const srn__value *values;
    uint32_t n_values;
} srn__term;

enum { SRN__MAX_TERMS = 64, SRN__MAX_VALUES = 256, SRN__MAX_PARAMS = 2 * SRN__MAX_VALUES + 32 };

struct srn_filter {
    srn_arena arena;
    srn__term terms[SRN__MAX_TERMS];
    uint32_t n_terms, n_values;
    uint64_t since_us, until_us; /* begun in [since, until) */
};

/* A value where it stands in the text; errors name its column. */
typedef struct srn__place {
    srn_str text;    /* the value alone, without quotes */
    uint32_t column; /* from 1 on */
    const char *field;
} srn__place;
/* Each of these parses one value. SRN_EINVAL says what would have been one. */
int srn__value_time(const srn__place *p, uint64_t now_us, uint64_t *ret_us, srn_err *err);
int srn__value_span(const srn__place *p, uint64_t *ret_us, srn_err *err);
int srn__value_count(const srn__place *p, uint64_t *ret, srn_err *err);

/* Whether the roll-ups hold every column that the filter looks at; NULL is a filter that lets all through. */
bool srn__filter_rolled(const srn_filter *f);

typedef struct srn__param {
    enum { SRN__PARAM_NUMBER, SRN__PARAM_TEXT, SRN__PARAM_BYTES } kind;
    srn_str text; /* or bytes */
    int64_t number;
} srn__param;
typedef struct srn__sql {
    srn_buf text;
    srn__param params[SRN__MAX_PARAMS];
    uint32_t n_params;
    srn_arena arena; /* patterns that were made for it */
} srn__sql;
void srn__sql_init(srn__sql *q);
void srn__sql_done(srn__sql *q);
/* Appends "$n" for a value. */
void srn__sql_number(srn__sql *q, int64_t v);
void srn__sql_text(srn__sql *q, srn_str v); /* not copied */
void srn__sql_bytes(srn__sql *q, srn_str v);
/* Appends " AND (...)" for each term but those of time. f may be NULL. */
void srn__sql_filter(srn__sql *q, const srn_filter *f);
/* Only the terms of columns that roll-ups hold; false: there are none. */
bool srn__sql_filter_rolled(srn__sql *q, const srn_filter *f);
/* SRN_ENOMEM or SRN_ELIMIT where it did not become whole. */
int srn__sql_check(const srn__sql *q, srn_err *err);

/* One value of a row of an answer; valid until the next row. */
typedef struct srn__cell {
    int64_t number;
    srn_str text; /* of texts, which end in a NUL, and bytes; "" else */
    bool is_null;
} srn__cell;
typedef bool srn__cells_fn(void *ctx, const srn__cell *cells); /* false: no more rows */
/* A connection that takes questions: a store's, or a source's. */
typedef struct srn__db srn__db;
struct srn__db {
    /* Runs one statement; fn (may be NULL where none come) sees each row. */
    int (*ask)(srn__db *db, const srn__sql *q, srn__cells_fn *fn, void *ctx, srn_err *err);
    /* Between true and false every question sees the same moment. NULL: the caller has a transaction. */
    int (*snapshot)(srn__db *db, bool begin, srn_err *err);
};

/* ---- sketches ---- */

/* A histogram of whole numbers (microseconds) whose buckets are exact below 256 and 1/128 of an octave wide
 * above: the middle of a bucket is within 0.4 % of every value in it. Counts add up, so merging is exact. */
enum { SRN__SKETCH_BUCKETS = 256 + 36 * 128 }; /* up to 2^44 us, half a year; what is more counts as that */
typedef struct srn__sketch {
    uint64_t *counts; /* [n], of buckets first, first + 1, ... */
    uint32_t first, n;
    uint64_t total; /* values in it */
} srn__sketch;
void srn__varint_put(srn_buf *b, uint64_t v);
bool srn__varint_get(const uint8_t *p, size_t n, size_t *at, uint64_t *ret); /* false: cut off, or too long */
uint32_t srn__sketch_bucket(uint64_t v);
uint64_t srn__sketch_middle(uint32_t bucket);
void srn__sketch_done(srn__sketch *s);
/* false: out of memory. */
bool srn__sketch_add(srn__sketch *s, uint32_t bucket, uint64_t count);
/* Adds what srn__sketch_write has written, which begins at *at of the blob and ends where *at then points. */
int srn__sketch_read(srn__sketch *s, const uint8_t *blob, size_t n, size_t *at, srn_err *err);
void srn__sketch_write(const srn__sketch *s, srn_buf *ret);
/* The value at rank ceil(q * total), 0 < q <= 1; 0 where there is none. */
uint64_t srn__sketch_quantile(const srn__sketch *s, double q);

/* ---- what calls add up to (groups.c) ---- */

enum { SRN__MAX_GROUPS = 100000 };
typedef struct srn__sums {
    uint64_t calls, input, cached, output, reasoning;
    uint64_t sum_us[SRN_TIME_END];
    srn__sketch sketches[SRN_TIME_END];
} srn__sums;
void srn__sums_done(srn__sums *s);
/* false: out of memory. A time of 0 is none. */
bool srn__sums_call(srn__sums *s, const srn_call_row *row);
/* As bytes, and those added to what is there already. */
void srn__sums_write(const srn__sums *s, srn_buf *ret);
int srn__sums_read(srn__sums *s, srn_str bytes, srn_err *err);

/* The columns by which roll-ups are kept and calls can be grouped, in the order of srn_by; the first
 * SRN__N_ROLLED are those of roll-ups. */
typedef struct srn__by {
    const char *name, *column;
    bool number;
} srn__by;
extern const srn__by srn__bys[SRN_BY_END];
enum { SRN__N_ROLLED = SRN_BY_TENANT };

/* Sums by a key: texts of the columns asked for, and a moment. */
typedef struct srn__group {
    uint64_t start_us;
    const char *values[SRN_BY_END]; /* "" where it was not asked for */
    uint64_t hash, errors, aborted;
    srn__sums sums;
} srn__group;
typedef struct srn__groups {
    uint32_t by; /* bits 1 << SRN_BY_... */
    srn_arena arena;
    srn__group **list; /* in the order of coming */
    uint32_t *slots;   /* [n_slots], a power of two: index + 1, 0 is free */
    uint32_t n, cap, n_slots;
    uint64_t seed;
} srn__groups;
void srn__groups_init(srn__groups *g, uint32_t by);
void srn__groups_done(srn__groups *g);
/* The group of these values; values that are not asked for are not looked at. SRN_ELIMIT, SRN_ENOMEM. */
int srn__groups_get(srn__groups *g, uint64_t start_us, const srn_str values[SRN_BY_END], srn__group **ret,
                    srn_err *err);
/* Counts the outcome of n calls that have these values. */
void srn__group_outcome(srn__group *g, uint64_t n, const srn_str values[SRN_BY_END]);

/* ---- roll-ups (rollup.c) ---- */

/* The tables: statements, each ended by a semicolon. */
extern const char srn__rollup_schema[];
/* Adds calls that came since the last time, at most `limit`, in the caller's transaction; *ret_n is how many
 * these were. */
int srn__rollup_advance(srn__db *db, uint32_t limit, uint32_t *ret_n, srn_err *err);
/* Whether the calls up to *ret_mark may match what the filter asks of columns that roll-ups hold; when not,
 * no table needs to be read to know. */
int srn__rollup_may_match(srn__db *db, const srn_filter *f, uint64_t *ret_mark, bool *ret, srn_err *err);
/* The seq up to which they are whole. */
int srn__rollup_mark(srn__db *db, uint64_t *ret, srn_err *err);
/* Makes those that hold calls begun before us anew from the calls that are still there. */
int srn__rollup_forget(srn__db *db, uint64_t before_us, srn_err *err);

/* ---- reading (calls.c, stats.c) ---- */

/* The columns of `calls` that make a srn_call_row, in the order in which srn__call_cells reads them. */
extern const char srn__call_columns[];
enum { SRN__CALL_CELLS = 29 };
void srn__call_cells(const srn__cell *cells, srn_call_row *ret);
/* A call's values as texts, which point into the row and into this. */
typedef struct srn__values {
    srn_str list[SRN_BY_END];
    char version[12], status[12];
} srn__values;
void srn__call_values(const srn_call_row *row, srn__values *ret);
/* The connection of a reader. */
srn__db *srn__reader_db(srn_reader *r);
int srn__ask_calls(srn__db *db, const srn_filter *f, const uint8_t *before, uint32_t limit, srn_call_fn *fn,
                   void *ctx, srn_err *err);
int srn__ask_stats(srn__db *db, const srn_filter *f, const srn_stats_opts *o, srn_stats_fn *fn, void *ctx,
                   srn_err *err);

#endif
