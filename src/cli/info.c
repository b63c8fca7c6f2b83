/* cli: `serin info`: what a model file holds, from its own bytes and not from its name. Main thread.
 * Text that comes from the file is printed with control characters and malformed UTF-8 escaped, so that a
 * file cannot steer the terminal.
 */
#include "cli/cli.h"
#include "cli/info.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>

enum {
    DEFAULT_CTX = 4096, /* where --ctx is not given, besides the model's own */
    SHOWN_ELEMS = 8,    /* of a metadata array */
    SHOWN_BYTES = 300,  /* of a metadata string */
    MAX_NEEDS = 2
};

typedef struct request {
    bool json, tensors, meta, no_hash, rehash;
    int64_t ctx;
    const char *model, *kv;
} request;

typedef struct report {
    srn__info info;
    srn_kv_type kv_type;
    srn__kv_need needs[MAX_NEEDS];
    size_t n_needs;
    char id[65]; /* empty with --no-hash */
} report;

/* ---- text ---- */

static void print_text(srn_str s, size_t max_bytes) {
    srn_cli_put_text(stdout, s, max_bytes, false);
}

static void print_row(const char *label, srn_str value) {
    if (!value.len) return;
    printf("%-15s ", label);
    print_text(value, SHOWN_BYTES);
    putchar('\n');
}

static void format_size(char out[32], uint64_t bytes) {
    static const char *const units[] = {"bytes", "KiB", "MiB", "GiB", "TiB"};
    double v = (double)bytes;
    size_t u = 0;
    while (v >= 1024 && u + 1 < SRN_LEN(units)) v /= 1024, u++;
    snprintf(out, 32, u ? "%.1f %s" : "%.0f %s", v, units[u]);
}

static void print_size(const char *label, uint64_t bytes) {
    char size[32];
    format_size(size, bytes);
    printf("%-15s %s (%" PRIu64 " bytes)\n", label, size, bytes);
}

static void print_count(const char *label, uint64_t n) {
    if (n >= 1000000000)
        printf("%-15s %.2f billion (%" PRIu64 ")\n", label, (double)n / 1e9, n);
    else if (n >= 1000000)
        printf("%-15s %.1f million (%" PRIu64 ")\n", label, (double)n / 1e6, n);
    else
        printf("%-15s %" PRIu64 "\n", label, n);
}

static void print_types(const srn__info *f) {
    printf("%-15s %s\n", "quantisation", f->quantisation);
    printf("  %-10s %8s %10s %10s\n", "type", "tensors", "weights", "bytes");
    for (size_t i = 0; i < f->n_shares; i++) {
        const srn_type_share *s = &f->shares[i];
        char size[32];
        format_size(size, s->bytes);
        printf("  %-10s %8" PRIu64 " %8.2f %% %8.2f %%  %s\n", srn_type_get(s->type)->name, s->tensors,
               100.0 * (double)s->weights / (double)f->parameters,
               100.0 * (double)s->bytes / (double)f->tensor_bytes, size);
    }
}

static void print_range(uint64_t least, uint64_t most) {
    if (least == most)
        printf("%" PRIu64, most);
    else
        printf("%" PRIu64 " to %" PRIu64, least, most);
}

static void print_shape(const srn__info *f) {
    if (f->layers) printf("%-15s %" PRIu64 "\n", "layers", f->layers);
    if (f->embedding) printf("%-15s %" PRIu64 "\n", "embedding", f->embedding);
    if (f->feed_forward) printf("%-15s %" PRIu64 "\n", "feed forward", f->feed_forward);
    if (f->heads_most) {
        printf("%-15s ", "heads");
        print_range(f->heads_least, f->heads_most);
        printf(" (keys and values: ");
        print_range(f->kv_heads_least, f->kv_heads_most);
        printf(")\n");
    }
    if (f->experts)
        printf("%-15s %" PRIu64 ", %" PRIu64 " used for a token\n", "experts", f->experts, f->experts_used);
    if (f->context) printf("%-15s %" PRIu64 " tokens\n", "context", f->context);
    if (f->window) printf("%-15s %" PRIu64 " tokens\n", "sliding window", f->window);
}

static void print_vocabulary(const srn__info *f) {
    if (!f->vocab && !f->tokenizer.len) return;
    printf("%-15s %" PRIu64 " tokens", "vocabulary", f->vocab);
    if (f->tokenizer.len) printf(", model "), print_text(f->tokenizer, 64);
    if (f->pre.len) printf(", pre-tokenizer "), print_text(f->pre, 64);
    printf("\n%-15s %s\n", "tokenizer id", f->tokenizer_id[0] ? f->tokenizer_id : "none");
    printf("%-15s %s\n", "chat template", f->chat_template ? "present" : "none");
    if (f->template_id[0]) printf("%-15s %s\n", "template id", f->template_id);
}

