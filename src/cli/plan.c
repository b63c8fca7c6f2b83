/* serin plan: whether a model fits a machine and how fast it would be there, before anything is loaded or
 * bought. A model is a file, or a shape of which only the head is made; the machine is this one or a recorded
 * one. Main thread. Refuses contexts beyond the model's, types of caches and shapes that there are not.
 */
#include "cli/plan.h"

#include <inttypes.h>
#include <stdlib.h>

#include "cli/cli.h"
#include "cli/synth.h"
#include "cpu/cpu.h"

#define DEFAULT_CTX 8192u

typedef struct request {
    const char *model, *shape, *quant, *kv, *from, *figures;
    int64_t ctx, parallel, threads;
    bool json, quants, check, explain;
} request;

/* ---- the model ---- */

static void close_model(srn__plan_model *m) {
    srn_model_free(m->m);
    srn_weights_free(m->w);
    srn_out_free(m->out);
}

static int open_path(const char *path, srn__plan_model *ret, srn_err *err) {
    srn_open_opts o = {.progress = srn_cli_progress};
    int code = srn_weights_open(path, &o, &ret->w, err);
    return code ? code : srn_model_new(ret->w, 0, &ret->m, err);
}

/* Tensors that can be counted and not read. */
static int open_shape(const srn_shape *shape, const srn_mix *mix, srn__plan_model *ret, srn_err *err) {
    srn_synth_opts o = {.seed = 1};
    srn_synth *s = NULL;
    srn_shape plain = *shape;
    plain.rope_factor = 0; /* its factors are a tensor that would be read, and cost nothing */
    int code = srn_synth_new(&plain, mix, &o, &s, err);
    if (!code) code = srn_out_sparse(srn_synth_file_bytes(s), &ret->out, err);
    if (!code) code = srn_synth_head(s, ret->out, err);
    srn_synth_free(s);
    if (!code) code = open_path(srn_out_path(ret->out), ret, err);
    snprintf(ret->name, sizeof ret->name, "%s %s", shape->name, mix->name);
    return code;
}

static int open_model(const request *r, srn__plan_model *ret, srn_err *err) {
    if (r->shape && r->check) {
        srn__synth_ask ask = {
            .shape = r->shape, .quant = r->quant, .seed = 1, .threads = (uint32_t)r->threads};
        int code = srn__synth_in_memory(&ask, &ret->out, err);
        if (!code) snprintf(ret->path, sizeof ret->path, "%s", srn_out_path(ret->out));
        snprintf(ret->name, sizeof ret->name, "%s %s", r->shape, r->quant);
        return code ? code : open_path(ret->path, ret, err);
    }
    if (r->shape) {
        srn_shape shape;
        const srn_mix *mix;
        int code = srn__synth_shape(r->shape, &shape, err);
        if (!code) code = srn_mix_find(r->quant, &mix, err);
        return code ? code : open_shape(&shape, mix, ret, err);
    }
    int code = srn_weights_locate(r->model, ret->path, sizeof ret->path, err);
    const char *slash = strrchr(ret->path, '/');
    snprintf(ret->name, sizeof ret->name, "%.150s", slash ? slash + 1 : ret->path);
    return code ? code : open_path(ret->path, ret, err);
}

/* The shape of a model that there is, for other quantisations of it. */
static srn_shape shape_of(const srn_model *m) {
    const srn_hparams *hp = &m->hp;
    srn_shape s = {.n_vocab = hp->n_vocab,
                   .n_embd = hp->n_embd,
                   .n_layer = hp->n_layer,
                   .n_head = hp->n_head,
                   .n_head_kv = hp->n_head_kv,
                   .d_head = hp->d_k,
                   .n_ff = hp->n_ff,
                   .n_ctx = hp->n_ctx_train,
                   .n_expert = hp->n_expert,
                   .n_expert_used = hp->n_expert_used,
                   .n_ff_expert = hp->n_expert ? hp->n_ff_expert : 0,
                   .window = hp->window,
                   .rope_base = hp->rope_base,
                   .norm_eps = hp->norm_eps,
                   .tied = m->head == m->embd};
    snprintf(s.arch, sizeof s.arch, "%s", m->arch->name);
    return s;
}

/* ---- machine and figures ---- */

static uint64_t memory_of(const srn_hw_machine *m) {
    uint64_t sum = 0;
    for (uint32_t i = 0; i < m->n_nodes; i++)
        if (m->nodes[i].bytes != SRN_HW_UNKNOWN) sum += m->nodes[i].bytes;
    return sum;
}

static int get_machine(const request *r, srn_hw_machine **ret, srn_err *err) {
    srn_hw_discover_opts o = {.root = "", .no_load = true};
    return r->from ? srn_hw_machine_load(r->from, ret, err) : srn_hw_discover(&o, ret, err);
}

