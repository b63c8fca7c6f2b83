/* cli: the option parser and the help that it prints. Shared by every command; main thread only.
 * Refuses unknown options (naming the nearest known one), missing or malformed values, numbers out of range,
 * and too few or too many operands; each error ends in the command to try next.
 */
#include "cli/cli.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>

void srn_str_list_done(srn_str_list *l) {
    free((void *)l->items);
    *l = (srn_str_list){0};
}

typedef struct parse {
    const srn_cli_spec *spec;
    const char *command; /* "info" */
    int argc, at;
    char **argv;
} parse;

static int usage_error(const parse *p, const char *fmt, ...) SRN_PRINTF(2, 3);
static int usage_error(const parse *p, const char *fmt, ...) {
    va_list ap;
    fprintf(stderr, "serin %s: ", p->command);
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fprintf(stderr, "\nusage: %s\n`serin %s --help` tells more\n", p->spec->usage, p->command);
    return 2;
}

/* ---- help ---- */

static void print_option(const srn_opt *o) {
    char left[64];
    int n = 0;
    n = o->letter ? snprintf(left, sizeof left, "-%c, --%s", o->letter, o->name)
                  : snprintf(left, sizeof left, "    --%s", o->name);
    if (o->kind != SRN_OPT_FLAG && n > 0 && (size_t)n < sizeof left)
        snprintf(left + n, sizeof left - (size_t)n, " %s", o->arg ? o->arg : "VALUE");
    printf("  %-26s %s\n", left, o->help ? o->help : "");
}

static int print_help(const parse *p) {
    const srn_cli_spec *s = p->spec;
    printf("usage: %s\n\n%s\n\noptions:\n", s->usage, s->about);
    for (size_t i = 0; i < s->n_opts; i++) print_option(&s->opts[i]);
    print_option(&(srn_opt){.name = "help", .letter = 'h', .help = "show this text"});
    if (s->examples)
        printf("\nexamples:\n%s%s", s->examples, s->examples[strlen(s->examples) - 1] == '\n' ? "" : "\n");
    return srn_cli_flush(p->command);
}

/* ---- one option ---- */

/* Edits (insert, delete, replace) between two short words; large when either is long. */
static size_t edit_distance(const char *a, size_t n, const char *b) {
    enum { LONGEST = 31 };
    size_t m = strlen(b), row[LONGEST + 1];
    if (n > LONGEST || m > LONGEST) return SIZE_MAX;
    for (size_t j = 0; j <= m; j++) row[j] = j;
    for (size_t i = 1; i <= n; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= m; j++) {
            size_t best = diagonal + (a[i - 1] != b[j - 1]);
            diagonal = row[j];
            best = SRN_MIN(best, row[j] + 1);
            row[j] = SRN_MIN(best, row[j - 1] + 1);
        }
    }
    return row[m];
}

const char *srn_cli_nearest(const char *word, size_t len, const char *const *names, size_t n, size_t stride) {
    const char *nearest = NULL;
    size_t least = 3; /* farther ones are no help */
    for (size_t i = 0; i < n && len > 1; i++) {
        const char *name = *(const char *const *)(const void *)((const char *)names + i * stride);
        size_t d = edit_distance(word, len, name);
        if (d < least && d < len) least = d, nearest = name;
    }
    return nearest;
}

static int unknown_option(const parse *p, const char *word, size_t n) {
    const srn_cli_spec *s = p->spec;
    const char *dashes = n > 1 ? "--" : "-";
    for (size_t i = 0; i < s->n_foreign; i++)
        if (strlen(s->foreign[i].name) == n && memcmp(s->foreign[i].name, word, n) == 0)
            return usage_error(p, "there is no option '%s%.*s'; %s", dashes, (int)n, word, s->foreign[i].say);
    const char *nearest =
        srn_cli_nearest(word, n, s->n_opts ? &s->opts[0].name : NULL, s->n_opts, sizeof *s->opts);
    if (nearest)
        return usage_error(p, "there is no option '--%.*s'; did you mean '--%s'?", (int)n, word, nearest);
    return usage_error(p, "there is no option '%s%.*s'", dashes, (int)n, word);
}

static const srn_opt *find_long(const srn_cli_spec *s, const char *name, size_t n) {
    for (size_t i = 0; i < s->n_opts; i++)
        if (strlen(s->opts[i].name) == n && memcmp(s->opts[i].name, name, n) == 0) return &s->opts[i];
    return NULL;
}

static const srn_opt *find_letter(const srn_cli_spec *s, char letter) {
    for (size_t i = 0; i < s->n_opts; i++)
        if (s->opts[i].letter && s->opts[i].letter == letter) return &s->opts[i];
    return NULL;
}

