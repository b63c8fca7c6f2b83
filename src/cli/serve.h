/* cli, serin serve: its options (serve_options.c) and what it tells systemd (serve_notify.c). */
#ifndef SRN_CLI_SERVE_H
#define SRN_CLI_SERVE_H

#include <pthread.h>
#include <signal.h>

#include "cli/cli.h"
#include "serve/serve.h"

enum { SRN__SERVE_MODELS = 64 };
typedef struct srn__serve_flags {
    const char *operands[SRN__SERVE_MODELS];
    int n_operands;
    const char *listen, *config, *keys, *tls_cert, *tls_key, *kv, *speculate, *default_model, *ledger,
        *ledger_folder, *ledger_keys, *ledger_mode, *ledger_content;
    int64_t ctx, parallel, threads, cache_tokens, grace;
    srn_str_list aliases, hosts, cors, limits, models;
    bool lazy, allow_open, metrics_open, json, check_config;
} srn__serve_flags;

/* Parses the command line and the file that it names into *c (initialised). SRN__SERVE_GO, or the exit code;
 * errors are printed. */
enum { SRN__SERVE_GO = -1 };
int srn__serve_parse(int argc, char **argv, srn__serve_flags *f, srn_config *c, srn_err *err);
/* The same flags over the file as it is now; errors are the caller's to print. */
int srn__serve_configure(const srn__serve_flags *f, srn_config *c, srn_err *err);
void srn__serve_flags_done(srn__serve_flags *f);

/* Tells the service manager, where there is one ($NOTIFY_SOCKET). */
void srn__notify(const char *state);
void srn__notify_reloading(void);
/* How often it wants a sign of life; 0: not at all. */
uint64_t srn__notify_watchdog_us(void);

#endif
