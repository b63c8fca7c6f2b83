/* Records, inside: the state of one call's record (record.c), the text of its body and content
 * (record_text.c), the ledger of a server (recorder.c).
 */
#ifndef SRN_SERVE_RECORD_INTERNAL_H
#define SRN_SERVE_RECORD_INTERNAL_H

#include <pthread.h>

#include "serve/http_internal.h"
#include "serve/record.h"

struct srn__recorder {
    const srn_config *config; /* that the server was started with */
    atomic_bool keep_weights;
    void (*log)(void *ctx, const char *event, const char *detail);
    void *log_ctx;
    srn_ledger *ledger;        /* NULL: off */
    srn_ledger_keys *own_keys; /* where there is no ledger */
    const srn_ledger_keys *keys;
    bool started;
    char token[SRN__TOKEN_CHARS + 1];
    atomic_uint n_looking; /* workers that look for a call whose record may be on its way */
    atomic_uint n_opening; /* workers that connect to the database */
    char config_id[2 * SRN_SHA256_BYTES + 1];
    pthread_t thread; /* recorder_thread.c: makes the large records */
    bool has_thread;
    pthread_mutex_t lock; /* guards has_thread and everything below */
    pthread_cond_t settled;
    uint32_t n_waiting; /* entries whose answers calls wait for */
    pthread_cond_t work;
    srn__record *first, *last; /* records for the thread */
    uint64_t n_pushed, n_made; /* to it, by it */
    bool ending;
    srn__recorder_stats stats;

    /* not under the lock */
    _Atomic uint64_t cpu_ns, wait_us; /* of stats */
    atomic_bool untold;               /* calls were refused, and the chain does not say so yet */
};

typedef enum srn__record_step {
    SRN__STEP_NONE,
    SRN__STEP_WAITS, /* it is appended, and there is no answer yet */
    SRN__STEP_DONE,
    SRN__STEP_FAILED
} srn__record_step;

/* Written by the call's worker until it replies, then on the listener thread, or by who lets go last; only
 * what the lock guards is shared with the ledger's thread. */
struct srn__record {
    srn__recorder *recorder;
    srn__call *call;
    const srn_config_route *route; /* NULL: none */
    bool routed;                   /* it is known which */
    bool begun, skipped;           /* skipped: it leaves no record */
    bool intended;                 /* its intent was handed over */
    bool required;
    srn_content_policy policy;
    char asked[128], model[128];
    char prompt_hash[SRN_KEYED_HASH_CHARS + 1];
    char subject[SRN_KEYED_HASH_CHARS + 1]; /* keyed hash of the user, or of the key's name; "": neither */
    srn_buf head;            /* of the body, from its brace to the constraint; empty: not begun */
    srn_buf content;         /* of the content, likewise: request, and prompts without their end */
    srn_buf choices;         /* of the content: inside the brackets */
    srn_buf in_ids, out_ids; /* what the hashes are of: token ids, little-endian */
    uint32_t n_parts, n_ended;
    srn__record_part sum;
    char finish[24], error[32];
    uint64_t gap_us, gap_max_us;
    uint32_t n_gaps;
    bool checks;                 /* the answer is to be put to those of its prompt, */
    srn_buf answer;              /* which is this, */
    uint32_t n_passed, n_failed; /* and that came of it */
    uint64_t first_us;           /* when the first token was there; 0: there was none */
    uint64_t ready_us;           /* when the end of the answer was, but for this record */

    srn__record *next; /* of those that the recorder's thread is to make; its lock guards it */
    bool leaves;       /* the call is over, and is let go of once this is made */

    pthread_mutex_t lock; /* guards everything below */
    srn__record_step end;
    bool inside;        /* srn_ledger_append runs: whoever called it looks at what came of it */
    uint64_t intent_us; /* when the intent was committed; 0: not yet, or there is none */
    srn_err why;
};

/* ---- record.c ---- */

/* Makes the record whose call has ended, or can; recorder's thread, or that which ended it. */
void srn__record_make(srn__record *r);

/* ---- recorder_thread.c ---- */

int srn__recorder_thread_start(srn__recorder *r, srn_err *err);
/* Takes the record over, to be made soon; false: there is no thread (any more). */
bool srn__recorder_thread_push(srn__recorder *r, srn__record *record);
void srn__recorder_thread_stop(srn__recorder *r); /* once it has made what it took over */

/* ---- kept.c ---- */

/* Links the model's files into the folder, where the configuration says so. */
void srn__recorder_keep(srn__recorder *r, const srn__served *v);
/* At the start: another program is an event; kept weights that no call needs go. */
void srn__recorder_remember(srn__recorder *r);

/* ---- recorder.c ---- */

srn_ledger_keys *srn__recorder_sealing_keys(srn__recorder *r);
/* Whether the ledger takes a new call: required while commits succeed, else while its queue has room. false:
 * that was counted, and once it can be written again the ledger tells of it. */
bool srn__recorder_takes(srn__recorder *r, bool required, srn_err *ret_why);
void srn__recorder_say(srn__recorder *r, const char *event, const char *detail); /* in the server's log */
/* A record could not even be handed over: the log says so. */
void srn__recorder_lost(srn__recorder *r, const char *id, const srn_err *why);

/* ---- local.c ---- */

int srn__local_publish(srn__recorder *r, const char *address, const char *token, srn_err *err);
void srn__local_withdraw(srn__recorder *r);

/* ---- record_text.c: pure ---- */

void srn__record_subject(srn__record *r); /* fills r->subject */
/* Whom the request names as its user, and the conversation that it says it belongs to; NULL: none. */
const char *srn__call_user(const srn__call *c);
const char *srn__call_conversation(const srn__call *c);

/* The body's head; work NULL: nothing has begun. */
void srn__record_put_head(srn_buf *b, const srn__record *r, const srn__record_work *w);
/* Its end, with the closing brace. */
void srn__record_put_end(srn_buf *b, const srn__record *r, int status, uint64_t total_us);
void srn__record_put_choice(srn_buf *b, const srn__record_choice *c);
/* What else of a request is content: stop texts, schema, user, headers. */
void srn__record_put_request(srn_buf *b, const srn__record *r, const srn__job_spec *spec);

#endif
