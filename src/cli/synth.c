/* serin synth: writes a model of random weights in the shape of a well-known one, so that a machine can be
 * measured before anything is downloaded. Main thread. Refuses shapes and quantisations that it does not know
 * (naming those that there are), and to replace a file unless --force is given.
 */
#include "cli/synth.h"

#include <ctype.h>
#include <inttypes.h>
#include <jansson.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "cli/cli.h"
#include "model/model.h"

#define MAX_SHAPE_BYTES ((size_t)1 << 20)

static volatile int interrupted;

static void on_interrupt(int signal_number) {
    (void)signal_number;
    interrupted = 1;
}

typedef struct request {
    srn__synth_ask ask;
    const char *path;
    bool force, json, list;
    int64_t seed, threads;
} request;

/* ---- what to make ---- */

static int unknown_shape(const char *what, srn_err *err) {
    enum { MAX = 64 };
    const char *names[MAX];
    size_t n = 0;
    while (n < MAX && srn_shape_at(n)) names[n] = srn_shape_at(n)->name, n++;
    const char *nearest = srn_cli_nearest(what, strlen(what), names, n, sizeof *names);
    return srn_fail(err, SRN_EUSAGE,
                    "there is no shape and no file '%.200s'; %s%s%s`serin synth --list` names all", what,
                    nearest ? "did you mean '" : "", nearest ? nearest : "", nearest ? "'? " : "");
}

int srn__synth_shape(const char *what, srn_shape *ret, srn_err *err) {
    const srn_shape *known = srn_shape_find(what);
    if (known) return *ret = *known, SRN_OK;
    if (access(what, F_OK)) return unknown_shape(what, err);
    char *text;
    size_t len;
    int code = srn_read_file(what, MAX_SHAPE_BYTES, &text, &len, err);
    if (code) return code;
    code = srn_shape_parse(text, len, what, ret, err);
    free(text);
    return code;
}

static int plan(const srn__synth_ask *ask, srn_shape *shape, srn_synth **ret, const srn_mix **ret_mix,
                srn_err *err) {
    srn_synth_opts opts = {.seed = ask->seed,
                           .threads = ask->threads,
                           .pure = ask->pure,
                           .progress = srn_cli_progress,
                           .cancel = ask->cancel};
    int code = srn__synth_shape(ask->shape, shape, err);
    if (!code) code = srn_mix_find(ask->quant, ret_mix, err);
    return code ? code : srn_synth_new(shape, *ret_mix, &opts, ret, err);
}

int srn__synth_in_memory(const srn__synth_ask *ask, srn_out **ret, srn_err *err) {
    srn_shape shape;
    const srn_mix *mix;
    srn_synth *s = NULL;
    srn_out *out = NULL;
    int code = plan(ask, &shape, &s, &mix, err);
    if (!code) {
        code = srn_out_memory(srn_synth_file_bytes(s), &out, err);
        if (code) srn_fail_prefix(err, code, "%s in %s is made in memory", shape.name, mix->name);
    }
    if (!code) code = srn_synth_fill(s, out, err);
    srn_synth_free(s);
    if (code) {
        srn_out_free(out);
        return code;
    }
    *ret = out;
    return SRN_OK;
}

/* ---- one model ---- */

static bool runs_here(const srn_shape *s) {
    return srn_arch_find(srn_str_of(s->arch)) != NULL;
}