static int set_int(const parse *p, const srn_opt *o, const char *value) {
    char *end;
    errno = 0;
    long long v = strtoll(value, &end, 10);
    if (end == value || *end) return usage_error(p, "--%s needs a whole number, not '%s'", o->name, value);
    if (errno || (double)v < o->min || (double)v > o->max)
        return usage_error(p, "--%s must be from %.0f to %.0f, not %s", o->name, o->min, o->max, value);
    *(int64_t *)o->dest = v;
    return -1;
}

static int set_float(const parse *p, const srn_opt *o, const char *value) {
    char *end;
    double v = strtod(value, &end);
    if (end == value || *end || !isfinite(v))
        return usage_error(p, "--%s needs a number, not '%s'", o->name, value);
    if (v < o->min || v > o->max)
        return usage_error(p, "--%s must be from %g to %g, not %s", o->name, o->min, o->max, value);
    *(double *)o->dest = v;
    return -1;
}

static int add_to_list(const parse *p, const srn_opt *o, const char *value) {
    srn_str_list *l = o->dest;
    const char **items = srn_realloc_array((void *)l->items, l->n + 1, sizeof *items);
    if (!items) return fprintf(stderr, "serin %s: out of memory\n", p->command), 1;
    l->items = items;
    l->items[l->n++] = value;
    return -1;
}

static int set_option(const parse *p, const srn_opt *o, const char *value) {
    switch (o->kind) {
    case SRN_OPT_FLAG:
        *(bool *)o->dest = true;
        return -1;
    case SRN_OPT_STR:
        *(const char **)o->dest = value;
        return -1;
    case SRN_OPT_INT:
        return set_int(p, o, value);
    case SRN_OPT_FLOAT:
        return set_float(p, o, value);
    case SRN_OPT_LIST:
        return add_to_list(p, o, value);
    }
    return -1;
}

/* Takes the value after the option, if there is one. */
static int set_from_next(parse *p, const srn_opt *o) {
    if (o->kind == SRN_OPT_FLAG) return set_option(p, o, NULL);
    if (p->at + 1 >= p->argc)
        return usage_error(p, "--%s needs a value: --%s %s", o->name, o->name, o->arg ? o->arg : "VALUE");
    return set_option(p, o, p->argv[++p->at]);
}

static int parse_long(parse *p, const char *word) {
    const char *equals = strchr(word, '=');
    size_t n = equals ? (size_t)(equals - word) : strlen(word);
    if (n == 4 && memcmp(word, "help", 4) == 0 && !equals) return print_help(p);
    const srn_opt *o = find_long(p->spec, word, n);
    if (!o) return unknown_option(p, word, n);
    if (!equals) return set_from_next(p, o);
    if (o->kind == SRN_OPT_FLAG) return usage_error(p, "--%s takes no value", o->name);
    return set_option(p, o, equals + 1);
}

/* -x, -xVALUE, and flags together as in -ab. */
static int parse_short(parse *p, const char *letters) {
    for (; *letters; letters++) {
        const srn_opt *o = find_letter(p->spec, *letters);
        if (!o && *letters == 'h') return print_help(p);
        if (!o) return unknown_option(p, letters, 1);
        if (o->kind != SRN_OPT_FLAG && letters[1]) return set_option(p, o, letters + 1);
        int code = set_from_next(p, o);
        if (code >= 0 || o->kind != SRN_OPT_FLAG) return code;
    }
    return -1;
}

/* ---- all of them ---- */

/* The name of operand `want` in the usage line: its words in capitals that stand outside brackets. */
static srn_str operand_name(const srn_cli_spec *s, int want) {
    int depth = 0;
    for (const char *p = s->usage; *p;) {
        size_t n = strcspn(p, " ");
        bool capitals = n > 0 && strspn(p, "ABCDEFGHIJKLMNOPQRSTUVWXYZ_.") == n;
        if (capitals && depth == 0 && want-- == 0) return (srn_str){p, n};
        for (size_t i = 0; i < n; i++) depth += (p[i] == '[') - (p[i] == ']');
        p += n;
        p += strspn(p, " ");
    }
    return SRN_STR("an argument");
}

int srn_cli_parse(const srn_cli_spec *spec, int argc, char **argv, const char **operands, int *ret_n) {
    parse p = {.spec = spec, .command = argv[0], .argc = argc, .argv = argv};
    int n = 0;
    bool only_operands = false;
    for (p.at = 1; p.at < argc; p.at++) {
        const char *word = argv[p.at];
        if (only_operands || word[0] != '-' || word[1] == 0) {
            if (n == spec->max_operands) return usage_error(&p, "there is one argument too many: '%s'", word);
            operands[n++] = word;
        } else if (strcmp(word, "--") == 0) {
            only_operands = true;
        } else {
            int code = word[1] == '-' ? parse_long(&p, word + 2) : parse_short(&p, word + 1);
            if (code >= 0) return code;
        }
    }
    if (n < spec->min_operands) {
        srn_str missing = operand_name(spec, n);
        return usage_error(&p, "%.*s is missing", (int)missing.len, missing.ptr);
    }
    *ret_n = n;
    return -1;
}