static void print_need(const srn__info *f, const srn__kv_need *n) {
    char total[32], weights[32], kv[32];
    format_size(total, n->total_bytes);
    format_size(weights, f->tensor_bytes);
    format_size(kv, n->kv_bytes);
    printf("  %8" PRIu64 " tokens  %10s = weights %s + keys and values %s", n->ctx, total, weights, kv);
    if (n->read_bytes < n->kv_bytes && n->window_layers) {
        format_size(kv, n->read_bytes);
        printf(" (%" PRIu64 " of %" PRIu64 " layers look back %" PRIu64
               " tokens only: a token reads %s of it)",
               n->window_layers, n->layers, f->window, kv);
    }
    printf("%s\n", f->context && n->ctx > f->context ? "; longer than the model was made for" : "");
}

static void print_needs(const report *r) {
    if (!r->n_needs) return;
    printf("memory at a context of\n");
    for (size_t i = 0; i < r->n_needs; i++) print_need(&r->info, &r->needs[i]);
    printf("  keys and values in %s; working memory, which grows with the batch, comes on top%s\n",
           srn_kv_type_name(r->kv_type), r->info.recurrent ? ", and so do recurrent states" : "");
}

static void print_tensors(const srn_weights *w) {
    printf("\n%-40s %-8s %-24s %14s %14s\n", "tensor", "type", "shape (columns first)", "bytes", "offset");
    for (size_t i = 0; i < srn_weights_count(w); i++) {
        const srn_tensor *t = srn_weights_at(w, i);
        char shape[96];
        size_t n = 0;
        for (uint32_t d = 0; d < t->n_dims; d++)
            n += (size_t)snprintf(shape + n, sizeof shape - n, "%s%" PRIu64, d ? " x " : "", t->ne[d]);
        printf("%-40s %-8s %-24s %14" PRIu64 " %14" PRIu64, t->name, srn_type_get(t->type)->name, shape,
               t->n_bytes, t->offset);
        if (srn_weights_parts(w) > 1) printf("  part %u", t->part + 1);
        putchar('\n');
    }
}

/* The shortest decimal that reads back as the same number: 1e-06 and not 9.99999997e-07. */
static void print_number(double v, bool single) {
    char text[40];
    int most = single ? 9 : 17;
    for (int digits = 6; digits <= most; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, v);
        double back = strtod(text, NULL);
        if (single ? (float)back == (float)v : back == v) break;
    }
    fputs(text, stdout);
}

/* Element i of an array, or the value itself. */
static void print_value(const srn_meta *m, size_t i, size_t max_bytes) {
    bool array = m->type == SRN_META_ARR;
    switch (m->elem) {
    case SRN_META_STR:
        putchar('\'');
        print_text(array ? m->v.strs[i] : m->v.s, max_bytes);
        putchar('\'');
        break;
    case SRN_META_F32:
    case SRN_META_F64:
        print_number(array ? srn_meta_elem_f64(m, i) : m->v.f, m->elem == SRN_META_F32);
        break;
    case SRN_META_BOOL:
        fputs((array ? srn_meta_elem_i64(m, i) != 0 : m->v.b) ? "true" : "false", stdout);
        break;
    case SRN_META_U64:
        if (!array) {
            printf("%" PRIu64, m->v.u);
            break;
        } /* fall through */
    default:
        printf("%" PRId64, array ? srn_meta_elem_i64(m, i) : m->v.i);
    }
}

static void print_metadata(const srn_weights *w) {
    printf("\nmetadata\n");
    for (size_t i = 0; i < srn_meta_count(w); i++) {
        const srn_meta *m = srn_meta_at(w, i);
        printf("  %.*s = ", (int)m->key.len, m->key.ptr);
        if (m->type != SRN_META_ARR) {
            print_value(m, 0, SHOWN_BYTES);
        } else {
            printf("%" PRIu64 " x [", m->count);
            for (size_t k = 0; k < m->count && k < SHOWN_ELEMS; k++) {
                if (k) printf(", ");
                print_value(m, k, 40);
            }
            printf(m->count > SHOWN_ELEMS ? ", ...]" : "]");
        }
        putchar('\n');
    }
}