static int report(const request *r, const srn_shape *shape, const srn_mix *mix, const srn_synth *s,
                  srn_err *err) {
    uint64_t params = srn_synth_params(s), bytes = srn_synth_file_bytes(s);
    if (!r->json) {
        srn_cli_put_text(stdout, srn_str_of(r->path), SIZE_MAX, false);
        bool small = params < 1000000000;
        printf("  %s %s, %.2f %s random weights, %.1f MB\n", shape->name, mix->name,
               (double)params / (small ? 1e6 : 1e9), small ? "million" : "billion", (double)bytes / 1e6);
        if (!runs_here(shape))
            fprintf(stderr,
                    "serin synth: this version of serin cannot run '%s' models; another engine can, and the "
                    "file is whole\n",
                    shape->arch);
        return SRN_OK;
    }
    json_t *o = json_pack("{s:s, s:s, s:s, s:s, s:I, s:I, s:I, s:b}", "path", r->path, "shape", shape->name,
                          "arch", shape->arch, "quant", mix->name, "parameters", (json_int_t)params, "bytes",
                          (json_int_t)bytes, "seed", (json_int_t)r->seed, "runs_here", runs_here(shape));
    char *text = o ? json_dumps(o, JSON_COMPACT) : NULL;
    json_decref(o);
    if (!text) return srn_fail(err, SRN_ENOMEM, "the report cannot be written as JSON");
    puts(text);
    free(text);
    return SRN_OK;
}

/* synth-SHAPE-QUANT.gguf, in small letters. */
static void default_path(const srn_shape *shape, const srn_mix *mix, char *ret, size_t cap) {
    snprintf(ret, cap, "synth-%s-%s.gguf", shape->name, mix->name);
    for (char *p = ret; *p; p++) *p = *p == '/' ? '-' : (char)tolower((unsigned char)*p);
}

static int make(request *r, srn_err *err) {
    srn_shape shape;
    const srn_mix *mix;
    srn_synth *s = NULL;
    srn_out *out = NULL;
    char path[160];
    int code = plan(&r->ask, &shape, &s, &mix, err);
    if (code) return code;
    default_path(&shape, mix, path, sizeof path);
    if (!r->path) r->path = path;
    code = srn_out_open(r->path, r->force, srn_synth_file_bytes(s), &out, err);
    if (!code) code = srn_synth_fill(s, out, err);
    if (!code) code = srn_out_commit(out, err);
    if (!code) code = report(r, &shape, mix, s, err);
    srn_out_free(out);
    srn_synth_free(s);
    return code;
}

/* ---- the table ---- */

static int list_json(srn_err *err) {
    json_t *all = json_array();
    for (size_t i = 0; srn_shape_at(i); i++) {
        const srn_shape *s = srn_shape_at(i);
        json_t *bytes = json_object();
        uint64_t params = 0, n = 0;
        for (size_t k = 0; srn_mix_at(k); k++) {
            int code = srn_synth_measure(s, srn_mix_at(k), false, &params, &n, err);
            if (code) return json_decref(bytes), json_decref(all), code;
            json_object_set_new(bytes, srn_mix_at(k)->name, json_integer((json_int_t)n));
        }
        json_t *o = json_pack("{s:s, s:s, s:I, s:b, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "name", s->name,
                              "arch", s->arch, "parameters", (json_int_t)params, "runs_here", runs_here(s),
                              "n_vocab", (json_int_t)s->n_vocab, "n_embd", (json_int_t)s->n_embd, "n_layer",
                              (json_int_t)s->n_layer, "n_head", (json_int_t)s->n_head, "n_head_kv",
                              (json_int_t)s->n_head_kv, "d_head", (json_int_t)s->d_head, "n_ff",
                              (json_int_t)s->n_ff, "n_expert", (json_int_t)s->n_expert);
        json_object_set_new(o, "bytes", bytes);
        json_array_append_new(all, o);
    }
    char *text = json_dumps(all, JSON_COMPACT);
    json_decref(all);
    if (!text) return srn_fail(err, SRN_ENOMEM, "the list cannot be written as JSON");
    puts(text);
    free(text);
    return SRN_OK;
}

