/* Writes calls into a ledger and says how many a second: ledger_bench DIR [--records N] [--durable]
 * [--content BYTES] [--folder DIR]; DIR may be a URL of PostgreSQL. Appends as fast as there is room; with
 * --durable each waits in a window of 64 for its commit. The folder is left behind.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "ledger/ledger.h"

enum { WINDOW = 64 };

typedef struct window {
    pthread_mutex_t lock; /* guards the others */
    pthread_cond_t room;
    uint64_t out, failed, most;
} window;

static void done(void *ctx, int code, const srn_err *why) {
    window *w = ctx;
    pthread_mutex_lock(&w->lock);
    w->out--;
    if (code && !w->failed++) fprintf(stderr, "ledger_bench: %s\n", why->text);
    pthread_cond_signal(&w->room);
    pthread_mutex_unlock(&w->lock);
}

static uint64_t number(const char *text) {
    char *end;
    unsigned long long n = strtoull(text, &end, 10);
    return *end ? 0 : n;
}

/* As long as records of the server are. */
static int body(char *buf, size_t cap, uint64_t n) {
    char id[SRN_ULID_CHARS + 1];
    srn_ulid_new(id);
    return snprintf(
        buf, cap,
        "{\"v\":1,\"id\":\"%s\",\"begun_us\":%llu,\"endpoint\":\"/v1/chat/"
        "completions\",\"route\":\"default\","
        "\"key\":\"app\",\"tenant\":\"t%llu\",\"subject\":\"%064llu\",\"conversation\":\"%064llu\","
        "\"streamed\":true,"
        "\"model\":\"small\",\"asked\":\"small\",\"weights\":\"%064d\",\"tokenizer\":\"%064d\",\"template\":"
        "\"%064d\","
        "\"quantisation\":\"Q4_1\",\"engine\":\"serin 0.1.0/numerics 1/cpu\",\"numerics\":1,\"kv\":\"f16\","
        "\"config\":\"%064d\",\"upstream\":null,\"prompt\":{\"name\":\"support\",\"version\":%llu,\"hash\":"
        "\"%064d\","
        "\"label\":\"production\"},\"experiment\":null,\"arm\":null,\"why\":null,\"sampling\":{"
        "\"temperature\":0.7,"
        "\"top_p\":0.95,\"seed\":\"%llu\"},\"max_tokens\":256,\"n\":1,\"constraint\":null,\"tokens\":{"
        "\"input\":%llu,"
        "\"cached\":12,\"output\":80,\"reasoning\":0,\"draft\":0,\"accepted\":0},\"us\":{\"queue\":120,"
        "\"ttft\":%llu,"
        "\"itl\":9000,\"itl_max\":22000,\"total\":812345},\"status\":200,\"finish\":\"stop\",\"error\":null,"
        "\"policy\":\"hash\",\"hashes\":{\"key\":\"0123456789abcdef\",\"input\":\"%064llu\",\"output\":\"%"
        "064llu\"}}",
        id, (unsigned long long)srn_unix_us(), (unsigned long long)n % 50, (unsigned long long)n % 1000,
        (unsigned long long)n / 3, 1, 2, 3, 4, (unsigned long long)(n % 7 + 1), 5, (unsigned long long)n,
        (unsigned long long)n % 2000, 20000 + (unsigned long long)n % 997, (unsigned long long)n,
        (unsigned long long)n + 1);
}

static int fill(srn_ledger *l, uint64_t n, bool durable, srn_str content, window *w, srn_err *err) {
    for (uint64_t i = 0; i < n; i++) {
        char buf[4096];
        int len = body(buf, sizeof buf, i);
        pthread_mutex_lock(&w->lock);
        while (w->out >= w->most) pthread_cond_wait(&w->room, &w->lock);
        w->out++;
        pthread_mutex_unlock(&w->lock);
        srn_entry e = {.kind = SRN_RECORD_CALL,
                       .body = {buf, (size_t)len},
                       .content = content,
                       .durable = durable,
                       .done = done,
                       .ctx = w};
        int code = srn_ledger_append(l, &e, err);
        if (code) return code;
    }
    pthread_mutex_lock(&w->lock);
    while (w->out) pthread_cond_wait(&w->room, &w->lock);
    pthread_mutex_unlock(&w->lock);
    return SRN_OK;
}

int main(int argc, char **argv) {
    uint64_t n = 100000, bytes = 0;
    bool durable = false;
    const char *folder = NULL;
    window w = {.most = 4096};
    for (int i = 2; i < argc; i++) {
        if (strcmp(argv[i], "--durable") == 0)
            durable = true, w.most = WINDOW;
        else if (strcmp(argv[i], "--records") == 0 && i + 1 < argc)
            n = number(argv[++i]);
        else if (strcmp(argv[i], "--folder") == 0 && i + 1 < argc)
            folder = argv[++i];
        else if (strcmp(argv[i], "--content") == 0 && i + 1 < argc)
            bytes = number(argv[++i]);
    }
    if (argc < 2 || !n)
        return fprintf(stderr, "usage: ledger_bench DIR|URL [--folder DIR] [--records N] [--durable] "
                               "[--content BYTES]\n"),
               2;
    pthread_mutex_init(&w.lock, NULL);
    pthread_cond_init(&w.room, NULL);
    char *content = srn_calloc(bytes + 1, 1);
    srn_err err = {0};
    srn_ledger *l = NULL;
    uint64_t opening_us = srn_now_us();
    int code = srn_ledger_open(&(srn_ledger_opts){.where = argv[1], .folder = folder}, &l, &err);
    uint64_t begun_us = srn_now_us();
    if (!code) code = fill(l, n, durable, (srn_str){content, bytes}, &w, &err);
    srn_ledger_close(l); /* waits for what is buffered */
    double seconds = (double)(srn_now_us() - begun_us) / 1e6;
    free(content);
    if (code || w.failed) return fprintf(stderr, "ledger_bench: %s\n", err.text), 1;
    printf("opened in %.3f s; %llu records in %.3f s: %.0f records/s\n",
           (double)(begun_us - opening_us) / 1e6, (unsigned long long)n, seconds, (double)n / seconds);
    return 0;
}
