/* ULIDs: 128 bits, of which the first 48 are milliseconds since 1970 and the rest random, written as 26
 * characters of Crockford's base 32 in capitals, so that texts and bytes both sort by time. Owns nothing; any
 * thread. Refuses other lengths, letters that are not of the alphabet (I, L, O, U), and first characters that
 * would need more than 128 bits; small letters are read as capitals.
 */
#include <errno.h>
#include <sys/random.h>
#include <time.h>

#include "base/base.h"

static const char alphabet[] = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/* 26 characters hold 130 bits: the first one has 3 of them. */
void srn_ulid_format(const uint8_t id[SRN_ULID_BYTES], char ret[SRN_ULID_CHARS + 1]) {
    uint32_t bits = 0, have = 2;
    size_t at = 0;
    for (int i = 0; i < SRN_ULID_CHARS; i++) {
        if (have < 5) {
            bits = bits << 8 | id[at++];
            have += 8;
        }
        have -= 5;
        ret[i] = alphabet[bits >> have & 31];
    }
    ret[SRN_ULID_CHARS] = 0;
}

static int digit_of(char c) {
    if (c >= 'a' && c <= 'z') c = (char)(c - 'a' + 'A');
    const char *p = c ? strchr(alphabet, c) : NULL;
    return p ? (int)(p - alphabet) : -1;
}

bool srn_ulid_parse(srn_str text, uint8_t ret[SRN_ULID_BYTES]) {
    uint8_t id[SRN_ULID_BYTES];
    if (text.len != SRN_ULID_CHARS || digit_of(text.ptr[0]) > 7) return false;
    uint32_t bits = 0, have = 0;
    size_t at = 0;
    for (size_t i = 0; i < SRN_ULID_CHARS; i++) {
        int d = digit_of(text.ptr[i]);
        if (d < 0) return false;
        bits = bits << 5 | (uint32_t)d;
        have += i ? 5 : 3;
        if (have >= 8) {
            have -= 8;
            id[at++] = (uint8_t)(bits >> have);
        }
    }
    memcpy(ret, id, sizeof id);
    return true;
}

void srn_ulid_new(char ret[SRN_ULID_CHARS + 1]) {
    struct timespec now;
    uint8_t id[SRN_ULID_BYTES];
    clock_gettime(CLOCK_REALTIME, &now);
    uint64_t ms = (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
    while (getrandom(id, sizeof id, 0) != sizeof id && errno == EINTR) continue;
    for (int i = 0; i < 6; i++) id[i] = (uint8_t)(ms >> (40 - 8 * i));
    srn_ulid_format(id, ret);
}
