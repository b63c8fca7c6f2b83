/* serin ledger: what a ledger holds, whether its chain is whole, a signed checkpoint of it. Each is a word
 * after `ledger`, a row in the table below. Main thread. Reads at any time; signs through the folder only
 * where no server writes it. Refuses places that are no ledger.
 */
#include "cli/cli.h"

#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <time.h>

#include "cli/ledger.h"
#include "ledger/ledger.h"

typedef struct options {
    const char *where, *folder, *keys, *checkpoint;
    bool json;
    srn_buf place; /* the default folder's path */
    srn_buf name;  /* of where, without a password */
} options;

static void utc(uint64_t us, char ret[32]) {
    time_t t = (time_t)(us / 1000000);
    struct tm tm;
    if (!us || !gmtime_r(&t, &tm) || !strftime(ret, 32, "%Y-%m-%dT%H:%M:%SZ", &tm))
        snprintf(ret, 32, "never");
}

int srn__ledger_print(const char *command, json_t *j) {
    if (!j) return fprintf(stderr, "serin %s: out of memory\n", command), 1;
    json_dumpf(j, stdout, JSON_INDENT(2));
    putchar('\n');
    json_decref(j);
    return srn_cli_flush(command);
}

/* ---- status ---- */

static void print_size(const char *name, uint64_t bytes) {
    printf("%-12s %.1f %s\n", name, bytes < 1000000000 ? (double)bytes / 1e6 : (double)bytes / 1e9,
           bytes < 1000000000 ? "MB" : "GB");
}

static json_t *status_json(const options *o, const srn_reader_status *s) {
    json_t *j = json_pack("{ssss sI sI sI sI sI sI sI sI}", "ledger", o->name.data, "instance", s->instance,
                          "epoch", (json_int_t)s->epoch, "records", (json_int_t)s->n_records, "last_seq",
                          (json_int_t)s->last_seq, "last_us", (json_int_t)s->last_us, "signed_seq",
                          (json_int_t)s->signed_seq, "signed_us", (json_int_t)s->signed_us, "disk_bytes",
                          (json_int_t)s->disk_bytes, "free_bytes", (json_int_t)s->free_bytes);
    json_t *writer = s->is_written
                         ? json_pack("{sIss}", "pid", (json_int_t)s->writer_pid, "address", s->writer_address)
                         : json_null();
    if (!j || !writer) return json_decref(j), json_decref(writer), NULL;
    json_object_set_new(j, "max_bytes", s->max_bytes ? json_integer((json_int_t)s->max_bytes) : json_null());
    json_object_set_new(j, "days_left", isfinite(s->days_left) ? json_real(s->days_left) : json_null());
    json_object_set_new(j, "writer", writer);
    return j;
}

static int print_status(const options *o, const srn_reader_status *s) {
    char last[32], signed_at[32];
    if (o->json) return srn__ledger_print("ledger status", status_json(o, s));
    utc(s->last_us, last);
    utc(s->signed_us, signed_at);
    printf("%-12s ", "ledger");
    srn_cli_put_text(stdout, srn_str_of(o->name.data), 4096, false);
    printf("\n%-12s %s, epoch %" PRIu64 "\n", "instance", s->instance, s->epoch);
    printf("%-12s %" PRIu64 ", the last one %" PRIu64 " of %s\n", "records", s->n_records, s->last_seq, last);
    if (s->signed_seq)
        printf("%-12s up to record %" PRIu64 ", %s\n", "signed", s->signed_seq, signed_at);
    else
        printf("%-12s not yet: a server signs every 10 minutes and at its stop\n", "signed");
    print_size("on disk", s->disk_bytes);
    print_size("disk has", s->free_bytes);
    if (s->max_bytes) print_size("max_size", s->max_bytes);
    if (isfinite(s->days_left))
        printf("%-12s %.0f days until %s\n", "at this rate", s->days_left,
               s->max_bytes ? "the oldest calls are dropped for max_size" : "the disk is full");
    if (s->is_written) {
        printf("%-12s by process %" PRId64 "%s", "written", s->writer_pid,
               s->writer_address[0] ? " at " : "");
        srn_cli_put_text(stdout, srn_str_of(s->writer_address), 200, false);
        putchar('\n');
    } else {
        printf("%-12s by nobody now\n", "written");
    }
    return srn_cli_flush("ledger status");
}

static int run_status(options *o, srn_err *err, int *ret_exit) {
    srn_reader *r = NULL;
    srn_reader_status s;
    int code = srn_reader_open_in(o->where, o->folder, o->keys, &r, err);
    if (!code) code = srn_reader_get_status(r, &s, err);
    srn_reader_close(r);
    if (!code) *ret_exit = print_status(o, &s);
    return code;
}

/* ---- verify ---- */

