/* Bets on faults, one a subject: whether any of its first calls failed. Subjects are independent of each
 * other whatever their calls are, so this holds with a handful of them, where sums over calls say nothing: a
 * canary that fails every call goes after three subjects. Pure; called by evidence.c.
 *
 * Subjects are taken in blocks of at least one of each arm, closed by who comes, never by what came of it.
 * The factor of a block is an e-variable for two samples (Turner and Gruenwald, Statistics and Probability
 * Letters 2023): the likelihood of what is bet on against that of the nearest pair of rates within the
 * margin. Their product over blocks, and the mean over bets, is at most 1 in expectation as long as the
 * canary is within its margin, however often it is looked at.
 */
#include "canary/canary_internal.h"

#include "base/num.h"

#define PRIOR_HITS 0.5 /* of so many subjects, before any was seen */
#define PRIOR_N    10.0

static const uint32_t spans[SRN__FAULT_SPANS] = {1, 4, 16}; /* first calls of a subject */
static const double gains[SRN__FAULT_GAINS] = {0.5, 0.95};  /* share of subjects that it spoils */

/* Of the baseline, where the likelihood of the block's rates q, of n subjects, is greatest among those of
 * which the canary's is the margin's worsening: the slope changes its sign once. */
static double nearest(const double q[2], const double n[2], double margin) {
    double lo = 1e-9, hi = 1 - 1e-9;
    for (int i = 0; i < 50; i++) {
        double p = (lo + hi) / 2, r = margin + (1 - margin) * p;
        double slope = n[0] * (p - q[0]) / (p * (1 - p)) + n[1] * (1 - margin) * (r - q[1]) / (r * (1 - r));
        *(slope > 0 ? &hi : &lo) = p;
    }
    return (lo + hi) / 2;
}

static double log_ratio(double hits, double n, double q, double p) {
    return hits * srn_log(q / p) + (n - hits) * srn_log((1 - q) / (1 - p));
}

static void close_block(srn__faults *f, uint32_t span, double margin) {
    double base = (f->seen_hits + PRIOR_HITS) / (f->seen + PRIOR_N), spoilt = 1 - srn_pow(1 - margin, span);
    double n[2] = {f->n[0], f->n[1]};
    for (unsigned g = 0; g < SRN__FAULT_GAINS; g++) {
        double q[2] = {base, base + (1 - base) * gains[g]};
        if (gains[g] <= spoilt) continue;
        double p = nearest(q, n, spoilt), r = spoilt + (1 - spoilt) * p;
        f->log_wealth[g] += log_ratio(f->hits[0], n[0], q[0], p) + log_ratio(f->hits[1], n[1], q[1], r);
    }
    f->seen += n[0], f->seen_hits += f->hits[0];
    f->n[0] = f->n[1] = f->hits[0] = f->hits[1] = 0;
}

bool srn__faults_add(srn__faults all[SRN__FAULT_SPANS], double margin, unsigned side, uint32_t n_calls,
                     bool hit) {
    bool closed = false;
    for (unsigned i = 0; i < SRN__FAULT_SPANS; i++) {
        srn__faults *f = &all[i];
        if (n_calls != spans[i]) continue;
        f->n[side]++;
        f->hits[side] += hit;
        if (!f->n[0] || !f->n[1]) continue;
        close_block(f, spans[i], margin);
        closed = true;
    }
    return closed;
}

double srn__faults_evalue(const srn__faults all[SRN__FAULT_SPANS]) {
    double sum = 0;
    for (unsigned i = 0; i < SRN__FAULT_SPANS; i++)
        for (unsigned g = 0; g < SRN__FAULT_GAINS; g++) sum += srn_exp(SRN_MIN(all[i].log_wealth[g], 200));
    return sum / (SRN__FAULT_SPANS * SRN__FAULT_GAINS);
}
