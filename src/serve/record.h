/* Records of calls: what the ledger gets to know of an exchange, whichever API it came through. One record
 * for each call of a recorded route (SRN__ROUTE_RECORD), however it ended: as the answer ends, or, where
 * there is none, when the exchange is over and nobody holds the call any more.
 *
 * In required mode the intent is appended before the work is submitted, so that its commit runs beside the
 * prefill; nothing of the answer goes out before it is there. In both modes the events that end an answer
 * wait for the record: until it is committed (required), or until it has its place in the queue (buffered).
 */
#ifndef SRN_SERVE_RECORD_H
#define SRN_SERVE_RECORD_H

#include "ledger/ledger.h"
#include "serve/job.h"

typedef struct srn__recorder srn__recorder;
typedef struct srn__record srn__record;

typedef struct srn__recorder_opts {
    const srn_config *config;
    void (*log)(void *ctx, const char *event, const char *detail);
    void *log_ctx;
} srn__recorder_opts;
/* Opens the ledger that the configuration names. Without one (off) the recorder has keys of its own, and
 * records nothing. A default folder that another server writes: the next free one beside it. */
int srn__recorder_new(const srn__recorder_opts *o, srn__recorder **ret, srn_err *err);
/* No call of an HTTP core is alive any more. */
void srn__recorder_free(srn__recorder *r);
/* Waits until the ledger has answered for all that calls wait for, and no other thread works for a call from
 * here on: before the calls' core is freed. */
void srn__recorder_settle(srn__recorder *r);
srn_ledger *srn__recorder_ledger(const srn__recorder *r); /* NULL: off */
const srn_ledger_keys *srn__recorder_keys(const srn__recorder *r);
/* Whether the records that had ended when it was first asked, with *target 0, are made. */
bool srn__recorder_made(srn__recorder *r, uint64_t *target);
/* Waits until what was appended before is committed, as a client expects who has its answer already; false:
 * it takes too long. */
bool srn__recorder_catch_up(srn__recorder *r);
/* The ledger, which there is, read for a request, on a worker. SRN_EIO also: it is in a database that does
 * not answer, for which others wait. */
int srn__recorder_reader(srn__recorder *r, srn_reader **ret, srn_err *err);
/* What a client is told of trouble with the ledger: all of it with an admin key, or where no key is needed;
 * to others neither addresses nor questions. Pure. */
void srn__ledger_trouble(const srn__call *c, const srn_err *why, srn_err *ret);
/* Whether the ledger takes calls now: required ones while commits succeed, else while its queue has room. Any
 * thread. */
bool srn__recorder_ready(srn__recorder *r, bool required, srn_err *ret_why);
/* An event by the server, or by whom is said; takes the fields (NULL: none). */
void srn__recorder_event(srn__recorder *r, const char *name, json_t *fields);
void srn__recorder_event_by(srn__recorder *r, const char *name, const char *by, json_t *fields);
/* The event of a configuration that is in force now. */
void srn__recorder_config(srn__recorder *r, const srn_config *c);
/* Takes over what of another configuration is the ledger's: retention, size, whether weights are kept. */
void srn__recorder_adopt(srn__recorder *r, const srn_config *c);
void srn__recorder_model(srn__recorder *r, const srn__served *v); /* it was loaded */
/* The token of the commands of this machine, or NULL. */
const char *srn__recorder_token(const srn__recorder *r);
/* The server listens: server.json tells the commands of this machine, and the ledger gets the events of the
 * program and of the effective configuration, whose id all calls carry. "stop" comes with srn__recorder_free
 * then. */
int srn__recorder_start(srn__recorder *r, const char *address, srn_err *err);
/* Nothing listens any more. */
void srn__recorder_stop(srn__recorder *r);

typedef struct srn__recorder_stats {
    uint64_t refused;      /* calls that left no record, for the ledger took none */
    uint64_t content_lost; /* records whose content could not be kept */
    uint64_t unrecorded;   /* records and events that could not be handed over */
    uint64_t cpu_ns;       /* processor time of threads other than the ledger's that went into records */
    uint64_t wait_us;      /* that answers which were ready waited for their records, in all */
} srn__recorder_stats;
srn__recorder_stats srn__recorder_get_stats(srn__recorder *r);

/* ---- one call ---- */

srn__recorder *srn__call_recorder(const srn__call *c);

/* The route and the model's name as asked for are known. false: the ledger takes no calls now, and 503 was
 * replied. Worker. */
bool srn__record_admit(srn__call *c, const srn_config_route *route, const char *asked);
/* The hash of the prompt's fixed part. Worker. */
void srn__record_prompt(srn__call *c, const char *hash);

/* Work begins: what is known of it. Several for one call (the prompts of a completion) are parts of one
 * record, numbered from 0. In required mode the reply is withheld until the intent is committed. Worker. */
typedef struct srn__record_work {
    const srn__served *model;
    const srn__job_spec *spec; /* NULL: an embedding */
    const srn_constraint *constraint;
    srn_tokens prompt;
    /* An upstream's: model is NULL, and this its name; the request stands for the prompt's tokens. */
    const char *name;
    srn_str asked;
} srn__record_work;
int srn__record_begin(srn__call *c, const srn__record_work *w, uint32_t *ret_part, srn_err *err);

/* One part of the work has ended. */
typedef struct srn__record_choice {
    uint32_t part, index;        /* of the call, in the part */
    const srn_out_token *tokens; /* [n_tokens] */
    uint32_t n_tokens;
    bool logprobs;
    srn_str text;
    const char *finish;
    const char *vector; /* of an embedding: the digest of its bytes, and nothing else; else NULL */
    /* An upstream's answer has no tokens here: the text stands for them, and these for their times. */
    bool relayed;
    uint64_t first_us, gaps_us, gap_max_us;
    uint32_t n_gaps;
} srn__record_choice;
typedef struct srn__record_part {
    uint32_t n_input, n_cached, n_output, n_reasoning, n_draft, n_accepted;
    uint64_t queue_us, ttft_us; /* the longest of its choices */
    const char *finish, *error; /* NULL: none */
    /* Of a call that a roll-out counts, by its first choice: engine time, and what the answer was like (NAN:
     * not known). */
    bool measured;
    uint64_t prefill_us, decode_us;
    uint32_t n_decoded;
    double repetition, uncertainty;
    const srn_str *answer; /* that the checks of its prompt are to see; NULL: there are none */
} srn__record_part;
/* A choice of the part, for the content and the gaps between its tokens; before srn__record_end. */
void srn__record_choice_end(srn__call *c, const srn__record_choice *choice);
/* The part itself; whole: the answer can go out once the record is there, so it is made when this was the
 * last part. Listener thread, or whoever frees the work. */
void srn__record_end(srn__call *c, const srn__record_part *p, bool whole);

/* The work was given up, and the handler runs again: nothing of it goes into the record. Worker. */
void srn__record_again(srn__call *c);

/* Whether the end of the answer may go out. The call is woken when that changes. */
typedef enum srn__record_state {
    SRN__RECORD_OPEN,    /* not yet */
    SRN__RECORD_SETTLED, /* it may */
    SRN__RECORD_FAILED   /* never: required, and not committed; *ret_why says why */
} srn__record_state;
srn__record_state srn__record_settled(srn__call *c, srn_err *ret_why);
/* Whether this call leaves a record; whether it keeps content. */
bool srn__record_wanted(const srn__call *c);
bool srn__record_keeps(const srn__call *c);

/* The call is over, and this holds it alone; what has no record yet gets it. Lets go of the call, perhaps on
 * another thread. Any thread. */
void srn__record_last(srn__call *c);

#endif
