/* serin prompts: the registry of prompts from the command line. Reading needs nobody's leave: the ledger is
 * read beside the server that writes it. Main thread. Refuses what the registry refuses.
 */
#include "cli/prompts.h"

#include <stdlib.h>
#include <time.h>
#include <unistd.h>

/* ---- shared ---- */

int srn__prompts_open_read(const srn__prompts_opts *o, srn_prompts **ret, srn_err *err) {
    srn_buf place;
    const char *where = o->ledger;
    int code = srn__ledger_place(&where, o->folder, &place, err);
    if (!code && !srn_ledger_is_postgres(where) && access(where, F_OK))
        code = srn_fail(err, SRN_ENOENT, "%s: there is no ledger; `serin prompts push NAME FILE` makes one",
                        where);
    if (!code) code = srn_prompts_read(where, NULL, ret, err);
    srn_buf_done(&place);
    return code;
}

int srn__prompts_print(json_t *o, srn_err *err) {
    char *text = o ? json_dumps(o, JSON_COMPACT) : NULL;
    json_decref(o);
    if (!text) return srn_fail_nomem(err, 0);
    puts(text);
    free(text);
    return SRN_OK;
}

static const char *text_of(const json_t *o, const char *key) {
    const char *z = json_string_value(json_object_get(o, key));
    return z ? z : "";
}

static void put(const char *z) {
    srn_cli_put_text(stdout, srn_str_of(z), 200, false);
}

static void put_time(const json_t *o) {
    time_t t = (time_t)(json_integer_value(json_object_get(o, "at_us")) / 1000000);
    struct tm tm;
    gmtime_r(&t, &tm);
    printf("%04d-%02d-%02d %02d:%02d:%02dZ", tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday, tm.tm_hour,
           tm.tm_min, tm.tm_sec);
}

static int end(const char *command, int code, const srn_err *err) {
    return code ? srn_cli_error(command, err) : srn_cli_flush(command);
}

/* ---- push ---- */

static int read_prompt(const char *path, srn_prompt **ret, srn_err *err) {
    char *data;
    size_t len;
    int code = srn_read_file(path, SRN_PROMPT_FILE_MAX, &data, &len, err);
    if (code) return code;
    code = srn_prompt_parse((srn_str){data, len}, strcmp(path, "-") == 0 ? "standard input" : path, ret, err);
    free(data);
    return code;
}

typedef struct pushing {
    srn__prompts_opts o;
    const char *name, *file, *label;
} pushing;

static int report_push(const pushing *q, const srn_prompt *p, uint32_t version, bool is_new, bool moved,
                       srn_err *err) {
    if (q->o.json)
        return srn__prompts_print(json_pack("{s:s, s:I, s:s, s:b, s:s?, s:b}", "name", q->name, "version",
                                            (json_int_t)version, "hash", p->hash, "new", is_new, "label",
                                            q->label, "moved", moved),
                                  err);
    printf("%s@%u  %s  %.12s\n", q->name, version, is_new ? "new version" : "has this content already",
           p->hash);
    if (q->label)
        printf("%s %s version %u\n", q->label, moved ? "now points at" : "points already at", version);
    return SRN_OK;
}

static int push(const pushing *q, srn_err *err) {
    srn_prompt *p = NULL;
    srn__prompts_writer *w = NULL;
    uint32_t version = 0;
    bool is_new = false, moved = false;
    const char *slash = strrchr(q->file, '/');
    json_t *source = json_pack("{s:s}", "file", slash ? slash + 1 : q->file);
    int code = srn_prompt_check_name(srn_str_of(q->name), err);
    if (!code && q->label) code = srn_prompt_check_label(srn_str_of(q->label), err);
    if (!code) code = read_prompt(q->file, &p, err);
    if (!code) code = srn__prompts_writer_open(&q->o, &w, err);
    if (!code) code = srn__prompts_writer_push(w, q->name, p, source, &version, &is_new, err);
    if (!code && q->label) code = srn__prompts_writer_label(w, q->name, q->label, version, &moved, err);
    if (!code) code = report_push(q, p, version, is_new, moved, err);
    srn__prompts_writer_close(w);
    json_decref(source);
    srn_prompt_free(p);
    return code;
}