static void print_report(const report *r, const request *q) {
    const srn__info *f = &r->info;
    print_row("file", srn_str_of(srn_weights_path(f->w)));
    if (srn_weights_parts(f->w) > 1) printf("%-15s %u files\n", "split in", srn_weights_parts(f->w));
    print_size("size", srn_weights_file_bytes(f->w));
    printf("%-15s GGUF version %u\n", "format", srn_weights_version(f->w));
    if (r->id[0]) printf("%-15s %s\n", srn_weights_parts(f->w) > 1 ? "weights id" : "SHA-256", r->id);
    print_row("architecture", f->arch);
    print_row("name", f->name);
    if (f->parameters) {
        print_count("parameters", f->parameters);
        print_types(f);
    } else {
        printf("%-15s none: the file holds a vocabulary only\n", "tensors");
    }
    print_shape(f);
    print_vocabulary(f);
    printf("%-15s %s", "runs here", f->model ? "yes" : "no: ");
    print_text(srn_str_of(f->refusal), sizeof f->refusal);
    putchar('\n');
    print_needs(r);
    if (q->meta) print_metadata(f->w);
    if (q->tensors) print_tensors(f->w);
}

/* ---- JSON; every function returns NULL or false when memory ran out ---- */

/* Text of the file as JSON: malformed bytes become U+FFFD. */
static json_t *json_text(srn_str s) {
    srn_buf b;
    srn_buf_init(&b, SIZE_MAX / 4);
    for (size_t i = 0; i < s.len;) {
        size_t n = srn_utf8_len(s.ptr + i, s.len - i);
        if (n)
            srn_buf_add(&b, s.ptr + i, n);
        else
            srn_buf_addz(&b, "\xEF\xBF\xBD");
        i += n ? n : 1;
    }
    json_t *j = b.failed ? NULL : json_stringn(b.data ? b.data : "", b.len);
    srn_buf_done(&b);
    return j;
}

static json_t *json_u64(uint64_t v) {
    return v <= INT64_MAX ? json_integer((json_int_t)v) : json_real((double)v);
}

/* What the file does not say is null. */
static json_t *known_u64(uint64_t v) {
    return v ? json_u64(v) : json_null();
}

static json_t *known_text(srn_str s) {
    return s.len ? json_text(s) : json_null();
}

static json_t *json_types(const srn__info *f) {
    json_t *list = json_array();
    for (size_t i = 0; i < f->n_shares; i++) {
        const srn_type_share *s = &f->shares[i];
        json_array_append_new(list, json_pack("{s:s, s:o, s:o, s:o, s:f, s:f}", "type",
                                              srn_type_get(s->type)->name, "tensors", json_u64(s->tensors),
                                              "weights", json_u64(s->weights), "bytes", json_u64(s->bytes),
                                              "weights_share", (double)s->weights / (double)f->parameters,
                                              "bytes_share", (double)s->bytes / (double)f->tensor_bytes));
    }
    return list;
}

static json_t *json_needs(const report *r) {
    json_t *list = json_array();
    for (size_t i = 0; i < r->n_needs; i++) {
        const srn__kv_need *n = &r->needs[i];
        json_array_append_new(
            list, json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:s}", "context", json_u64(n->ctx),
                            "weights_bytes", json_u64(r->info.tensor_bytes), "kv_bytes",
                            json_u64(n->kv_bytes), "total_bytes", json_u64(n->total_bytes), "kv_read_bytes",
                            json_u64(n->read_bytes), "layers", json_u64(n->layers), "window_layers",
                            json_u64(n->window_layers), "kv_type", srn_kv_type_name(r->kv_type)));
    }
    return list;
}

static json_t *json_tensors(const srn_weights *w) {
    json_t *list = json_array();
    for (size_t i = 0; i < srn_weights_count(w); i++) {
        const srn_tensor *t = srn_weights_at(w, i);
        json_t *shape = json_array();
        for (uint32_t d = 0; d < t->n_dims; d++) json_array_append_new(shape, json_u64(t->ne[d]));
        json_array_append_new(list, json_pack("{s:s, s:s, s:o, s:o, s:o, s:i}", "name", t->name, "type",
                                              srn_type_get(t->type)->name, "shape", shape, "bytes",
                                              json_u64(t->n_bytes), "offset", json_u64(t->offset), "part",
                                              (int)t->part));
    }
    return list;
}

