/* serin run: what a terminal shows of an answer. Knows <think> and </think> across pieces of text; refuses
 * the control characters with which a model could steer a terminal.
 */
#include "cli/run.h"

#include <stdlib.h>
#include <unistd.h>

static const char dim_on[] = "\033[2m", dim_off[] = "\033[0m";

void srn__dim(FILE *f, bool on) {
    if (srn_cli_shows_colour(fileno(f))) fputs(on ? dim_on : dim_off, f);
}

static void colour(srn__screen *s, bool dim) {
    if (s->colour) fputs(dim ? dim_on : dim_off, stdout);
    s->thinking = dim;
}

void srn__screen_init(srn__screen *s, bool thinking) {
    *s = (srn__screen){
        .terminal = isatty(STDOUT_FILENO), .colour = srn_cli_shows_colour(STDOUT_FILENO), .last = '\n'};
    if (thinking) colour(s, true);
}

static const char *awaited_tag(const srn__screen *s) {
    return s->thinking ? "</think>" : "<think>";
}

static void write_held(srn__screen *s) {
    fwrite(awaited_tag(s), 1, s->n_held, stdout);
    s->n_held = 0;
}

/* One character of n bytes. A tag's '<' stands only at its beginning, so a mismatch starts over at once. */
static void put_char(srn__screen *s, const char *p, size_t n, uint32_t cp) {
    if (n == 1 && *p == awaited_tag(s)[s->n_held]) {
        if (awaited_tag(s)[++s->n_held]) return;
        bool opens = !s->thinking;
        if (opens) colour(s, true), fputs("<think>", stdout);
        if (!opens) fputs("</think>", stdout), colour(s, false);
        s->n_held = 0;
        return;
    }
    write_held(s);
    if (n == 1 && *p == '<')
        s->n_held = 1;
    else if ((cp < 0x20 && cp != '\n' && cp != '\t') || (cp >= 0x7F && cp < 0xA0))
        fputs("\xEF\xBF\xBD", stdout);
    else
        fwrite(p, 1, n, stdout);
}

bool srn__screen_add(srn__screen *s, srn_str text) {
    if (text.len == 0) return true;
    s->last = text.ptr[text.len - 1];
    if (!s->terminal) fwrite(text.ptr, 1, text.len, stdout);
    for (size_t i = 0, n; s->terminal && i < text.len; i += n) {
        uint32_t cp = 0x7F;
        n = SRN_MAX(srn_utf8_get(text.ptr + i, text.len - i, &cp), (size_t)1);
        put_char(s, text.ptr + i, n, cp);
    }
    return fflush(stdout) == 0 && !ferror(stdout);
}

bool srn__screen_end(srn__screen *s) {
    write_held(s);
    if (s->thinking) colour(s, false);
    if (s->last != '\n') putchar('\n');
    return fflush(stdout) == 0 && !ferror(stdout);
}