static int cmd_push(int argc, char **argv) {
    pushing q = {.name = NULL};
    const char *operands[2] = {NULL};
    int n = 0;
    srn_err err = {0};
    const srn_opt opts[] = {
        {"label", 0, SRN_OPT_STR, &q.label, 0, 0, "NAME", "point this label at the version"},
        SRN__PROMPTS_BY(&q.o),
        SRN__PROMPTS_OPTS(&q.o),
    };
    const srn_cli_spec spec = {
        .usage = "serin prompts push NAME FILE [--label NAME]",
        .about =
            "Stores a prompt file (YAML or JSON, - is standard input; docs/prompts.md) as the next version\n"
            "of NAME, unless the newest version has this content already.",
        .examples = "  serin prompts push support/answer answer.yaml --label production\n",
        .opts = opts,
        .n_opts = SRN_LEN(opts),
        .min_operands = 2,
        .max_operands = 2,
    };
    int code = srn_cli_parse(&spec, argc, argv, operands, &n);
    if (code >= 0) return code;
    q.name = operands[0];
    q.file = operands[1];
    return end("prompts push", push(&q, &err), &err);
}

/* ---- list ---- */

static void put_labels(const json_t *labels) {
    const char *label, *comma = "";
    json_t *v;
    json_object_foreach((json_t *)(uintptr_t)labels, label, v) {
        printf("%s%s=%lld", comma, label, (long long)json_integer_value(v));
        comma = " ";
    }
}

static int report_list(const json_t *o) {
    const json_t *list = json_object_get(o, "data");
    json_t *e;
    size_t i;
    int width = 4;
    if (!json_array_size(list))
        printf("no prompts yet; `serin prompts push NAME FILE` makes the first version\n");
    json_array_foreach(list, i, e) width = SRN_MAX(width, (int)strlen(text_of(e, "name")));
    json_array_foreach(list, i, e) {
        printf("%-*s  %4lld  ", width, text_of(e, "name"),
               (long long)json_integer_value(json_object_get(e, "latest")));
        put_time(e);
        printf("  ");
        put(text_of(e, "by"));
        printf("  ");
        put_labels(json_object_get(e, "labels"));
        putchar('\n');
    }
    return SRN_OK;
}

static int cmd_list(int argc, char **argv) {
    srn__prompts_opts o = {.json = false};
    srn_prompts *p = NULL;
    json_t *all = NULL;
    int n = 0;
    srn_err err = {0};
    const srn_opt opts[] = {SRN__PROMPTS_OPTS(&o)};
    const srn_cli_spec spec = {
        .usage = "serin prompts list",
        .about = "Name, newest version, when and by whom it was pushed, and labels of each prompt.",
        .examples = "  serin prompts list\n  serin prompts list --ledger /var/lib/serin --json\n",
        .opts = opts,
        .n_opts = SRN_LEN(opts)};
    int code = srn_cli_parse(&spec, argc, argv, NULL, &n);
    if (code >= 0) return code;
    code = srn__prompts_open_read(&o, &p, &err);
    if (!code) code = srn_prompts_json(p, NULL, &all, &err);
    if (!code) code = o.json ? srn__prompts_print(json_incref(all), &err) : report_list(all);
    json_decref(all);
    srn_prompts_close(p);
    return end("prompts list", code, &err);
}

/* ---- show ---- */

static void put_source(const json_t *source) {
    const char *commit = text_of(source, "commit"), *file = text_of(source, "file");
    if (*file) printf("  "), put(file);
    if (*commit) printf("  commit %.12s", commit);
}

