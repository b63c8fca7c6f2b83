/* Two sides (models, versions of a prompt, builds of the engine) asked the same: items (regress_items.c) are
 * answered by both and judged (regress_run.c), added up (regress_sum.c) and written down (regress_json.c).
 * One code for the command, which also prints and runs programs as sides and as checks, and for the server's
 * jobs. One thread, but for the workers that wait for answers.
 */
#ifndef SRN_SERVE_REGRESS_H
#define SRN_SERVE_REGRESS_H

#include <jansson.h>

#include "engine/engine.h"
#include "prompts/checks.h"
#include "serve/replay.h"

enum { SRN_REGRESS_LISTS = 3, SRN_REGRESS_WORKERS = 8, SRN_REGRESS_LINE_TOKENS = 512 };

typedef struct srn_regress_result { /* what one side makes of an item */
    srn_replay_answer answer;
    bool ran, passed;
    srn_err why;    /* where it did not run */
    json_t *checks; /* [{"name", "passes"}], NULL: none apply or it did not run */
    json_t *failed; /* names of those that it did not pass */
} srn_regress_result;

typedef struct srn_regress_item {
    char *id;
    char group[SRN_PROMPT_NAME_MAX + 16];        /* "name@version", "unregistered" */
    json_t *record;                              /* of a call, else NULL */
    char *request;                               /* body as JSON text */
    srn_err why;                                 /* code set: it cannot be asked at all */
    srn_checks *own;                             /* of a request that brings some */
    const srn_checks *checks[SRN_REGRESS_LISTS]; /* all that apply */
    uint32_t n_checks; /* lists; none where only programs would judge, and none may */
    srn_regress_result sides[2];
    bool has_divergence;
    srn_divergence divergence;
} srn_regress_item;

typedef struct srn_regress_named { /* a prompt version with its checks */
    char name[SRN_PROMPT_NAME_MAX + 16];
    srn_checks *checks; /* or NULL */
} srn_regress_named;

typedef struct srn_regress_side {
    const char *model;   /* as it was asked for */
    const char *program; /* another build that answers, or NULL: this one */
    char program_id[65]; /* SHA-256 of that file */
    const char *path;    /* the model's file, where it can be compared with the other one's; or NULL */
    const char *prompt;  /* NAME@VERSION in place of the calls' own, or NULL; both sides or none */
    srn_prompt_ref ref;  /* of it */
    srn_ids ids;         /* once it has answered; its kv is: */
    char kv[16];
} srn_regress_side;

typedef struct srn_regress {
    /* What is asked; set before srn_regress_read. Texts are the caller's. */
    srn_regress_side sides[2];
    const char *filter; /* calls; NULL: items are added by srn_regress_add */
    uint64_t limit;     /* most of them */
    size_t max_bytes;   /* most bytes of all requests and answers; 0: any number */
    uint32_t max_tokens, workers;
    bool greedy, no_divergence;
    srn_reader *reader;   /* with a filter */
    srn_prompts *prompts; /* or NULL */
    /* Who answers for a side; called once or, for the divergence, twice, and closed each time before the run
     * ends. Sides with prompts share the first one. */
    int (*open)(void *ctx, int side, srn_answerer **ret, srn_err *err);
    void (*close)(void *ctx, int side, srn_answerer *a);
    /* The exit status of a check that is a program; NULL: such checks are left out. 255: it gave no verdict.
     */
    int (*program)(const char *const *argv, srn_str answer);
    bool (*stop)(void *ctx);   /* asked between items; true ends the run with SRN_ECANCELLED. May be NULL */
    srn_progress_fn *progress; /* may be NULL; any of the workers, one at a time */
    void *ctx;                 /* of open, close, stop, progress */

    /* What came of it. */
    srn_checks *common;
    srn_regress_named *named;
    size_t n_named;
    srn_regress_item *items;
    size_t n, cap, bytes;
    const char *no_divergence_why; /* why there is none, or NULL */
    srn_err no_divergence_err;     /* its sentence, where it is an error's */
    json_t *weights_differ;        /* as docs/regress.md, or NULL: they are the same, or cannot be compared */
} srn_regress;

/* ---- regress_items.c ---- */
/* Checks for all items; a JSON list, and what to call its place in errors. */
int srn_regress_common(srn_regress *g, const json_t *list, const char *place, srn_err *err);
/* Adds one request: an object in the form of chat completions or completions, with "id" and "checks" if it
 * likes. place: for errors, "cases.jsonl: line 3"; name: its id where it has none. Takes no reference. */
int srn_regress_add(srn_regress *g, json_t *request, const char *place, const char *name, srn_err *err);
/* Finds the versions of the prompt, and the calls of the filter. */
int srn_regress_read(srn_regress *g, srn_err *err);
void srn_regress_done(srn_regress *g); /* reader and prompts stay the caller's */

/* ---- regress_run.c ---- */
int srn_regress_run(srn_regress *g, srn_err *err);

/* ---- regress_sum.c ---- */
typedef struct srn_regress_sum {
    const char *name;
    uint64_t items, errors[2], compared;    /* compared: both sides answered */
    uint64_t checked, passed[2], lost, won; /* items with checks */
    uint64_t same, same_bits;               /* answers, to the byte; with every token and logit, to the bit */
    uint64_t kl_items, kl_tokens, top1;
    double kl_sum, kl_max, p; /* nats; p of McNemar's test */
    uint64_t tokens[2];
    uint64_t ttft_us[2], total_us[2]; /* medians */
} srn_regress_sum;
/* Per group by name, and the total as the last one; *ret is the caller's to free. */
int srn_regress_add_up(const srn_regress *g, srn_regress_sum **ret, size_t *ret_n, srn_err *err);
bool srn_regress_lost(const srn_regress_item *it);
bool srn_regress_won(const srn_regress_item *it);
bool srn_regress_same(const srn_regress_item *it);
/* Whether both gave the same tokens with the same logits, every bit; *ret_at (may be NULL): the first token
 * that is not. */
bool srn_regress_same_bits(const srn_regress_item *it, uint32_t *ret_at);

/* ---- regress_json.c ---- */
/* "lost", "won", "passed", "failed", "no checks" */
const char *srn_regress_verdict(const srn_regress_item *it);
/* The object of docs/regress.md, a new reference. */
json_t *srn_regress_json(const srn_regress *g, const srn_regress_sum *sums, size_t n);
/* What of the sides differs: "weights", "tokenizer", "numerics", "cache type", "program", "engine", "prompt";
 * the i-th of them, or NULL. */
const char *srn_regress_differs(const srn_regress *g, size_t i);

#endif
