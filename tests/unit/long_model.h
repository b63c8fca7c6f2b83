/* The tiny models of tests/golden with a longer context: a copy of the file in which the context length is
 * another number. Their weights are random, so any length is as good as the one they were made with.
 */
#ifndef SRN_TEST_LONG_MODEL_H
#define SRN_TEST_LONG_MODEL_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/engine.h"

#define LONG_CTX 2048u

/* Opens tests/golden/NAME.gguf with a context of up to LONG_CTX. Of the file's last `maimed` bytes, which are
 * weights in f32, only sign, exponent and one bit of the mantissa are left. */
static inline srn_engine *open_maimed(const char *name, const srn_engine_opts *o, size_t maimed) {
    static const char key[] = ".context_length"; /* after the architecture's name */
    char path[512], copy[] = "/tmp/srn-test-XXXXXX";
    snprintf(path, sizeof path, "%s/golden/%s.gguf", SRN_TEST_DIR, name);
    char *data;
    size_t n, at = 0, len = sizeof key - 1;
    srn_err err = {0};
    srn_engine *e = NULL;
    if (srn_read_file(path, (size_t)1 << 24, &data, &n, &err)) {
        fprintf(stderr, "%s\n", err.text);
        return NULL;
    }
    while (at + len < n && memcmp(data + at, key, len) != 0) at++;
    uint32_t value = LONG_CTX; /* after the key: the type, u32, and the value */
    if (at + len + 8 <= n) memcpy(data + at + len + 4, &value, sizeof value);
    for (size_t i = n - maimed / 4 * 4; i < n; i += 4) { /* the file ends at a multiple of 4 */
        uint32_t bits;
        memcpy(&bits, data + i, sizeof bits);
        bits &= 0xffc00000u;
        memcpy(data + i, &bits, sizeof bits);
    }
    int fd = mkstemp(copy);
    if (fd >= 0 && write(fd, data, n) == (ssize_t)n && srn_engine_open(copy, o, &e, &err))
        fprintf(stderr, "%s\n", err.text);
    if (fd >= 0) {
        close(fd);
        unlink(copy); /* what the engine needs of it is mapped */
    }
    free(data);
    return e;
}

static inline srn_engine *open_long(const char *name, const srn_engine_opts *o) {
    return open_maimed(name, o, 0);
}

#endif