/* As YAML that may be pushed again, with what is known of it as a remark. */
static int report_version(srn_prompts *p, const srn_prompt_ref *ref, const json_t *o, srn_err *err) {
    const srn_prompt *v = NULL;
    json_t *label;
    size_t i;
    srn_buf b;
    srn_buf_init(&b, 16u << 20);
    int code = srn_prompts_get(p, ref, &v, NULL, err);
    if (!code) code = srn_prompt_yaml(v, &b, err);
    if (!code) {
        printf("# %s@%u  %.12s  ", v->name, v->version, v->hash);
        put_time(o);
        printf("  ");
        put(text_of(o, "by"));
        put_source(json_object_get(o, "source"));
        json_array_foreach(json_object_get(o, "labels"), i, label)
            printf("%s%s", i ? ", " : "  labels: ", json_string_value(label));
        putchar('\n');
        srn_cli_put_result((srn_str){b.data, b.len});
    }
    srn_prompts_put(v);
    srn_buf_done(&b);
    return code;
}

static int cmd_show(int argc, char **argv) {
    srn__prompts_opts o = {.json = false};
    srn_prompts *p = NULL;
    srn_prompt_ref ref;
    json_t *v = NULL;
    const char *name = NULL;
    int n = 0;
    srn_err err = {0};
    const srn_opt opts[] = {SRN__PROMPTS_OPTS(&o)};
    const srn_cli_spec spec = {
        .usage = "serin prompts show NAME[@VERSION|@LABEL]",
        .about = "Prints a version as YAML that may be pushed again. Without a version: the one labelled\n"
                 "production, else the newest.",
        .examples =
            "  serin prompts show support/answer\n  serin prompts show support/answer@3 > answer.yaml\n",
        .opts = opts,
        .n_opts = SRN_LEN(opts),
        .min_operands = 1,
        .max_operands = 1};
    int code = srn_cli_parse(&spec, argc, argv, &name, &n);
    if (code >= 0) return code;
    code = srn_prompt_ref_parse(srn_str_of(name), &ref, &err);
    if (!code) code = srn__prompts_open_read(&o, &p, &err);
    if (!code) code = srn_prompts_version_json(p, &ref, &v, &err);
    if (!code) code = o.json ? srn__prompts_print(json_incref(v), &err) : report_version(p, &ref, v, &err);
    json_decref(v);
    srn_prompts_close(p);
    return end("prompts show", code, &err);
}

/* ---- diff ---- */

static int diff(srn_prompts *p, const char *const *names, bool json, srn_err *err) {
    const srn_prompt *v[2] = {NULL, NULL};
    srn_buf text[2], out;
    srn_buf_init(&out, 64u << 20);
    int code = SRN_OK;
    for (int i = 0; i < 2; i++) {
        srn_prompt_ref ref;
        srn_buf_init(&text[i], 16u << 20);
        if (!code) code = srn_prompt_ref_parse(srn_str_of(names[i]), &ref, err);
        if (!code) code = srn_prompts_get(p, &ref, &v[i], NULL, err);
        if (!code) code = srn_prompt_yaml(v[i], &text[i], err);
    }
    bool same = !code && strcmp(v[0]->hash, v[1]->hash) == 0;
    if (!code &&
        !srn__prompts_diff((srn_str){text[0].data, text[0].len}, (srn_str){text[1].data, text[1].len}, &out))
        code = srn_fail_nomem(err, 0);
    if (!code && json) {
        code = srn__prompts_print(json_pack("{s:s, s:I, s:s, s:I, s:b, s:s%}", "from", v[0]->name,
                                            "from_version", (json_int_t)v[0]->version, "to", v[1]->name,
                                            "to_version", (json_int_t)v[1]->version, "same", same, "diff",
                                            same ? "" : out.data, same ? (size_t)0 : out.len),
                                  err);
    } else if (!code && same) {
        printf("%s@%u and %s@%u have the same content\n", v[0]->name, v[0]->version, v[1]->name,
               v[1]->version);
    } else if (!code) {
        printf("- %s@%u\n+ %s@%u\n\n", v[0]->name, v[0]->version, v[1]->name, v[1]->version);
        srn_cli_put_result((srn_str){out.data, out.len});
    }
    for (int i = 0; i < 2; i++) srn_prompts_put(v[i]), srn_buf_done(&text[i]);
    srn_buf_done(&out);
    return code;
}

