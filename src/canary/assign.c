/* Who gets which arm: a keyed hash of roll-out and subject is a place in [0, 1), shares are intervals of it.
 * Pure; any thread; the same on every machine.
 */
#include "canary/canary_internal.h"

#include <sodium.h>

/* Keyed BLAKE2b-256 of three texts, each ended by a zero byte but for the last. */
static void digest(const uint8_t key[32], const char *rollout, srn_str subject, uint8_t ret[32]) {
    static const char domain[] = "serin canary 1";
    crypto_generichash_state h;
    crypto_generichash_init(&h, key, 32, 32);
    crypto_generichash_update(&h, (const uint8_t *)domain, sizeof domain);
    crypto_generichash_update(&h, (const uint8_t *)rollout, strlen(rollout) + 1);
    crypto_generichash_update(&h, (const uint8_t *)subject.ptr, subject.len);
    crypto_generichash_final(&h, ret, 32);
}

static uint64_t big_endian(const uint8_t *p) {
    uint64_t v = 0;
    for (int i = 0; i < 8; i++) v = v << 8 | p[i];
    return v;
}

double srn_assign_place(const uint8_t key[32], const char *rollout, srn_str subject) {
    uint8_t h[32];
    digest(key, rollout, subject, h);
    return (double)(big_endian(h) >> 11) * 0x1p-53;
}

uint64_t srn_assign_subject(const uint8_t key[32], const char *rollout, srn_str subject) {
    uint8_t h[32];
    digest(key, rollout, subject, h);
    return big_endian(h + 8) >> 1;
}

srn_arm srn_assign_arm(double place, double share) {
    if (!(share > 0)) return SRN_ARM_BASELINE;
    if (place < share) return SRN_ARM_CANARY;
    return place >= 1 - share ? SRN_ARM_CONTROL : SRN_ARM_BASELINE;
}

bool srn_assign_copied(double place, double share, double shadow) {
    return place >= share && place < share + shadow * (1 - share);
}

const char *srn_arm_name(srn_arm a) {
    static const char *const names[] = {
        [SRN_ARM_BASELINE] = "baseline", [SRN_ARM_CONTROL] = "control", [SRN_ARM_CANARY] = "canary"};
    return (unsigned)a < SRN_LEN(names) ? names[a] : NULL;
}

const char *srn_why_name(srn_why w) {
    static const char *const names[] = {
        [SRN_WHY_HASH] = "hash",         [SRN_WHY_PINNED] = "pinned", [SRN_WHY_CAP] = "cap",
        [SRN_WHY_OPT_OUT] = "opt_out",   [SRN_WHY_RISK] = "risk",     [SRN_WHY_PAUSED] = "paused",
        [SRN_WHY_FALLBACK] = "fallback", [SRN_WHY_SHADOW] = "shadow", [SRN_WHY_ROLLED_BACK] = "rolled_back"};
    return (unsigned)w < SRN_LEN(names) ? names[w] : NULL;
}
