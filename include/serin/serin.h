/* libserin: the public C API.
 *
 * Thread rules: an srn_err belongs to its caller and is used by one thread at a time. Every function that
 * can fail returns 0 or a negative SRN_E... code and, where it takes an srn_err, fills it with one sentence
 * for a person. Out-parameters named ret_* are written on success only. Every x_free accepts NULL.
 */
#ifndef SERIN_SERIN_H
#define SERIN_SERIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define SRN_API __attribute__((visibility("default")))
#else
#define SRN_API
#endif

/* One list of errors: X(name, number, text). The number is returned negated. */
#define SRN_ERRORS(X)                                                                                        \
    X(EINVAL, 1, "invalid argument")                                                                         \
    X(ENOMEM, 2, "out of memory")                                                                            \
    X(EIO, 3, "input or output failed")                                                                      \
    X(ENOENT, 4, "not found")                                                                                \
    X(EFORMAT, 5, "malformed input")                                                                         \
    X(EUNSUP, 6, "not supported")                                                                            \
    X(ELIMIT, 7, "a limit was exceeded")                                                                     \
    X(ECONTEXT, 8, "the context is full")                                                                    \
    X(ENONFINITE, 9, "a value became infinite or not a number")                                              \
    X(ECANCELLED, 10, "cancelled")                                                                           \
    X(EUSAGE, 11, "wrong usage")

#define SRN_ERR_ENUM(name, number, text) SRN_##name = -(number),
enum { SRN_OK = 0, SRN_ERRORS(SRN_ERR_ENUM) };
#undef SRN_ERR_ENUM

/* What went wrong, for a person: what, where (file, key, tensor, offset), and what to do. */
typedef struct srn_err {
    int code;
    char text[1024];
} srn_err;

/* The fixed name of an error code, e.g. "EFORMAT"; "OK" for 0 and "?" for an unknown number. */
SRN_API const char *srn_err_name(int code);

/* Version of the library, e.g. "0.1.0". */
SRN_API const char *srn_version(void);

#ifdef __cplusplus
}
#endif
#endif