/* *ret is NULL where nothing was measured, which is no error unless a file was named. */
static int get_figures(const request *r, const srn_hw_machine *m, srn_hw_figures *room,
                       const srn_hw_figures **ret, srn_err *err) {
    const char *limit = getenv("SERIN_CPU"), *isa = srn_cpu_level(limit && *limit ? limit : NULL);
    uint32_t threads = r->threads ? (uint32_t)r->threads : srn_cpu_count();
    char path[4096];
    *ret = NULL;
    if (!r->figures && (r->from || !isa || !srn_hw_figures_path(m->id, isa, threads, path, sizeof path)))
        return SRN_OK;
    int code = srn_hw_figures_load(r->figures ? r->figures : path, room, err);
    if (!code) *ret = room;
    return code == SRN_ENOENT && !r->figures ? SRN_OK : code;
}

/* The instruction set whose layouts count: that of the figures, where this processor has it too. */
static void set_level(srn__plan_ask *a, const request *r) {
    const char *limit = getenv("SERIN_CPU");
    a->s.threads = r->threads ? (uint32_t)r->threads : a->figures ? a->figures->limits.threads : 0;
    if (!a->s.threads) a->s.threads = a->machine->cpu.threads;
    a->s.cpu_limit = limit && *limit ? limit : NULL;
    if (a->foreign && !r->check && a->figures && srn_cpu_level(a->figures->limits.isa))
        a->s.cpu_limit = a->figures->limits.isa;
}

static int set_context(srn__plan_ask *a, const request *r, const srn_model *m, srn_err *err) {
    uint32_t most = m->hp.n_ctx_train;
    if (r->ctx > most)
        return srn_fail(err, SRN_EINVAL,
                        "a context of %" PRId64 " tokens was asked for, and the model was trained for %u; "
                        "ask for at most that (--ctx %u)",
                        r->ctx, most, most);
    a->s.n_ctx = r->ctx ? (uint32_t)r->ctx : SRN_MIN(most, DEFAULT_CTX);
    return SRN_OK;
}

/* ---- what is asked ---- */

static int plan(const srn__plan_ask *a, const srn__plan_model *m, srn_err *err) {
    srn_hw_placement *p = srn_calloc(SRN_HW_MOST_PLACEMENTS, sizeof *p);
    uint32_t n = 0;
    if (!p) return srn_fail_nomem(err, SRN_HW_MOST_PLACEMENTS * sizeof *p);
    int code = srn_hw_plan(m->m, a->figures, &a->s, a->available, p, &n, err);
    if (!code) code = srn__plan_print(a, m, p, n, err);
    free(p);
    return code;
}

static int plan_quant(const srn__plan_ask *a, const srn_shape *shape, srn__plan_quant *q, srn_err *err) {
    srn_hw_placement all[SRN_HW_MOST_PLACEMENTS];
    srn__plan_model m = {.name = ""};
    const srn_mix *mix;
    uint64_t params;
    uint32_t n = 0;
    int code = srn_mix_find(q->quant, &mix, err);
    if (!code) code = srn_synth_measure(shape, mix, false, &params, &q->bytes, err);
    if (!code) code = open_shape(shape, mix, &m, err);
    if (!code) code = srn_hw_plan(m.m, a->figures, &a->s, a->available, all, &n, err);
    if (!code) q->p = all[0];
    close_model(&m);
    return code;
}

static int plan_quants(const srn__plan_ask *a, const srn__plan_model *m, srn_err *err) {
    static const char *const usual[] = {"F16", "Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q4_0", "Q3_K_M", "Q2_K"};
    srn__plan_quant *q = srn_calloc(SRN_LEN(usual), sizeof *q);
    srn_shape shape = shape_of(m->m);
    if (!q) return srn_fail_nomem(err, SRN_LEN(usual) * sizeof *q);
    snprintf(shape.name, sizeof shape.name, "%.60s", m->name);
    int code = SRN_OK;
    for (size_t i = 0; i < SRN_LEN(usual) && !code; i++) {
        q[i].quant = usual[i];
        code = plan_quant(a, &shape, &q[i], err);
    }
    if (!code) code = srn__plan_print_quants(a, m->name, q, SRN_LEN(usual), err);
    free(q);
    return code;
}

static int check_asked(const request *r, srn_err *err) {
    if (!r->model == !r->shape)
        return srn_fail(err, SRN_EUSAGE,
                        "give a model or --shape, and not both; for example: serin plan smollm2, or "
                        "serin plan --shape llama-3.1-8b");
    if (r->check && (r->from || r->quants))
        return srn_fail(err, SRN_EUSAGE,
                        "--check runs the model here, so it goes neither with --from nor with --quants");
    if (r->from && !r->figures && r->explain)
        return srn_fail(err, SRN_EUSAGE,
                        "--explain needs what that machine was measured to do: give --figures FILE, which "
                        "`serin probe --record FILE` writes there");
    return SRN_OK;
}

