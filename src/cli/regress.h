/* serin regress, inside: items (regress_items.c) are answered by two sides and judged (regress_run.c,
 * regress_judge.c), added up (regress_sum.c) and shown (regress_print.c, regress_html.c). One thread, but for
 * the workers that wait for answers.
 */
#ifndef SRN_CLI_REGRESS_H
#define SRN_CLI_REGRESS_H

#include <jansson.h>

#include "cli/cli.h"
#include "engine/engine.h"
#include "prompts/checks.h"
#include "serve/replay.h"

enum { SRN__REGRESS_LISTS = 3, SRN__REGRESS_WORKERS = 8 };

typedef struct srn__regress_side { /* what one side makes of an item */
    srn_replay_answer answer;
    bool ran, passed;
    srn_err why;    /* where it did not run */
    json_t *checks; /* [{"name", "passes"}], NULL: none apply or it did not run */
    json_t *failed; /* names of those that it did not pass */
} srn__regress_side;

typedef struct srn__regress_item {
    char *id;
    char group[SRN_PROMPT_NAME_MAX + 16];         /* "name@version", "unregistered" */
    json_t *record;                               /* of a call, else NULL */
    char *request;                                /* body as JSON text */
    srn_err why;                                  /* code set: it cannot be asked at all */
    srn_checks *own;                              /* of a line of the file */
    const srn_checks *checks[SRN__REGRESS_LISTS]; /* all that apply */
    uint32_t n_checks;                            /* lists */
    srn__regress_side sides[2];
    bool has_divergence;
    srn_divergence divergence;
} srn__regress_item;

typedef struct srn__regress_named { /* a prompt version with its checks */
    char name[SRN_PROMPT_NAME_MAX + 16];
    srn_checks *checks; /* or NULL */
} srn__regress_named;

typedef struct srn__regress {
    const char *from, *to, *from_prompt, *to_prompt, *filter, *file, *checks_file, *ledger, *keys, *html, *kv,
        *fail_on;
    int64_t limit, threads, ctx, max_tokens;
    double max_kl; /* below 0: not asked */
    bool greedy, no_divergence, json;
    srn_reader *reader;
    srn_prompts *prompts;
    srn_prompt_ref refs[2]; /* of from_prompt, to_prompt */
    srn_checks *common;
    srn__regress_named *named;
    size_t n_named;
    srn__regress_item *items;
    size_t n, cap;
    struct {
        char weights[65], tokenizer[65], quantisation[SRN_QUANTISATION_CHARS], engine[128];
    } ids[2];
    const char *no_kl; /* why there is no divergence, or NULL */
    srn_err no_kl_err; /* its sentence, where it is an error's */
} srn__regress;

/* ---- regress_items.c ---- */
int srn__regress_read(srn__regress *g, srn_err *err);
void srn__regress_done(srn__regress *g);

/* ---- regress_run.c ---- */
int srn__regress_run(srn__regress *g, srn_err *err);

/* ---- regress_judge.c ---- */
/* Runs the checks of the item on what side answered. */
int srn__regress_judge(srn__regress_item *it, srn__regress_side *side, srn_err *err);
/* What a program says of an answer that it gets on standard input: its exit status, 128 + signal, or 255
 * where it cannot be started or takes more than 10 s. */
int srn__regress_ask_program(const char *const *argv, srn_str answer);

/* ---- regress_sum.c ---- */
typedef struct srn__regress_sum {
    const char *name;
    uint64_t items, errors[2], compared;    /* compared: both sides answered */
    uint64_t checked, passed[2], lost, won; /* items with checks */
    uint64_t same;                          /* answers, to the byte */
    uint64_t kl_items, kl_tokens, top1;
    double kl_sum, kl_max, p; /* nats; p of McNemar's test */
    uint64_t tokens[2];
    uint64_t ttft_us[2], total_us[2]; /* medians */
} srn__regress_sum;
/* Per group by name, and the total as the last one; *ret is the caller's to free. */
int srn__regress_add_up(const srn__regress *g, srn__regress_sum **ret, size_t *ret_n, srn_err *err);
bool srn__regress_lost(const srn__regress_item *it);
bool srn__regress_won(const srn__regress_item *it);
bool srn__regress_same(const srn__regress_item *it);

/* ---- regress_print.c, regress_html.c ---- */
void srn__regress_print(const srn__regress *g, const srn__regress_sum *sums, size_t n);
const char *
srn__regress_verdict(const srn__regress_item *it); /* "lost", "won", "passed", "failed", "no checks" */
json_t *srn__regress_json(const srn__regress *g, const srn__regress_sum *sums, size_t n);
int srn__regress_write_html(const srn__regress *g, const srn__regress_sum *sums, size_t n, srn_err *err);

#endif
