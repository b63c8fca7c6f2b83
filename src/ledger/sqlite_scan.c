/* SQLite as verify reads it: records in order with what stands beside them, in pieces, so that no long read
 * keeps the log from being moved into the database. A source belongs to its reader's thread.
 */
#include "ledger/sqlite_internal.h"

/* A text with a NUL inside is none that was written. */
static const char *whole_text(sqlite3_stmt *s, int column) {
    const char *text = (const char *)sqlite3_column_text(s, column);
    return text && strlen(text) == (size_t)sqlite3_column_bytes(s, column) ? text : "\x01";
}

static uint32_t get_u32(sqlite3_stmt *s, int column) {
    return (uint32_t)sqlite3_column_int64(s, column);
}

void srn__sqlite_call_row(sqlite3_stmt *s, int at, srn_call_row *ret) {
    srn_call_row r = {.begun_us = (uint64_t)sqlite3_column_int64(s, at + 1),
                      .status = sqlite3_column_int(s, at + 2)};
    srn_str id = srn__sqlite_text(s, at);
    if (id.len == sizeof r.id) memcpy(r.id, id.ptr, sizeof r.id);
    const char **const texts[] = {&r.finish,  &r.error,        &r.endpoint,     &r.route,
                                  &r.key,     &r.tenant,       &r.conversation, &r.model,
                                  &r.weights, &r.quantisation, &r.config,       &r.prompt};
    for (size_t i = 0; i < SRN_LEN(texts); i++) *texts[i] = whole_text(s, at + 3 + (int)i);
    at += 3 + (int)SRN_LEN(texts);
    r.version = get_u32(s, at);
    r.prompt_hash = whole_text(s, at + 1);
    r.experiment = whole_text(s, at + 2);
    r.arm = whole_text(s, at + 3);
    r.n_input = get_u32(s, at + 4);
    r.n_cached = get_u32(s, at + 5);
    r.n_output = get_u32(s, at + 6);
    r.n_reasoning = get_u32(s, at + 7);
    uint64_t *const times[] = {&r.queue_us, &r.ttft_us, &r.total_us, &r.itl_us, &r.itl_max_us};
    for (size_t i = 0; i < SRN_LEN(times); i++)
        *times[i] = (uint64_t)sqlite3_column_int64(s, at + 8 + (int)i);
    r.streamed = sqlite3_column_int(s, at + 13) != 0;
    *ret = r;
}

enum { BYTES_AT = 7, SEQ_AT = 8, DOC_AT = 9, CALL_AT = 13 };

static const char scan_sql[] =
    "SELECT " SRN__ROW_COLUMNS " FROM records r WHERE r.seq >= ? ORDER BY r.seq LIMIT ?";
static const char beside_sql[] =
    "SELECT " SRN__ROW_COLUMNS ", c.bytes, k.seq, d.collection, d.key, d.version,"
    " d.body, " SRN__CALL_COLUMNS " FROM records r"
    " LEFT JOIN contents c ON c.seq = r.seq LEFT JOIN calls k ON k.seq = r.seq"
    " LEFT JOIN docs d ON d.seq = r.seq AND r.kind = 3"
    " WHERE r.seq >= ? ORDER BY r.seq LIMIT ?";

static bool give(sqlite3_stmt *s, bool beside, srn__checked_fn *fn, void *ctx) {
    srn__checked c = {0};
    srn_call_row call;
    srn_ledger_doc doc;
    srn__sqlite_row(s, 0, &c.row);
    if (beside) {
        c.has_bytes = sqlite3_column_type(s, BYTES_AT) != SQLITE_NULL;
        c.bytes = srn__sqlite_text(s, BYTES_AT);
        if (sqlite3_column_type(s, SEQ_AT) != SQLITE_NULL) {
            srn__sqlite_call_row(s, CALL_AT, &call);
            c.call = &call;
        }
        if (sqlite3_column_type(s, DOC_AT) != SQLITE_NULL) {
            doc = (srn_ledger_doc){whole_text(s, DOC_AT), whole_text(s, DOC_AT + 1), get_u32(s, DOC_AT + 2),
                                   srn__sqlite_text(s, DOC_AT + 3)};
            c.doc = &doc;
        }
    }
    return fn(ctx, &c);
}

int srn__sqlite_scan(srn__source *base, uint64_t from, uint32_t limit, bool beside, srn__checked_fn *fn,
                     void *ctx, uint32_t *ret_n, srn_err *err) {
    sqlite3 *db = ((srn__sqlite_source_of *)base)->db;
    sqlite3_stmt *s = NULL;
    uint32_t n = 0;
    int rc = SQLITE_DONE, code = srn__sqlite_prepare(db, beside ? beside_sql : scan_sql, &s, err);
    if (code) return code;
    sqlite3_bind_int64(s, 1, (sqlite3_int64)from);
    sqlite3_bind_int64(s, 2, limit);
    bool more = true;
    while (more && (rc = sqlite3_step(s)) == SQLITE_ROW) {
        n++;
        more = give(s, beside, fn, ctx);
    }
    if (more && rc != SQLITE_DONE) code = srn__sqlite_fail(err, db, "reading records");
    sqlite3_finalize(s);
    if (!code) *ret_n = n;
    return code;
}

int srn__sqlite_epoch(srn__source *base, uint64_t epoch, uint64_t *ret_first, bool *ret_has_parent,
                      uint8_t ret_parent[SRN_SHA256_BYTES], srn_err *err) {
    sqlite3 *db = ((srn__sqlite_source_of *)base)->db;
    sqlite3_stmt *s = NULL;
    int code = srn__sqlite_prepare(db, "SELECT first_seq, parent FROM epochs WHERE epoch = ?", &s, err);
    if (code) return code;
    sqlite3_bind_int64(s, 1, (sqlite3_int64)epoch);
    int rc = sqlite3_step(s);
    if (rc == SQLITE_ROW) {
        srn_str parent = srn__sqlite_text(s, 1);
        *ret_first = (uint64_t)sqlite3_column_int64(s, 0);
        *ret_has_parent = parent.len == SRN_SHA256_BYTES;
        if (*ret_has_parent) memcpy(ret_parent, parent.ptr, SRN_SHA256_BYTES);
    } else {
        code = rc == SQLITE_DONE
                   ? srn_fail(err, SRN_ENOENT, "the ledger has no epoch %llu", (unsigned long long)epoch)
                   : srn__sqlite_fail(err, db, "reading epochs");
    }
    sqlite3_finalize(s);
    return code;
}

int srn__sqlite_stray(srn__source *base, uint64_t *ret_seq, srn_err *err) {
    static const char sql[] =
        "SELECT coalesce(min(seq), 0) FROM ("
        " SELECT min(k.seq) AS seq FROM calls k LEFT JOIN records r ON r.seq = k.seq AND r.kind = 2"
        "  WHERE r.seq IS NULL"
        " UNION ALL SELECT min(c.seq) FROM contents c LEFT JOIN records r ON r.seq = c.seq WHERE r.seq IS "
        "NULL"
        " UNION ALL SELECT min(d.seq) FROM docs d LEFT JOIN records r ON r.seq = d.seq AND r.kind = 3"
        "  WHERE r.seq IS NULL)";
    return srn__sqlite_number(((srn__sqlite_source_of *)base)->db, sql, ret_seq, err);
}
