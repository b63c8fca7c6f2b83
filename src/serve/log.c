/* serve: the log lines: one JSON object for each request, and events. Says who, what, how long and how it
 * ended; never what was asked or answered. Any thread; the line goes to the callback whole.
 */
#include <time.h>

#include "serve/http_internal.h"
#include "serve/openai_internal.h"

/* Of what clients send little is shown; an event's sentence is ours and stands whole, escapes and all. */
enum { LINE_BYTES = 8192, TEXT_BYTES = 256, DETAIL_BYTES = 1200 };

/* A JSON string, cut at a character to at most max bytes. */
static void add_string(srn_buf *b, const char *z, size_t max) {
    size_t n = strlen(z);
    if (n > max)
        for (n = max; n && ((unsigned char)z[n] & 0xC0) == 0x80;) n--;
    srn__put_string(b, (srn_str){z, n});
}

static void add_field(srn_buf *b, const char *name, const char *value) {
    srn_buf_addf(b, ",\"%s\":", name);
    if (value)
        add_string(b, value, TEXT_BYTES);
    else
        srn_buf_addz(b, "null");
}

static void begin_line(srn_buf *b) {
    struct timespec now;
    struct tm t;
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &t);
    srn_buf_init(b, LINE_BYTES);
    srn_buf_addf(b, "{\"time\":\"%04d-%02d-%02dT%02d:%02d:%02d.%03dZ\"", t.tm_year + 1900, t.tm_mon + 1,
                 t.tm_mday, t.tm_hour, t.tm_min, t.tm_sec, (int)(now.tv_nsec / 1000000));
}

static void end_line(void (*log)(void *ctx, const char *line), void *ctx, srn_buf *b) {
    srn_buf_addc(b, '}');
    if (!b->failed) log(ctx, b->data);
    srn_buf_done(b);
}

void srn__log_event(void (*log)(void *ctx, const char *line), void *ctx, const char *event,
                    const char *detail) {
    if (!log) return;
    srn_buf b;
    begin_line(&b);
    add_field(&b, "event", event);
    if (detail) {
        srn_buf_addz(&b, ",\"detail\":");
        add_string(&b, detail, DETAIL_BYTES);
    }
    end_line(log, ctx, &b);
}

void srn__http_log_event(srn__http *h, const char *event, const char *detail) {
    srn__log_event(h->o.log, h->o.log_ctx, event, detail);
}

void srn__log_call(srn__http *h, const srn__call_end *e) {
    if (!h->o.log) return;
    const srn__call_facts *f = e->facts;
    srn_buf b;
    begin_line(&b);
    add_field(&b, "call", e->id);
    add_field(&b, "method", e->method);
    add_field(&b, "path", e->path);
    add_field(&b, "route", e->route ? e->route->path : NULL);
    srn_buf_addf(&b, ",\"status\":%d,\"complete\":%s", e->status, e->complete ? "true" : "false");
    add_field(&b, "key", e->key);
    add_field(&b, "model", f->model[0] ? f->model : NULL);
    if (f->prompt.name[0]) {
        char named[SRN_PROMPT_NAME_MAX + 16];
        snprintf(named, sizeof named, "%s@%u", f->prompt.name, f->prompt.version);
        add_field(&b, "prompt", named);
    }
    srn_buf_addf(&b, ",\"prompt_tokens\":%u,\"cached_tokens\":%u,\"output_tokens\":%u", f->prompt_tokens,
                 f->cached_tokens, f->output_tokens);
    srn_buf_addf(&b, ",\"queue_ms\":%.3f,\"ttft_ms\":%.3f,\"total_ms\":%.3f", (double)f->queue_us / 1e3,
                 (double)f->ttft_us / 1e3, (double)e->total_us / 1e3);
    add_field(&b, "finish", f->finish[0] ? f->finish : NULL);
    if (f->error[0]) add_field(&b, "error", f->error);
    if (f->fallback[0]) add_field(&b, "fallback", f->fallback);
    add_field(&b, "client", e->client);
    end_line(h->o.log, h->o.log_ctx, &b);
}
