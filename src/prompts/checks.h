/* Checks: what an answer must satisfy. A distance between two models says that something changed; only a
 * check says whether it does harm. A list of them belongs to a prompt's version (its key `checks`) or to a
 * command. Pure, but for checks that run a program of the operator's, which srn_check_command names and the
 * caller runs.
 */
#ifndef SRN_PROMPTS_CHECKS_H
#define SRN_PROMPTS_CHECKS_H

#include <jansson.h>

#include "base/base.h"

typedef struct srn_checks srn_checks; /* immutable; any thread */

enum { SRN_CHECKS_MAX = 64 };

/* A list of checks, each an object with one of
 *   exact: TEXT      the answer, without blanks around it, is this
 *   contains: TEXT   it stands somewhere in it
 *   regex: PATTERN   PCRE2 finds it somewhere; what takes millions of steps is not found
 *   json: PATH       the answer is JSON, and at the path ($.a.b[0]) is something; with equals: VALUE, this
 *   schema: SCHEMA   the answer is JSON that the schema lets through
 *   number: N        its last number is N, give or take `tolerance` (0)
 *   command: [PROGRAM, ARG...]   ends with 0 when it gets the answer on standard input
 * and optionally name: TEXT and not: true, which turns it round. what is the place for errors. SRN_EFORMAT,
 * SRN_EUNSUP (a keyword of a schema), SRN_ELIMIT. */
int srn_checks_new(const json_t *list, const char *what, srn_checks **ret, srn_err *err);
void srn_checks_free(srn_checks *c); /* NULL is fine */
uint32_t srn_checks_count(const srn_checks *c);
const char *srn_check_name(const srn_checks *c, uint32_t i); /* as given, or made of what it asks */
/* The program of a check that is one, ending with NULL, else NULL. */
const char *const *srn_check_command(const srn_checks *c, uint32_t i);
/* Whether the answer passes check i. ended: what a command's end said of it (0: it passes); not looked at by
 * others. */
bool srn_check_passes(const srn_checks *c, uint32_t i, srn_str answer, int ended);

/* McNemar's exact test of paired outcomes: of the pairs that differ, lost went from pass to fail, won the
 * other way. The two-sided probability of so one-sided a split if neither were likelier. */
double srn_mcnemar(uint64_t lost, uint64_t won);

#endif