static int cmd_diff(int argc, char **argv) {
    srn__prompts_opts o = {.json = false};
    srn_prompts *p = NULL;
    const char *names[2] = {NULL};
    int n = 0;
    srn_err err = {0};
    const srn_opt opts[] = {SRN__PROMPTS_OPTS(&o)};
    const srn_cli_spec spec = {.usage = "serin prompts diff NAME@A NAME@B",
                               .about = "What changed between two versions, line by line.",
                               .examples =
                                   "  serin prompts diff support/answer@2 support/answer@3\n"
                                   "  serin prompts diff support/answer@production support/answer@staging\n",
                               .opts = opts,
                               .n_opts = SRN_LEN(opts),
                               .min_operands = 2,
                               .max_operands = 2};
    int code = srn_cli_parse(&spec, argc, argv, names, &n);
    if (code >= 0) return code;
    code = srn__prompts_open_read(&o, &p, &err);
    if (!code) code = diff(p, names, o.json, &err);
    srn_prompts_close(p);
    return end("prompts diff", code, &err);
}

/* ---- label ---- */

static int read_version(const char *text, uint32_t *ret, srn_err *err) {
    char *stop;
    long v = strtol(text, &stop, 10);
    if (stop == text || *stop || v < 1 || v > INT32_MAX)
        return srn_fail(err, SRN_EUSAGE, "'%.40s' is no version; versions are numbers from 1 on", text);
    *ret = (uint32_t)v;
    return SRN_OK;
}

static int cmd_label(int argc, char **argv) {
    srn__prompts_opts o = {.json = false};
    srn__prompts_writer *w = NULL;
    const char *operands[3] = {NULL};
    bool delete = false, moved = false;
    uint32_t version = 0;
    int n = 0;
    srn_err err = {0};
    const srn_opt opts[] = {{"delete", 0, SRN_OPT_FLAG, &delete, 0, 0, NULL, "take the label away"},
                            SRN__PROMPTS_BY(&o),
                            SRN__PROMPTS_OPTS(&o)};
    const srn_cli_spec spec = {
        .usage = "serin prompts label NAME LABEL [VERSION] [--delete]",
        .about = "Points a label at a version. Calls that name the label get it from then on.",
        .examples = "  serin prompts label support/answer production 3\n"
                    "  serin prompts label support/answer staging --delete\n",
        .opts = opts,
        .n_opts = SRN_LEN(opts),
        .min_operands = 2,
        .max_operands = 3};
    int code = srn_cli_parse(&spec, argc, argv, operands, &n);
    if (code >= 0) return code;
    code = SRN_OK;
    if (delete == (n == 3)) code = srn_fail(&err, SRN_EUSAGE, "give a VERSION, or --delete");
    if (!code && n == 3) code = read_version(operands[2], &version, &err);
    if (!code) code = srn__prompts_writer_open(&o, &w, &err);
    if (!code) code = srn__prompts_writer_label(w, operands[0], operands[1], version, &moved, &err);
    srn__prompts_writer_close(w);
    if (!code && o.json)
        code = srn__prompts_print(json_pack("{s:s, s:s, s:o, s:b}", "name", operands[0], "label", operands[1],
                                            "version", version ? json_integer(version) : json_null(), "moved",
                                            moved),
                                  &err);
    else if (!code && version)
        printf("%s: %s %s version %u\n", operands[0], operands[1],
               moved ? "now points at" : "points already at", version);
    else if (!code)
        printf("%s: %s is gone\n", operands[0], operands[1]);
    return end("prompts label", code, &err);
}

/* ---- history ---- */