static json_t *json_value(const srn_meta *m, size_t i) {
    bool array = m->type == SRN_META_ARR;
    switch (m->elem) {
    case SRN_META_STR:
        return json_text(array ? m->v.strs[i] : m->v.s);
    case SRN_META_F32:
    case SRN_META_F64: {
        json_t *j = json_real(array ? srn_meta_elem_f64(m, i) : m->v.f);
        return j ? j : json_null(); /* JSON has no infinity */
    }
    case SRN_META_BOOL:
        return json_boolean(array ? srn_meta_elem_i64(m, i) != 0 : m->v.b);
    case SRN_META_U8:
    case SRN_META_U16:
    case SRN_META_U32:
    case SRN_META_U64:
        return json_u64(array ? (uint64_t)srn_meta_elem_i64(m, i) : m->v.u);
    default:
        return json_integer(array ? srn_meta_elem_i64(m, i) : m->v.i);
    }
}

static json_t *json_metadata(const srn_weights *w) {
    json_t *all = json_object();
    for (size_t i = 0; i < srn_meta_count(w); i++) {
        const srn_meta *m = srn_meta_at(w, i);
        json_t *value = NULL;
        if (m->type == SRN_META_ARR) {
            json_t *first = json_array();
            for (size_t k = 0; k < m->count && k < SHOWN_ELEMS; k++)
                json_array_append_new(first, json_value(m, k));
            value = json_pack("{s:o, s:o}", "count", json_u64(m->count), "first", first);
        } else {
            value = json_value(m, 0);
        }
        json_object_setn_new(all, m->key.ptr, m->key.len, value);
    }
    return all;
}

static json_t *json_heads(uint64_t least, uint64_t most) {
    return least == most ? known_u64(most) : json_pack("[o, o]", json_u64(least), json_u64(most));
}

static json_t *json_report(const report *r, const request *q) {
    const srn__info *f = &r->info;
    json_t *j = json_object();
    json_object_set_new(j, "path", json_text(srn_str_of(srn_weights_path(f->w))));
    json_object_set_new(j, "file_bytes", json_u64(srn_weights_file_bytes(f->w)));
    json_object_set_new(j, "parts", json_u64(srn_weights_parts(f->w)));
    json_object_set_new(j, "gguf_version", json_u64(srn_weights_version(f->w)));
    json_object_set_new(j, "weights_id", r->id[0] ? json_string(r->id) : json_null());
    json_object_set_new(j, "architecture", known_text(f->arch));
    json_object_set_new(j, "name", known_text(f->name));
    json_object_set_new(j, "parameters", json_u64(f->parameters));
    json_object_set_new(j, "tensor_bytes", json_u64(f->tensor_bytes));
    json_object_set_new(j, "quantisation", f->n_shares ? json_string(f->quantisation) : json_null());
    json_object_set_new(j, "types", json_types(f));
    json_object_set_new(j, "layers", known_u64(f->layers));
    json_object_set_new(j, "embedding_length", known_u64(f->embedding));
    json_object_set_new(j, "feed_forward_length", known_u64(f->feed_forward));
    json_object_set_new(j, "heads", json_heads(f->heads_least, f->heads_most));
    json_object_set_new(j, "kv_heads", json_heads(f->kv_heads_least, f->kv_heads_most));
    json_object_set_new(j, "experts", known_u64(f->experts));
    json_object_set_new(j, "experts_used", known_u64(f->experts_used));
    json_object_set_new(j, "context_length", known_u64(f->context));
    json_object_set_new(j, "sliding_window", known_u64(f->window));
    json_object_set_new(j, "vocabulary",
                        json_pack("{s:o, s:o, s:o}", "size", json_u64(f->vocab), "model",
                                  known_text(f->tokenizer), "pre", known_text(f->pre)));
    json_object_set_new(j, "chat_template", json_boolean(f->chat_template));
    json_object_set_new(j, "tokenizer_id", known_text(srn_str_of(f->tokenizer_id)));
    json_object_set_new(j, "template_id", known_text(srn_str_of(f->template_id)));
    json_object_set_new(j, "runs", json_boolean(f->model));
    json_object_set_new(j, "refusal", known_text(srn_str_of(f->refusal)));
    json_object_set_new(j, "memory", json_needs(r));
    if (q->tensors) json_object_set_new(j, "tensors", json_tensors(f->w));
    if (q->meta) json_object_set_new(j, "metadata", json_metadata(f->w));
    return j;
}

static int print_json(const report *r, const request *q) {
    json_t *j = json_report(r, q);
    int failed = !j || json_dumpf(j, stdout, JSON_INDENT(2)) || putchar('\n') == EOF;
    json_decref(j);
    return failed ? 1 : 0;
}

/* ---- the command ---- */