static json_t *verify_json(const options *o, const srn_verify_result *v) {
    json_t *j =
        json_pack("{sssb sI sI sI}", "ledger", o->name.data, "ok", v->ok, "records", (json_int_t)v->n_records,
                  "dropped", (json_int_t)v->n_dropped, "checkpoints", (json_int_t)v->n_checkpoints);
    if (!j || v->ok) return j;
    json_object_set_new(j, "bad_seq", json_integer((json_int_t)v->bad_seq));
    json_object_set_new(j, "what", json_string(v->what));
    return j;
}

static int print_verify(const options *o, const srn_verify_result *v) {
    if (o->json) {
        int code = srn__ledger_print("ledger verify", verify_json(o, v));
        return code ? code : !v->ok;
    }
    if (!v->ok) {
        printf("broken: ");
        srn_cli_put_text(stdout, srn_str_of(v->what), sizeof v->what, false);
        printf("\n%" PRIu64 " record%s before it %s written\n", v->n_records, v->n_records == 1 ? "" : "s",
               v->n_records == 1 ? "is as it was" : "are as they were");
    } else {
        printf("whole: %" PRIu64 " record%s, %" PRIu64 " signed checkpoint%s", v->n_records,
               v->n_records == 1 ? "" : "s", v->n_checkpoints, v->n_checkpoints == 1 ? "" : "s");
        if (v->n_dropped)
            printf(", %" PRIu64 " record%s dropped by retention", v->n_dropped, v->n_dropped == 1 ? "" : "s");
        putchar('\n');
        if (!o->checkpoint)
            printf(
                "a cut at its end shows against a checkpoint that was kept elsewhere: --checkpoint FILE\n");
    }
    int code = srn_cli_flush("ledger verify");
    return code ? code : !v->ok;
}

/* The last line of the file: a checkpoint, or a copy of checkpoints.jsonl. */
static srn_str last_line(const char *data, size_t n) {
    while (n && (data[n - 1] == '\n' || data[n - 1] == '\r' || data[n - 1] == ' ')) n--;
    size_t at = n;
    while (at && data[at - 1] != '\n') at--;
    return (srn_str){data + at, n - at};
}

static int run_verify(options *o, srn_err *err, int *ret_exit) {
    srn_reader *r = NULL;
    srn_verify_result v = {0};
    srn_verify_opts how = {.progress = srn_cli_progress};
    char *data = NULL;
    size_t n = 0;
    int code = o->checkpoint ? srn_read_file(o->checkpoint, 64 << 20, &data, &n, err) : SRN_OK;
    if (!code && data) how.checkpoint = last_line(data, n);
    if (!code && data && !how.checkpoint.len)
        code = srn_fail(err, SRN_EFORMAT, "%s: holds no checkpoint; `serin ledger checkpoint` prints one",
                        o->checkpoint);
    if (!code) code = srn_reader_open_in(o->where, o->folder, o->keys, &r, err);
    if (!code) code = srn_reader_verify(r, &how, &v, err);
    srn_reader_close(r);
    free(data);
    if (!code) *ret_exit = print_verify(o, &v);
    return code;
}

/* ---- checkpoint ---- */

/* Signed now where nobody else writes the ledger; else the newest one there is. */
static int newest(options *o, srn_buf *ret, bool *ret_now, srn_err *err) {
    srn_reader *r = NULL;
    srn_ledger *l = NULL;
    int code =
        srn_reader_open_in(o->where, o->folder, o->keys, &r, err); /* makes no ledger where there is none */
    if (code) return code;
    code = srn_ledger_open(&(srn_ledger_opts){.where = o->where, .folder = o->folder, .keys_dir = o->keys},
                           &l, err);
    *ret_now = !code;
    if (!code) code = srn_ledger_checkpoint(l, ret, err);
    if (code == SRN_EBUSY) code = srn_reader_checkpoint(r, ret, err);
    srn_ledger_close(l);
    srn_reader_close(r);
    return code;
}

static int run_checkpoint(options *o, srn_err *err, int *ret_exit) {
    srn_buf text;
    bool now = false;
    srn_buf_init(&text, 1 << 20);
    int code = newest(o, &text, &now, err);
    if (!code) {
        printf("%s\n", text.data);
        *ret_exit = srn_cli_flush("ledger checkpoint");
        if (!now)
            fprintf(
                stderr,
                "serin ledger checkpoint: a server writes this ledger; this is the newest that it signed\n");
    }
    srn_buf_done(&text);
    return code;
}

/* ---- the words ---- */

