/* Questions to SQLite: a text with its parameters in, rows of cells out. Used by readers on their thread and
 * by the writer for roll-ups. The last few statements are kept, for roll-ups ask the same ones over and over.
 */
#include "ledger/sqlite_internal.h"

enum { MAX_CELLS = 40 };

static sqlite3_stmt *find_kept(srn__sqlite_db *d, const char *sql) {
    for (size_t i = 0; i < SRN_LEN(d->kept); i++)
        if (d->kept[i] && strcmp(sqlite3_sql(d->kept[i]), sql) == 0) return d->kept[i];
    return NULL;
}

static int prepare(srn__sqlite_db *d, const srn__sql *q, sqlite3_stmt **ret, srn_err *err) {
    *ret = find_kept(d, q->text.data);
    if (*ret) return SRN_OK;
    int code = srn__sqlite_prepare(d->db, q->text.data, ret, err);
    if (code) return code;
    uint32_t i = d->next++ % SRN_LEN(d->kept);
    sqlite3_finalize(d->kept[i]);
    d->kept[i] = *ret;
    return SRN_OK;
}

/* "$1" is a name to SQLite, and names get their numbers in the order in which they appear. */
static int bind(srn__sqlite_db *d, sqlite3_stmt *s, const srn__sql *q, srn_err *err) {
    for (uint32_t i = 0; i < q->n_params; i++) {
        const srn__param *p = &q->params[i];
        int rc =
            p->kind == SRN__PARAM_NUMBER ? sqlite3_bind_int64(s, (int)i + 1, p->number)
            : p->kind == SRN__PARAM_TEXT
                ? sqlite3_bind_text64(s, (int)i + 1, p->text.ptr, p->text.len, SQLITE_STATIC, SQLITE_UTF8)
                : sqlite3_bind_blob64(s, (int)i + 1, p->text.ptr, p->text.len, SQLITE_STATIC);
        if (rc != SQLITE_OK) return srn__sqlite_fail(err, d->db, "asking it");
    }
    return SRN_OK;
}

static void read_cells(sqlite3_stmt *s, srn__cell *cells, int n) {
    for (int i = 0; i < n; i++) {
        cells[i] = (srn__cell){.text = {"", 0}};
        switch (sqlite3_column_type(s, i)) {
        case SQLITE_INTEGER:
            cells[i].number = sqlite3_column_int64(s, i);
            break;
        case SQLITE_TEXT:
            cells[i].text.ptr = (const char *)sqlite3_column_text(s, i);
            cells[i].text.len = (size_t)sqlite3_column_bytes(s, i);
            break;
        case SQLITE_BLOB:
            cells[i].text = srn__sqlite_text(s, i);
            break;
        default:
            cells[i].is_null = true;
            break;
        }
        if (!cells[i].text.ptr) cells[i].text = SRN_STR("");
    }
}

static int ask(srn__db *base, const srn__sql *q, srn__cells_fn *fn, void *ctx, srn_err *err) {
    srn__sqlite_db *d = (srn__sqlite_db *)base;
    srn__cell cells[MAX_CELLS];
    sqlite3_stmt *s = NULL;
    int rc = SQLITE_DONE, code = prepare(d, q, &s, err);
    if (!code) code = bind(d, s, q, err);
    if (code) return code;
    int n = SRN_MIN(sqlite3_column_count(s), (int)MAX_CELLS);
    while ((rc = sqlite3_step(s)) == SQLITE_ROW) {
        read_cells(s, cells, n);
        if (!fn || !fn(ctx, cells)) {
            rc = SQLITE_DONE;
            break;
        }
    }
    if (rc != SQLITE_DONE) code = srn__sqlite_fail(err, d->db, "asking it");
    sqlite3_reset(s);
    sqlite3_clear_bindings(s);
    return code;
}

static int snapshot(srn__db *base, bool begin, srn_err *err) {
    srn__sqlite_db *d = (srn__sqlite_db *)base;
    if (sqlite3_exec(d->db, begin ? "BEGIN" : "COMMIT", NULL, NULL, NULL) == SQLITE_OK) return SRN_OK;
    return srn__sqlite_fail(err, d->db, "asking it");
}

void srn__sqlite_db_init(srn__sqlite_db *d, sqlite3 *db) {
    *d = (srn__sqlite_db){.head = {ask, snapshot}, .db = db};
}

void srn__sqlite_db_done(srn__sqlite_db *d) {
    for (size_t i = 0; i < SRN_LEN(d->kept); i++) sqlite3_finalize(d->kept[i]);
    *d = (srn__sqlite_db){0};
}
