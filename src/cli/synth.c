/* serin synth: writes a model of random weights in the shape of a well-known one, so that a machine can be
 * measured before anything is downloaded. Main thread. Refuses shapes and quantisations that it does not know
 * (naming those that there are), and to replace a file unless --force is given.
 */
#include "synth/synth.h"

#include <inttypes.h>
#include <jansson.h>
#include <signal.h>
#include <stdlib.h>

#include "cli/cli.h"

static volatile int interrupted;

static void on_interrupt(int signal_number) {
    (void)signal_number;
    interrupted = 1;
}

typedef struct request {
    const char *shape, *quant, *path;
    bool force, json, list, pure;
    int64_t seed, threads;
} request;

static int make(const request *r, srn_err *err) {
    const srn_shape *shape = srn_shape_find(r->shape);
    const srn_mix *mix;
    if (!shape)
        return srn_fail(err, SRN_EUSAGE, "there is no shape '%s'; `serin synth --list` names them", r->shape);
    int code = srn_mix_find(r->quant, &mix, err);
    if (code) return code;
    srn_synth_opts opts = {.seed = (uint64_t)r->seed,
                           .threads = (uint32_t)r->threads,
                           .pure = r->pure,
                           .progress = srn_cli_progress,
                           .cancel = &interrupted};
    srn_synth *s = NULL;
    srn_out *out = NULL;
    code = srn_synth_new(shape, mix, &opts, &s, err);
    if (!code) code = srn_out_open(r->path, r->force, srn_synth_file_bytes(s), &out, err);
    if (!code) code = srn_synth_fill(s, out, err);
    if (!code) code = srn_out_commit(out, err);
    if (!code)
        printf("%s  %.1f MB, %.2f billion random weights\n", r->path, (double)srn_synth_file_bytes(s) / 1e6,
               (double)srn_synth_params(s) / 1e9);
    srn_out_free(out);
    srn_synth_free(s);
    return code;
}

int srn__cmd_synth(int argc, char **argv) {
    request r = {.quant = "Q4_K_M", .seed = 1};
    const srn_opt opts[] = {
        {"shape", 's', SRN_OPT_STR, &r.shape, 0, 0, "NAME",
         "the model whose shape it has (--list names them)"},
        {"quant", 'q', SRN_OPT_STR, &r.quant, 0, 0, "TYPE", "quantisation: Q4_K_M, Q8_0, F16, ... (Q4_K_M)"},
        {"output", 'o', SRN_OPT_STR, &r.path, 0, 0, "FILE", "what to write (synth-SHAPE-QUANT.gguf)"},
        {"seed", 0, SRN_OPT_INT, &r.seed, 0, 9e15, "N", "another seed gives other weights (1)"},
        {"threads", 't', SRN_OPT_INT, &r.threads, 1, 64, "N", "(as many as there are processors)"},
        {"pure", 0, SRN_OPT_FLAG, &r.pure, 0, 0, NULL, "every matrix of one type, no mixture"},
        {"force", 'f', SRN_OPT_FLAG, &r.force, 0, 0, NULL, "replace the file"},
    };
    const srn_cli_spec spec = {
        .usage = "serin synth --shape NAME [--quant TYPE] [-o FILE]",
        .about = "Writes a GGUF model of random weights that has the shape, the types and the size of a real "
                 "one. It\n"
                 "costs the time and the memory of that model; what it says means nothing.",
        .examples = "  serin synth --shape llama-3.2-1b --quant Q4_K_M -o 1b.gguf\n  serin bench 1b.gguf\n",
        .opts = opts,
        .n_opts = SRN_LEN(opts)};
    int n, code = srn_cli_parse(&spec, argc, argv, NULL, &n);
    if (code >= 0) return code;
    srn_err err = {0};
    char path[256];
    if (!r.shape)
        srn_fail(&err, SRN_EUSAGE,
                 "--shape is missing; for example: serin synth --shape llama-3.2-1b --quant Q4_K_M");
    if (err.code) return srn_cli_error("synth", &err);
    if (!r.path) {
        snprintf(path, sizeof path, "synth-%.100s-%.100s.gguf", r.shape, r.quant);
        r.path = path;
    }
    signal(SIGINT, on_interrupt);
    signal(SIGTERM, on_interrupt);
    code = make(&r, &err);
    return code ? srn_cli_error("synth", &err) : srn_cli_flush("synth");
}