/* The contexts to show: the one asked for, or a common one and the model's own. */
static int find_needs(report *r, int64_t asked, srn_err *err) {
    uint64_t wanted[MAX_NEEDS];
    size_t n = 0;
    const srn__info *f = &r->info;
    if (!f->layers || !f->parameters) return SRN_OK;
    if (asked > 0) {
        wanted[n++] = (uint64_t)asked;
    } else {
        if (!f->context || f->context > DEFAULT_CTX) wanted[n++] = DEFAULT_CTX;
        if (f->context) wanted[n++] = f->context;
    }
    for (size_t i = 0; i < n; i++) {
        int code = srn__info_kv(f, wanted[i], r->kv_type, &r->needs[i], err);
        if (code) return code;
    }
    r->n_needs = n;
    return SRN_OK;
}

static int examine(const request *q, srn_weights *w, report *r, const char *command, srn_err *err) {
    int code = srn__info_gather(w, &r->info, err);
    if (!code) code = find_needs(r, q->ctx, err);
    if (!code && !q->no_hash) code = srn_weights_id(w, q->rehash, srn_cli_progress, NULL, r->id, err);
    if (code) return srn_cli_error(command, err);
    if (!q->json) {
        print_report(r, q);
    } else if (print_json(r, q) && !ferror(stdout)) {
        srn_fail(err, SRN_ENOMEM, "out of memory");
        return srn_cli_error(command, err);
    }
    return srn_cli_flush(command);
}

static int open_and_examine(const request *q, const char *command, srn_err *err) {
    char path[4096];
    srn_open_opts opts = {.progress = srn_cli_progress, .vocab_only = true};
    srn_weights *w = NULL;
    report r = {.kv_type = SRN_KV_F16};
    if (q->kv && !srn_kv_type_by_name(q->kv, &r.kv_type)) {
        srn_fail(err, SRN_EINVAL, "the KV cache type '%s' is not known; use f16, q8_0 or f32", q->kv);
        return srn_cli_error(command, err);
    }
    int code = srn_weights_locate(q->model, path, sizeof path, err);
    if (!code) code = srn_weights_open(path, &opts, &w, err);
    if (code) return srn_cli_error(command, err);
    code = examine(q, w, &r, command, err);
    srn__info_done(&r.info);
    srn_weights_free(w);
    return code;
}

int srn__cmd_info(int argc, char **argv) {
    request q = {0};
    const srn_opt opts[] = {
        {.name = "json", .kind = SRN_OPT_FLAG, .dest = &q.json, .help = "one JSON object"},
        {.name = "ctx",
         .letter = 'c',
         .kind = SRN_OPT_INT,
         .dest = &q.ctx,
         .min = 1,
         .max = 1e12,
         .arg = "N",
         .help = "memory needed at a context of N tokens"},
        {.name = "kv",
         .kind = SRN_OPT_STR,
         .dest = &q.kv,
         .arg = "TYPE",
         .help = "with keys and values in f16 (default), q8_0 or f32"},
        {.name = "tensors", .kind = SRN_OPT_FLAG, .dest = &q.tensors, .help = "list every tensor"},
        {.name = "meta", .kind = SRN_OPT_FLAG, .dest = &q.meta, .help = "list the metadata"},
        {.name = "no-hash", .kind = SRN_OPT_FLAG, .dest = &q.no_hash, .help = "leave the SHA-256 out"},
        {.name = "rehash",
         .kind = SRN_OPT_FLAG,
         .dest = &q.rehash,
         .help = "compute the SHA-256 even if it is cached"},
    };
    const srn_cli_spec spec = {
        .usage =
            "serin info MODEL [--json] [--ctx N] [--kv TYPE] [--tensors] [--meta] [--no-hash | --rehash]",
        .about =
            "Tells what a model file holds: architecture, quantisation as found in its tensors, vocabulary,\n"
            "the SHA-256 that identifies the weights, and the memory needed at a context. MODEL is the path "
            "of\n"
            "a GGUF file (of a split model: its first part) or the name of a model in the cache.",
        .examples = "  serin info model.gguf\n"
                    "  serin info smollm2 --ctx 8192 --kv q8_0\n"
                    "  serin info model.gguf --json | jq .weights_id\n"
                    "  serin info big-00001-of-00003.gguf --tensors --no-hash\n",
        .opts = opts,
        .n_opts = SRN_LEN(opts),
        .min_operands = 1,
        .max_operands = 1,
    };
    int n, code = srn_cli_parse(&spec, argc, argv, &q.model, &n);
    if (code >= 0) return code;
    srn_err err = {0};
    return open_and_examine(&q, argv[0], &err);
}