static void put_step(const json_t *e) {
    const json_t *from = json_object_get(e, "from"), *to = json_object_get(e, "to");
    put_time(e);
    printf("  ");
    put(text_of(e, "by"));
    if (strcmp(text_of(e, "event"), "prompt_pushed") == 0) {
        printf("  version %lld  %.12s", (long long)json_integer_value(json_object_get(e, "version")),
               text_of(e, "hash"));
        put_source(json_object_get(e, "source"));
    } else if (json_is_null(to)) {
        printf("  %s taken away from %lld", text_of(e, "label"), (long long)json_integer_value(from));
    } else if (json_is_null(from)) {
        printf("  %s -> %lld", text_of(e, "label"), (long long)json_integer_value(to));
    } else {
        printf("  %s %lld -> %lld", text_of(e, "label"), (long long)json_integer_value(from),
               (long long)json_integer_value(to));
    }
    putchar('\n');
}

static int cmd_history(int argc, char **argv) {
    srn__prompts_opts o = {.json = false};
    srn_prompts *p = NULL;
    json_t *all = NULL, *e;
    const char *name = NULL;
    size_t i;
    int n = 0;
    srn_err err = {0};
    const srn_opt opts[] = {SRN__PROMPTS_OPTS(&o)};
    const srn_cli_spec spec = {.usage = "serin prompts history NAME",
                               .about = "Versions and moves of labels, with who and when, oldest first.",
                               .examples = "  serin prompts history support/answer\n",
                               .opts = opts,
                               .n_opts = SRN_LEN(opts),
                               .min_operands = 1,
                               .max_operands = 1};
    int code = srn_cli_parse(&spec, argc, argv, &name, &n);
    if (code >= 0) return code;
    code = srn__prompts_open_read(&o, &p, &err);
    if (!code) code = srn_prompts_history(p, name, &all, &err);
    if (!code && o.json) code = srn__prompts_print(json_incref(all), &err);
    if (!code && !o.json) json_array_foreach(json_object_get(all, "history"), i, e) put_step(e);
    json_decref(all);
    srn_prompts_close(p);
    return end("prompts history", code, &err);
}

/* ---- the table ---- */

typedef struct sub {
    const char *name, *title; /* title: argv[0] for the parser's messages */
    int (*run)(int argc, char **argv);
    const char *summary;
} sub;
static const sub subs[] = {
    {"push", "prompts push", cmd_push, "store a file as the next version of a prompt"},
    {"list", "prompts list", cmd_list, "all prompts, their newest versions and labels"},
    {"show", "prompts show", cmd_show, "one version, as YAML"},
    {"diff", "prompts diff", cmd_diff, "what changed between two versions"},
    {"label", "prompts label", cmd_label, "point a label at a version"},
    {"history", "prompts history", cmd_history, "who pushed and moved what, and when"},
    {"sync", "prompts sync", srn__prompts_sync, "make versions of a folder's files"},
};

static int help(FILE *f) {
    fprintf(f, "usage: serin prompts COMMAND [ARGUMENTS]\n\nThe registry of prompts: versions that never "
               "change, and "
               "labels that point at them.\n\n");
    for (size_t i = 0; i < SRN_LEN(subs); i++) fprintf(f, "  %-9s %s\n", subs[i].name, subs[i].summary);
    fprintf(f, "\n`serin prompts COMMAND --help` tells more.\n\nexamples:\n"
               "  serin prompts push support/answer answer.yaml --label production\n"
               "  serin prompts diff support/answer@1 support/answer@2\n"
               "  serin prompts sync prompts/ --label staging\n");
    return f == stdout ? srn_cli_flush("prompts") : 2;
}

int srn__cmd_prompts(int argc, char **argv) {
    if (argc < 2) return help(stderr);
    const char *name = argv[1];
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0) return help(stdout);
    for (size_t i = 0; i < SRN_LEN(subs); i++) {
        if (strcmp(name, subs[i].name) != 0) continue;
        argv[1] = (char *)(uintptr_t)subs[i].title;
        return subs[i].run(argc - 1, argv + 1);
    }
    const char *nearest = srn_cli_nearest(name, strlen(name), &subs[0].name, SRN_LEN(subs), sizeof subs[0]);
    fprintf(stderr, "serin prompts: there is no command '%s'; ", name);
    if (nearest) fprintf(stderr, "did you mean '%s'? ", nearest);
    fprintf(stderr, "`serin prompts --help` lists them\n");
    return 2;
}