static const struct {
    const char *name;
    int (*run)(options *o, srn_err *err, int *ret_exit);
    const char *usage, *about, *examples;
    int (*command)(int argc, char **argv); /* of a file of its own, in place of run */
} words[] = {
    {"status", run_status, "serin ledger status [OPTIONS]",
     "What the ledger holds, how much room it takes, who writes it.",
     "  serin ledger status\n"
     "  serin ledger status --ledger /var/lib/serin --json | jq .days_left\n",
     NULL},
    {"verify", run_verify, "serin ledger verify [OPTIONS]",
     "Reads the whole chain and names the first record that was edited, removed, reordered or cut off.\n"
     "Ends with 1 where there is one. Reads a ledger that is being written, too.",
     "  serin ledger verify\n"
     "  serin ledger verify --checkpoint /media/safe/checkpoint.json   # also sees a cut end\n"
     "  serin ledger verify --json | jq -r .what\n",
     NULL},
    {"checkpoint", run_checkpoint, "serin ledger checkpoint [OPTIONS]",
     "Prints a signed checkpoint of the chain, one line of JSON, to be kept elsewhere: with it `serin "
     "ledger\n"
     "verify` sees whether records were cut off the end, or the history was written anew.",
     "  serin ledger checkpoint > /media/safe/checkpoint.json\n"
     "  serin ledger checkpoint | ssh elsewhere 'cat >> checkpoints.jsonl'\n",
     NULL},
    {.name = "backup",
     .about = "Copies the ledger, beside a running server, and verifies the copy.",
     .command = srn__cmd_ledger_backup},
    {.name = "restore", .about = "Makes a ledger from a backup.", .command = srn__cmd_ledger_restore},
    {.name = "forget",
     .about = "Destroys the key of a person's encrypted content.",
     .command = srn__cmd_ledger_forget},
};

static int help(FILE *f) {
    fprintf(f, "usage: serin ledger WORD [OPTIONS]\n\n");
    for (size_t i = 0; i < SRN_LEN(words); i++)
        fprintf(f, "  %-12s %.*s\n", words[i].name, (int)strcspn(words[i].about, "\n"), words[i].about);
    fprintf(f, "\n`serin ledger WORD --help` tells more, with examples.\n");
    return f == stdout ? srn_cli_flush("ledger") : 2;
}

static int run_command(size_t word, int argc, char **argv) {
    char name[64], *was = argv[1];
    snprintf(name, sizeof name, "ledger %s", words[word].name);
    argv[1] = name;
    int code = words[word].command(argc - 1, argv + 1);
    argv[1] = was;
    return code;
}

static int run_word(size_t word, int argc, char **argv) {
    options o = {0};
    const srn_opt opts[] = {
        {"ledger", 0, SRN_OPT_STR, &o.where, 0, 0, "DIR|URL", "the ledger (default: that of this user)"},
        SRN__LEDGER_FOLDER(&o.folder),
        {"keys", 0, SRN_OPT_STR, &o.keys, 0, 0, "DIR", "its keys (default: keys in the folder)"},
        {"json", 0, SRN_OPT_FLAG, &o.json, 0, 0, NULL, "print JSON"},
        {"checkpoint", 0, SRN_OPT_STR, &o.checkpoint, 0, 0, "FILE", "a checkpoint that was kept elsewhere"},
    };
    bool takes_checkpoint = words[word].run == run_verify;
    char name[64];
    snprintf(name, sizeof name, "ledger %s", words[word].name);
    srn_cli_spec spec = {.usage = words[word].usage,
                         .about = words[word].about,
                         .examples = words[word].examples,
                         .opts = opts,
                         .n_opts = SRN_LEN(opts) - !takes_checkpoint};
    char *was = argv[1];
    argv[1] = name;
    int n, code = srn_cli_parse(&spec, argc - 1, argv + 1, NULL, &n);
    argv[1] = was;
    if (code >= 0) return code;
    srn_err err = {0};
    int ended = 0;
    code = srn__ledger_place(&o.where, o.folder, &o.place, &err);
    if (!code) code = srn__ledger_name(o.where, &o.name, &err);
    if (!code) code = words[word].run(&o, &err, &ended);
    srn_buf_done(&o.place);
    srn_buf_done(&o.name);
    return code ? srn_cli_error(name, &err) : ended;
}

int srn__cmd_ledger(int argc, char **argv) {
    if (argc < 2) return help(stderr);
    const char *word = argv[1];
    if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0) return help(stdout);
    for (size_t i = 0; i < SRN_LEN(words); i++)
        if (strcmp(word, words[i].name) == 0)
            return words[i].command ? run_command(i, argc, argv) : run_word(i, argc, argv);
    const char *nearest =
        srn_cli_nearest(word, strlen(word), &words[0].name, SRN_LEN(words), sizeof words[0]);
    fprintf(stderr, "serin ledger: there is no '%.64s'; ", word);
    if (nearest) fprintf(stderr, "did you mean '%s'? ", nearest);
    fprintf(stderr, "`serin ledger --help` lists what there is\n");
    return 2;
}
