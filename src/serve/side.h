/* What two programs of serin say to each other where one answers for a side of the other's regression
 * (docs/regress.md): lines of JSON, each an object. Here they become structs and texts again; the pipes are
 * the command's. Pure; any thread.
 */
#ifndef SRN_SERVE_SIDE_H
#define SRN_SERVE_SIDE_H

#include "serve/replay.h"

enum { SRN_SIDE_PROTOCOL = 1, SRN_SIDE_LINE = 64 << 20 };

/* ---- what the asking program says ---- */

typedef enum srn_side_word { SRN_SIDE_OPEN, SRN_SIDE_ASK, SRN_SIDE_ROWS } srn_side_word;
typedef struct srn_side_request {
    srn_side_word word;
    uint32_t id;  /* of an ask or rows, from 1 on: the answer has it too */
    json_t *json; /* owned; what texts point into */
    /* open */
    const char *model, *kv, *ledger, *keys; /* NULL: not given */
    uint32_t threads, ctx, parallel;
    /* ask */
    srn_replay_ask ask;
    srn_prompt_ref prompt;
    /* rows */
    int32_t *tokens; /* owned */
    uint32_t n_tokens, n_rows;
} srn_side_request;
/* Each appends one line with its end. */
void srn_side_put_open(srn_buf *b, const srn_side_request *q);
void srn_side_put_ask(srn_buf *b, uint32_t id, const srn_replay_ask *ask);
void srn_side_put_rows(srn_buf *b, uint32_t id, const int32_t *tokens, uint32_t n, uint32_t n_rows);
/* SRN_EFORMAT: it is none of these. *ret must be done on success. */
int srn_side_read_request(srn_str line, srn_side_request *ret, srn_err *err);
void srn_side_request_done(srn_side_request *q);

/* ---- what the answering one says ---- */

typedef enum srn_side_kind {
    SRN_SIDE_HELLO, /* first of all */
    SRN_SIDE_PROGRESS,
    SRN_SIDE_OPENED,
    SRN_SIDE_ANSWERED,
    SRN_SIDE_ROWS_OF,
    SRN_SIDE_FAILED /* id 0: the model could not be opened */
} srn_side_kind;
typedef struct srn_side_reply {
    srn_side_kind kind;
    uint32_t id;
    srn_ids ids; /* opened; kv is: */
    char kv[16];
    uint32_t n_vocab;
    char what[40]; /* progress */
    uint64_t done, total;
    srn_replay_answer answer; /* owned; finish is a constant */
    float *rows;              /* owned: [n_values] */
    uint32_t n_values;
    srn_err err; /* failed */
} srn_side_reply;
void srn_side_put_hello(srn_buf *b);
void srn_side_put_progress(srn_buf *b, const char *what, uint64_t done, uint64_t total);
void srn_side_put_opened(srn_buf *b, const srn_ids *ids, uint32_t n_vocab);
void srn_side_put_answer(srn_buf *b, uint32_t id, const srn_replay_answer *a);
void srn_side_put_values(srn_buf *b, uint32_t id, const float *rows, uint32_t n_values);
void srn_side_put_failed(srn_buf *b, uint32_t id, const srn_err *err);
int srn_side_read_reply(srn_str line, srn_side_reply *ret, srn_err *err);
void srn_side_reply_done(srn_side_reply *r);

#endif