static int list_table(srn_err *err) {
    static const char *const shown[] = {"F16", "Q8_0", "Q4_K_M", "Q4_0"};
    const srn_mix *mixes[SRN_LEN(shown)];
    printf("%-18s %-9s %10s", "shape", "arch", "weights");
    for (size_t k = 0; k < SRN_LEN(shown); k++) {
        int code = srn_mix_find(shown[k], &mixes[k], err);
        if (code) return code;
        printf(" %8s", shown[k]);
    }
    printf("  GB\n");
    for (size_t i = 0; srn_shape_at(i); i++) {
        const srn_shape *s = srn_shape_at(i);
        uint64_t params = 0, bytes[SRN_LEN(shown)];
        for (size_t k = 0; k < SRN_LEN(shown); k++) {
            int code = srn_synth_measure(s, mixes[k], false, &params, &bytes[k], err);
            if (code) return code;
        }
        printf("%-18s %-9s %9.2fB", s->name, s->arch, (double)params / 1e9);
        for (size_t k = 0; k < SRN_LEN(shown); k++) printf(" %8.2f", (double)bytes[k] / 1e9);
        printf("%s\n", runs_here(s) ? "" : "  not run by this version");
    }
    printf("\nquantisations:");
    for (size_t k = 0; srn_mix_at(k); k++) printf("%s %s", k % 14 == 0 ? "\n " : "", srn_mix_at(k)->name);
    printf("\n");
    return SRN_OK;
}

/* ---- the command ---- */

static int run(request *r, srn_err *err) {
    if (r->list) return r->json ? list_json(err) : list_table(err);
    if (!r->ask.shape)
        return srn_fail(
            err, SRN_EUSAGE,
            "--shape is missing; for example: serin synth --shape llama-3.2-1b --quant Q4_K_M, or "
            "`serin synth --list`");
    return make(r, err);
}

int srn__cmd_synth(int argc, char **argv) {
    request r = {.ask = {.quant = "Q4_K_M", .cancel = &interrupted}, .seed = 1};
    const srn_opt opts[] = {
        {"shape", 's', SRN_OPT_STR, &r.ask.shape, 0, 0, "NAME|FILE", "a model's name, or a JSON file"},
        {"quant", 'q', SRN_OPT_STR, &r.ask.quant, 0, 0, "TYPE", "Q4_K_M, Q8_0, F16, ... (Q4_K_M)"},
        {"output", 'o', SRN_OPT_STR, &r.path, 0, 0, "FILE", "what to write (synth-SHAPE-QUANT.gguf)"},
        {"pure", 0, SRN_OPT_FLAG, &r.ask.pure, 0, 0, NULL, "one type for every matrix, no mixture"},
        {"seed", 0, SRN_OPT_INT, &r.seed, 0, 9e15, "N", "other weights of the same kind (1)"},
        {"force", 'f', SRN_OPT_FLAG, &r.force, 0, 0, NULL, "replace FILE"},
        {"threads", 't', SRN_OPT_INT, &r.threads, 1, 64, "N", "(as many as the process may run on)"},
        {"list", 'l', SRN_OPT_FLAG, &r.list, 0, 0, NULL, "name the shapes, with sizes"},
        {"json", 0, SRN_OPT_FLAG, &r.json, 0, 0, NULL, "print JSON"},
    };
    const srn_cli_spec spec = {
        .usage = "serin synth --shape NAME|FILE.json [--quant TYPE] [-o FILE] | --list [--json]",
        .about =
            "Writes a GGUF model of random weights with the shape, the types and the size of a real one. It "
            "costs\nthe time and memory of that model; what it says means nothing. Equal seeds give equal "
            "files.\nSizes in --list are those of the weights; a file has some MB of vocabulary besides.",
        .examples = "  serin synth --shape llama-3.2-1b --quant Q4_K_M -o 1b.gguf && serin bench 1b.gguf\n"
                    "  serin synth --shape qwen3-30b-a3b --quant Q4_0 -o big.gguf\n"
                    "  echo '{\"like\": \"llama-3.1-8b\", \"n_layer\": 4}' > four.json; serin synth --shape "
                    "four.json\n"
                    "  serin synth --list\n",
        .opts = opts,
        .n_opts = SRN_LEN(opts)};
    int n, code = srn_cli_parse(&spec, argc, argv, NULL, &n);
    if (code >= 0) return code;
    srn_err err = {0};
    r.ask.seed = (uint64_t)r.seed;
    r.ask.threads = (uint32_t)r.threads;
    signal(SIGINT, on_interrupt);
    signal(SIGTERM, on_interrupt);
    code = run(&r, &err);
    return code ? srn_cli_error("synth", &err) : srn_cli_flush("synth");
}
