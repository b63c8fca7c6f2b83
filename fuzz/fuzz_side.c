/* Fuzz target: lines that another program writes as a side of a regression, and those that it gets. What is
 * understood is written again and understood as the same. */
#include <stdlib.h>

#include "serve/side.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void write_again(srn_buf *b, const srn_side_reply *r) {
    if (r->kind == SRN_SIDE_ANSWERED) srn_side_put_answer(b, r->id, &r->answer);
    if (r->kind == SRN_SIDE_ROWS_OF) srn_side_put_values(b, r->id, r->rows, r->n_values);
    if (r->kind == SRN_SIDE_OPENED) srn_side_put_opened(b, &r->ids, r->n_vocab);
    if (r->kind == SRN_SIDE_PROGRESS) srn_side_put_progress(b, r->what, r->done, r->total);
    if (r->kind == SRN_SIDE_HELLO) srn_side_put_hello(b);
}

static void check_again(const srn_side_reply *r) {
    srn_buf b;
    srn_side_reply again = {0};
    srn_err err = {0};
    srn_buf_init(&b, 1 << 26);
    write_again(&b, r);
    if (b.len && !b.failed) {
        if (srn_side_read_reply((srn_str){b.data, b.len}, &again, &err)) abort();
        const srn_replay_answer *x = &r->answer, *y = &again.answer;
        if (again.kind != r->kind || again.n_values != r->n_values || again.n_vocab != r->n_vocab) abort();
        if (x->n_tokens != y->n_tokens || x->n_prompt != y->n_prompt || x->n_text != y->n_text) abort();
        if (x->n_text && memcmp(x->text, y->text, x->n_text) != 0) abort();
        if (x->n_tokens && memcmp(x->logits, y->logits, x->n_tokens * sizeof *x->logits) != 0) abort();
        srn_side_reply_done(&again);
    }
    srn_buf_done(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const srn_str line = {(const char *)data, size};
    srn_side_reply r;
    srn_side_request q;
    srn_err err = {0};
    if (size > 1 << 16) return 0;
    if (srn_side_read_reply(line, &r, &err) == SRN_OK) {
        check_again(&r);
        srn_side_reply_done(&r);
    } else if (!err.text[0]) {
        abort();
    }
    err = (srn_err){0};
    if (srn_side_read_request(line, &q, &err) == SRN_OK) {
        if (q.word == SRN_SIDE_ASK && !q.ask.request) abort();
        if (q.word == SRN_SIDE_ROWS && (!q.tokens || q.n_rows > q.n_tokens)) abort();
        srn_side_request_done(&q);
    } else if (!err.text[0]) {
        abort();
    }
    return 0;
}
