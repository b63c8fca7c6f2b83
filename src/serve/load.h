/* A load of one's own prompts on whoever speaks the OpenAI API: what is asked (load_asks.c), when
 * (load_schedule.c), how it is sent and measured (load.c), what it adds up to (load_sum.c). Times are taken
 * where bytes arrive, by the thread of client.h's streams, so that they do not depend on how long an answer
 * is looked at. One thread calls; schedule and sums are pure.
 */
#ifndef SRN_SERVE_LOAD_H
#define SRN_SERVE_LOAD_H

#include <jansson.h>

#include "base/base.h"
#include "client/client.h"
#include "ledger/ledger.h"
#include "prompts/checks.h"

/* ---- what is asked (load_asks.c) ---- */

typedef struct srn_load_ask {
    char *id;
    json_t *body;       /* of the request, but for model and stream */
    bool completion;    /* for /v1/completions; else a chat */
    srn_checks *checks; /* its own; NULL: none */
    bool counted;       /* the counts of a recorded call: */
    uint32_t n_input, n_cached, n_output;
} srn_load_ask;
typedef struct srn_load_asks {
    srn_load_ask *items;
    size_t n, cap;
    size_t limit;   /* most of them; more are left out. 0: any number */
    size_t without; /* calls that were left out: their content was not kept */
    bool raw;       /* prompts by themselves are completions, and no chats */
} srn_load_asks;
void srn_load_asks_done(srn_load_asks *a);
/* A file of lines: "a prompt", {"prompt"}, {"messages"}, both with further keys of a request and with "id"
 * and "checks", or what `serin calls export` writes. SRN_EFORMAT names file and line. */
int srn_load_asks_lines(srn_load_asks *a, srn_str text, const char *file, srn_err *err);
/* Recorded calls that were answered, newest first. */
int srn_load_asks_calls(srn_load_asks *a, srn_reader *r, const char *filter, srn_err *err);
/* The body as it goes out, a new reference: streamed, with the model's name, and where the request does not
 * say, greedy and of at most max_tokens. nonce NULL: what was cached may be used; else a text before the
 * prompt that no other request has. */
json_t *srn_load_body(const srn_load_ask *a, const char *model, uint32_t max_tokens, const char *nonce);

/* ---- when (load_schedule.c) ---- */

typedef enum srn_load_kind {
    SRN_LOAD_CLOSED, /* as many at once; the next one goes when one is answered */
    SRN_LOAD_EVEN,   /* so many a second, whatever becomes of them */
    SRN_LOAD_POISSON /* the same in the mean, at random */
} srn_load_kind;
/* When n requests are due, microseconds from the first one, which is due at 0; ascending. */
void srn_load_arrivals(srn_load_kind kind, double per_second, uint64_t seed, size_t n, uint64_t *ret_us);

/* What an answer must keep to count as good; 0: nothing is asked. */
typedef struct srn_load_slo {
    uint64_t ttft_us, itl_us, gap_us,
        e2e_us; /* itl: mean time of a token after the first; gap: the longest */
} srn_load_slo;
/* "ttft=2s,itl=100ms,gap=500ms,e2e=30s"; SRN_EUSAGE. */
int srn_load_slo_parse(const char *text, srn_load_slo *ret, srn_err *err);

/* ---- sending (load.c) ---- */

typedef struct srn_load_answer {
    uint32_t ask, index;       /* which one was asked; the how manieth request it was, from 0 on */
    uint64_t due_us, begun_us; /* srn_now_us; due: when it was to be sent, equal in a closed loop */
    uint64_t first_us, last_us, ended_us; /* its first and its last piece of text came; 0: none did */
    bool streamed;                        /* else its first token's time is not known */
    uint32_t n_pieces, n_input, n_cached, n_output;
    bool has_usage;    /* else n_output counts pieces */
    uint64_t *gaps_us; /* between pieces [n_gaps] */
    size_t n_gaps;
    char *text; /* NUL-terminated */
    size_t n_text;
    char finish[24];
    int status;  /* of HTTP; 0: none came */
    srn_err why; /* code SRN_OK: it was answered */
} srn_load_answer;

typedef struct srn_load_opts {
    const char *base, *bearer, *ca_file; /* as srn_stream_to */
    const char *model;                   /* its name there */
    const srn_load_asks *asks;           /* the i-th request is ask i modulo their number */
    srn_load_kind kind;
    uint32_t concurrency; /* of a closed loop */
    double per_second;    /* of the others */
    uint64_t seed;        /* of arrivals */
    size_t n, warm_up;   /* requests that are measured; those before them that are not, one after the other */
    uint32_t max_tokens; /* where a request does not say */
    uint32_t timeout_ms; /* of silence */
    bool keep_cache;     /* prompts have no prefix of their own */
    uint64_t salt;       /* of prefixes: a request has the same one in two loads with the same salt */
    srn_progress_fn *progress; /* may be NULL */
    void *progress_ctx;
    const char *what;           /* for progress */
    const volatile int *cancel; /* may be NULL */
} srn_load_opts;
typedef struct srn_load_run {
    srn_load_answer *answers; /* [n], in the order of their begin */
    size_t n;
    bool cut; /* it was cancelled: those are left out that had no end */
} srn_load_run;
/* Failed requests are answers with a reason, but where not even the first one of the warm-up finds a server
 * that answers: then it is the error. */
int srn_load_go(const srn_load_opts *o, srn_load_run *ret, srn_err *err);
void srn_load_run_done(srn_load_run *r);

/* ---- sums (load_sum.c) ---- */

/* Of n values: percentiles by nearest rank. low, high: order statistics between which the median lies with a
 * probability of 95 % at least; NAN where fewer than 6 values tell nothing. */
typedef struct srn_load_spread {
    size_t n;
    double mean, p50, p90, p95, p99, max, low, high;
} srn_load_spread;
srn_load_spread srn_load_spread_of(double *v, size_t n); /* sorts v */

typedef struct srn_load_sum {
    size_t n, n_failed;
    double seconds;                             /* from the first that was due to the last end */
    srn_load_spread ttft, itl, tpot, e2e, late; /* milliseconds; itl: between pieces; tpot: per answer, mean
                                                   of a token; late: how much after its time one was sent */
    uint64_t n_input, n_cached, n_output;       /* tokens of those that were answered */
    srn_load_spread input, output;              /* tokens of an answer */
    double tok_per_s, req_per_s, in_flight;     /* in_flight: mean */
    bool pieces_counted;                        /* some answer did not say its tokens */
    size_t n_good;                              /* within the SLO */
    double good_share, good_per_s;
} srn_load_sum;
int srn_load_add_up(const srn_load_run *r, const srn_load_slo *slo, srn_load_sum *ret, srn_err *err);
bool srn_load_is_good(const srn_load_answer *a, const srn_load_slo *slo);
double srn_load_tpot_us(const srn_load_answer *a); /* NAN: of fewer than two tokens, or not streamed */

#endif
