/* How much prompt a step takes: from measured step times to a number of tokens. Pure: the clock's readings
 * are passed in, so that thousands of simulated steps run in a test. Used by the scheduler's thread.
 *
 * The time of a step is modelled as base + row * n_rows + prompt * n_prompt + attend * attended / 1024,
 * coefficients at least zero, fitted by least squares of the relative error over the recent steps.
 * Steps that read no prompt are forgotten by newer ones of their kind only, so that what a prompt's token
 * costs is still known after an hour of answers. How long the answers alone take is asked of these steps
 * alone, for what beside them a prompt adds is not quite linear; while a prompt is read, one step in
 * SRN__QUIET_EVERY goes without it, so that this stays known.
 */
#ifndef SRN_ENGINE_POLICY_H
#define SRN_ENGINE_POLICY_H

#include "base/base.h"

/* While nobody waits for the next token of an answer, a step is still short enough for a cancellation to be
 * heard. */
#define SRN__HEAR_US 60000.0
/* The most that prompts take of a step's time while answers run, unless more was asked for. */
#define SRN__MOST_SHARE 0.75
/* A prompt always makes so much progress in a step, whatever it costs. */
#define SRN__MIN_CHUNK   1u
#define SRN__QUIET_EVERY 24u
/* As long as nothing is known, so much; from then on at most twice the most that was tried. */
#define SRN__FIRST_CHUNK 64u

enum { SRN__TERMS = 4 };

/* What a step computes. */
typedef struct srn__load {
    uint32_t n_rows;   /* tokens whose logits are drawn from: one of each answer, and its drafts */
    uint32_t n_prompt; /* tokens of prompts */
    uint64_t attended; /* positions that all these tokens look back at */
} srn__load;

/* Weighted sums of one kind of step. */
typedef struct srn__sums {
    double xx[SRN__TERMS][SRN__TERMS], xy[SRN__TERMS];
} srn__sums;

typedef struct srn__policy {
    double share;                  /* of a step's time that prompts may take while answers run, below 1 */
    srn__sums quiet, busy;         /* steps without and with a prompt */
    double cost[SRN__TERMS];       /* microseconds, of any step */
    double quiet_cost[SRN__TERMS]; /* of steps without a prompt */
    uint32_t n_quiet;              /* of them seen, up to 2 */
    uint32_t since_quiet;          /* steps with answers and prompts since the last of them */
    double surprise;               /* how long recent steps took, next to what was expected */
    uint32_t widest;               /* most tokens of prompts seen in a step */
    uint32_t max_batch;            /* most tokens in a step */
} srn__policy;

void srn__policy_init(srn__policy *p, double share, uint32_t max_batch);
/* A step of this load took so long. */
void srn__policy_learn(srn__policy *p, const srn__load *load, double us);
/* Microseconds that a step is expected to take; 0 while nothing is known. */
double srn__policy_predict(const srn__policy *p, const srn__load *load);
/* The same for a step of answers alone (n_prompt 0). */
double srn__policy_answers_us(const srn__policy *p, const srn__load *answers);

/* Microseconds that the prompts of n_reading requests may add to a step that carries these answers (n_prompt
 * 0). Their share grows with their part of all that run, up to SRN__MOST_SHARE: who waits for a first token
 * counts as much as who waits for the next. others_us: how long a step of the answers of other engines takes
 * that wait for this one's step; 0: there are none. A step without answers reads for as long as it
 * takes to begin with, even so. */
double srn__policy_allowance(const srn__policy *p, const srn__load *answers, uint32_t n_reading,
                             double others_us);
/* Whether a step with answers is to go without prompts now. */
bool srn__policy_wants_quiet(const srn__policy *p);
/* How many tokens of a prompt, from position `past` on, fit into so many microseconds of a step that already
 * has `taken` tokens of prompts: 0 to most. */
uint32_t srn__policy_chunk(const srn__policy *p, double us, uint32_t taken, uint32_t past, uint32_t most);
/* What such a chunk adds to the step. */
double srn__policy_chunk_us(const srn__policy *p, uint32_t past, uint32_t n);
/* Microseconds of one draft token at this position. */
double srn__policy_draft_us(const srn__policy *p, uint32_t past);
/* Whether a draft token that is right this often (0 to 1) saves more time than it costs, in a step of these
 * answers. */
bool srn__policy_draft_pays(const srn__policy *p, const srn__load *answers, uint32_t past, double rate);

#endif
