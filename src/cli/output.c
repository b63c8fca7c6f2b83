/* cli: what commands say on standard output and error: text that is not theirs, failures with their exit
 * code, the progress bar, and the check that what was printed arrived. Main thread, but for the bar, which
 * any one thread may draw.
 */
#include "cli/cli.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

/* ---- text of others ---- */

static bool is_control(uint32_t cp) {
    return cp < 0x20 || (cp >= 0x7F && cp < 0xA0);
}

/* Also what has no width, parts lines or turns the direction of writing. */
static bool is_hidden(uint32_t cp) {
    return is_control(cp) || (cp >= 0x200B && cp <= 0x200F) || (cp >= 0x2028 && cp <= 0x202E) ||
           (cp >= 0x2060 && cp <= 0x206F) || cp == 0xFEFF;
}

void srn_cli_put_text(FILE *f, srn_str s, size_t max_bytes, bool quoted) {
    if (quoted) fputc('"', f);
    for (size_t i = 0, k; i < s.len; i += k) {
        if (i >= max_bytes) {
            fprintf(f, "... (%zu bytes)", s.len);
            break;
        }
        uint32_t cp = 0;
        size_t n = srn_utf8_get(s.ptr + i, s.len - i, &cp);
        k = n ? n : 1;
        if (n && cp == '\n')
            fputs("\\n", f);
        else if (n && quoted && (cp == '"' || cp == '\\'))
            fprintf(f, "\\%c", (char)cp);
        else if (n && !is_hidden(cp))
            fwrite(s.ptr + i, 1, n, f);
        else
            for (size_t j = 0; j < k; j++) fprintf(f, "\\x%02x", (unsigned)(uint8_t)s.ptr[i + j]);
    }
    if (quoted) fputc('"', f);
}

void srn_cli_put_result(srn_str s) {
    if (!isatty(STDOUT_FILENO)) {
        fwrite(s.ptr, 1, s.len, stdout);
        return;
    }
    for (size_t i = 0, n; i < s.len; i += n) {
        uint32_t cp = 0x7F;
        n = SRN_MAX(srn_utf8_get(s.ptr + i, s.len - i, &cp), (size_t)1);
        if (is_control(cp) && cp != '\n' && cp != '\t')
            fputs("\xEF\xBF\xBD", stdout);
        else
            fwrite(s.ptr + i, 1, n, stdout);
    }
}

bool srn_cli_shows_colour(int fd) {
    const char *no = getenv("NO_COLOR"), *term = getenv("TERM");
    return isatty(fd) && !(no && *no) && !(term && strcmp(term, "dumb") == 0);
}

/* ---- failures ---- */

static void erase_bar(void);

int srn_cli_error(const char *command, const srn_err *err) {
    fflush(stdout);
    erase_bar();
    fprintf(stderr, "serin %s: ", command);
    srn_cli_put_text(stderr, srn_str_of(err->text[0] ? err->text : srn_err_name(err->code)), SIZE_MAX, false);
    fputc('\n', stderr);
    switch (err->code) {
    case SRN_EINVAL:
    case SRN_ENOENT:
    case SRN_EFORMAT:
    case SRN_EUNSUP:
    case SRN_ELIMIT:
    case SRN_ECONTEXT:
    case SRN_EUSAGE:
        return 2;
    case SRN_ECANCELLED:
        return 130;
    default:
        return 1;
    }
}

int srn_cli_flush(const char *command) {
    errno = 0;
    if (fflush(stdout) == 0 && !ferror(stdout)) return 0;
    fprintf(stderr, "serin %s: standard output could not be written: %s\n", command,
            errno ? strerror(errno) : "an earlier write failed");
    return 1;
}

/* ---- progress ---- */

/* The bar being drawn; commands show one at a time. */
static struct {
    const char *what; /* compared by address: a new word or a smaller `done` starts a new bar */
    uint64_t started_us, drawn_us, done;
} bar;

/* Of work that failed before its end. */
static void erase_bar(void) {
    if (bar.what && bar.drawn_us) fputs("\r\033[K", stderr);
    bar.what = NULL;
}

static void format_bytes(char *out, size_t cap, double bytes) {
    static const char *const units[] = {"B", "kB", "MB", "GB", "TB"};
    size_t u = 0;
    while (bytes >= 1000 && u + 1 < SRN_LEN(units)) bytes /= 1000, u++;
    snprintf(out, cap, u ? "%.1f %s" : "%.0f %s", bytes, units[u]);
}

static int terminal_columns(void) {
    struct winsize size;
    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) || size.ws_col == 0) return 80;
    return size.ws_col;
}

static void draw_bar(const char *what, uint64_t done, uint64_t total, uint64_t now_us) {
    double share = total ? (double)done / (double)total : 1;
    double seconds = (double)(now_us - bar.started_us) / 1e6;
    double rate = seconds > 0 ? (double)done / seconds : 0;
    char text[96] = "", rate_text[32];
    if (total < 10000) { /* a count of things, not bytes */
        snprintf(text, sizeof text, "%" PRIu64 "/%" PRIu64, done, total);
    } else if (rate > 0) {
        int left = (int)SRN_MIN((double)(total - done) / rate + 0.5, 359999.0);
        format_bytes(rate_text, sizeof rate_text, rate);
        snprintf(text, sizeof text, "%s/s, %d:%02d left", rate_text, left / 60, left % 60);
    }
    int width = terminal_columns() - (int)strlen(what) - (int)strlen(text) - 12;
    width = SRN_MAX(0, SRN_MIN(width, 40));
    int filled = (int)(share * width);
    fprintf(stderr, "\r%s [%.*s%*s] %3.0f %% %s\033[K", what, filled,
            "########################################", width - filled, "", share * 100, text);
    if (done >= total) fprintf(stderr, "\r\033[K");
    fflush(stderr);
}

void srn_cli_progress(void *ctx, const char *what, uint64_t done, uint64_t total) {
    (void)ctx;
    const char *when = getenv("SERIN_PROGRESS");
    bool always = when && strcmp(when, "always") == 0, never = when && strcmp(when, "never") == 0;
    if (never || !isatty(STDERR_FILENO)) return;
    done = SRN_MIN(done, total);
    uint64_t now_us = srn_now_us();
    if (bar.what != what || done < bar.done) {
        bar.what = what;
        bar.started_us = now_us;
        bar.drawn_us = 0;
    }
    bar.done = done;
    bool last = done >= total;
    bool too_early = now_us - bar.started_us < 300000; /* quick work shows no bar at all */
    bool too_soon = now_us - bar.drawn_us < 100000;
    if (always || (last ? bar.drawn_us != 0 : !too_early && !too_soon)) {
        bar.drawn_us = now_us;
        draw_bar(what, done, total, now_us);
    }
    if (last) bar.what = NULL;
}