static int run_with(const request *r, srn__plan_ask *a, srn_err *err) {
    srn__plan_model m = {.name = ""};
    if (!srn_kv_type_by_name(r->kv, &a->s.kv))
        return srn_fail(err, SRN_EUSAGE, "the KV cache type '%.40s' is not known; use f16, q8_0 or f32",
                        r->kv);
    int code = open_model(r, &m, err);
    if (!code) code = set_context(a, r, m.m, err);
    a->s.n_seqs = (uint32_t)r->parallel;
    set_level(a, r);
    if (!code && r->check && !a->figures)
        code = srn_fail(err, SRN_EUSAGE,
                        "this machine was not measured yet, so nothing is predicted that could be "
                        "checked; run `serin probe`");
    if (!code)
        code = r->check    ? srn__plan_check(a, &m, err)
               : r->quants ? plan_quants(a, &m, err)
                           : plan(a, &m, err);
    close_model(&m);
    return code;
}

static int run(const request *r, srn_err *err) {
    srn_hw_machine *machine = NULL;
    srn_hw_figures *room = srn_calloc(1, sizeof *room);
    srn__plan_ask a = {.json = r->json, .explain = r->explain, .foreign = r->from || r->figures};
    int code = room ? check_asked(r, err) : srn_fail_nomem(err, sizeof *room);
    if (!code) code = get_machine(r, &machine, err);
    if (!code) code = get_figures(r, machine, room, &a.figures, err);
    if (!code && a.figures && machine && !r->from) a.foreign = strcmp(a.figures->id, machine->id) != 0;
    a.machine = machine;
    if (!code) a.available = r->from ? memory_of(machine) : srn_memory_available();
    if (!code && r->from && !a.available)
        code = srn_fail(err, SRN_EINVAL,
                        "%s does not say how much memory its nodes have, so nothing can be placed on it",
                        r->from);
    if (!code) code = run_with(r, &a, err);
    srn_hw_machine_free(machine);
    free(room);
    return code;
}

int srn__cmd_plan(int argc, char **argv) {
    request r = {.quant = "Q4_K_M", .kv = "f16", .parallel = 1};
    const srn_opt opts[] = {
        {"shape", 's', SRN_OPT_STR, &r.shape, 0, 0, "NAME|FILE",
         "a model that is not here (`serin synth --list`)"},
        {"quant", 'q', SRN_OPT_STR, &r.quant, 0, 0, "TYPE", "its quantisation (Q4_K_M)"},
        {"ctx", 'c', SRN_OPT_INT, &r.ctx, 1, 1u << 30, "N",
         "tokens of each sequence (8192, or what the model has)"},
        {"parallel", 'p', SRN_OPT_INT, &r.parallel, 1, 512, "N", "sequences at once, all of them full (1)"},
        {"kv-type", 0, SRN_OPT_STR, &r.kv, 0, 0, "TYPE", "type of the KV cache: f16 (default), q8_0 or f32"},
        {"quants", 0, SRN_OPT_FLAG, &r.quants, 0, 0, NULL,
         "the same model in other quantisations: what fits, how fast"},
        {"check", 0, SRN_OPT_FLAG, &r.check, 0, 0, NULL, "run it here: predicted beside measured"},
        {"explain", 0, SRN_OPT_FLAG, &r.explain, 0, 0, NULL, "where the time of each step goes"},
        {"from", 0, SRN_OPT_STR, &r.from, 0, 0, "MACHINE",
         "another machine: a file of `serin topo --record`"},
        {"figures", 0, SRN_OPT_STR, &r.figures, 0, 0, "FILE",
         "what it does: a file of `serin probe --record`"},
        {"threads", 't', SRN_OPT_INT, &r.threads, 1, 1024, "N", "threads (all CPUs)"},
        {"json", 0, SRN_OPT_FLAG, &r.json, 0, 0, NULL, "print JSON"},
    };
    const srn_cli_spec spec = {
        .usage = "serin plan MODEL|--shape NAME [--quant TYPE] [--ctx N] [--parallel N] [--kv-type T] "
                 "[--quants | --check]\n"
                 "           [--from MACHINE.json] [--figures FIGURES.json] [--explain] [--json]",
        .about =
            "Says whether a model fits a machine, with the memory that will really be allocated, the "
            "longest\n"
            "context and the most sequences that fit, and how fast prompts are read and answers written at\n"
            "several contexts and loads, from what `serin probe` measured. Loads nothing, but with --check.\n"
            "docs/plan.md has the arithmetic and how far it is off.",
        .examples = "  serin plan smollm2 --ctx 8192 --parallel 4\n"
                    "  serin plan --shape llama-3.1-8b --quant Q4_K_M --kv-type q8_0 --explain\n"
                    "  serin plan --shape llama-3.1-8b --quants\n"
                    "  serin plan --shape qwen3-30b-a3b --from machine.json --figures figures.json\n"
                    "  serin plan smollm2 --parallel 8 --check\n",
        .opts = opts,
        .n_opts = SRN_LEN(opts),
        .min_operands = 0,
        .max_operands = 1};
    int n, stop = srn_cli_parse(&spec, argc, argv, &r.model, &n);
    if (stop >= 0) return stop;
    srn_err err = {0};
    int code = run(&r, &err);
    return code ? srn_cli_error("plan", &err) : srn_cli_flush("plan");
}
