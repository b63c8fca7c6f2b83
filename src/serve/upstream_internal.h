/* Upstreams, inside: what is asked of them (upstream_request.c) and what their bytes say (upstream_text.c).
 * Both pure; what another server sends is capped and checked like what clients send.
 */
#ifndef SRN_SERVE_UPSTREAM_INTERNAL_H
#define SRN_SERVE_UPSTREAM_INTERNAL_H

#include "serve/prompt.h"
#include "serve/upstream.h"

/* ---- upstreams.c ---- */

srn_streams *srn__upstream_streams(srn__upstreams *u);
const char *srn__upstream_model(const srn_config_model *m); /* its name there */
/* What came of one call. */
typedef struct srn__upstream_news {
    bool reachable;  /* it answered, if only that it will not */
    bool answered;   /* and with headers of its own, which say whether it is */
    bool serin;      /* a Serin */
    bool cut_short;  /* the call's own time was over before anything was known of it */
    const char *why; /* NULL: the call was answered */
} srn__upstream_news;
void srn__upstream_note(srn__upstreams *u, const srn_config_model *m, const srn__upstream_news *news);
/* A call that it had begun to answer broke off; why NULL: because it was cancelled here. */
void srn__upstream_break(srn__upstreams *u, const srn_config_model *m, const char *why);

typedef enum srn__relay_api {
    SRN__RELAY_CHAT,
    SRN__RELAY_COMPLETIONS,
    SRN__RELAY_RESPONSES,
    SRN__RELAY_MESSAGES,
    SRN__RELAY_EMBEDDINGS,
    SRN__RELAY_NONE
} srn__relay_api;
srn__relay_api srn__relay_api_of(const char *endpoint);

/* ---- upstream_request.c ---- */

typedef struct srn__relay_ask {
    srn__relay_api api;
    const json_t *body;         /* the client's */
    const srn__prompt_use *use; /* of a registered prompt; empty: none */
    const char *model;          /* what it is called there */
    uint32_t max_tokens;        /* of the answer at most; 0: no limit */
    bool own_fields;            /* fields that few servers know go out, too */
} srn__relay_ask;
/* The body as it goes out, a new reference; *ret_left_out: there were fields that few servers know.
 * SRN_ENOMEM. */
int srn__relay_body(const srn__relay_ask *a, json_t **ret, bool *ret_left_out, srn_err *err);
/* How many answers the body asks for. */
uint32_t srn__relay_choices(srn__relay_api api, const json_t *body);

/* ---- upstream_text.c ---- */

enum { SRN__RELAY_BYTES = 64 << 20, SRN__RELAY_CHOICES = 4096 };

typedef struct srn__relay_choice {
    srn_buf text;
    char finish[24]; /* as records have it; "": it has not ended */
} srn__relay_choice;

/* An answer as it comes, and what is known of it. */
typedef struct srn__relay_text {
    /* what it is told */
    srn__relay_api api;
    bool streamed, hides_usage;
    const char *model, *id; /* as the client sees them: the id is the call's, without what comes before it */
    uint32_t n_choices;
    srn_buf *piece_us; /* gets when each piece came, as uint64_t; NULL: nobody asks */
    /* what it finds */
    bool begun;  /* there is something of the answer itself */
    bool ended;  /* its end was seen */
    bool failed; /* it said itself that it failed */
    char said_model[128];
    bool has_usage;
    uint32_t n_input, n_cached, n_output, n_reasoning;
    srn__relay_choice *choices; /* [n_choices] */
    uint64_t first_us, last_us, gap_max_us;
    uint32_t n_pieces; /* that text came in */
    json_t *response;  /* of /v1/responses: the newest one that was shown */
    uint32_t sequence;
    /* inside */
    srn_buf bytes, data, event; /* not yet lines; of the event that is being read */
    bool after_cr;
} srn__relay_text;
int srn__relay_text_init(srn__relay_text *t, srn_err *err); /* after the first five were set */
void srn__relay_text_done(srn__relay_text *t);
/* Bytes of a stream (text/event-stream) and when they came. What the client gets goes to now, and from the
 * event on that ends an answer to held, which waits for the record. SRN_EFORMAT, SRN_ELIMIT, SRN_ENOMEM:
 * nothing more can be read. */
int srn__relay_text_add(srn__relay_text *t, srn_str bytes, const srn_stream_mark *marks, size_t n_marks,
                        srn_buf *now, srn_buf *held, srn_err *err);
/* The whole body of an answer that is not streamed. */
int srn__relay_text_whole(srn__relay_text *t, srn_str body, srn_buf *held, srn_err *err);
/* The stream is over; false: it broke off. Adds what its end lacks. */
bool srn__relay_text_end(srn__relay_text *t, srn_buf *held);
/* The last of a stream that cannot go on. */
void srn__relay_text_broken(srn__relay_text *t, int status, const char *code, const char *why, srn_buf *out);
/* As srn_answer_repetition, of words in the place of tokens: what is known of every answer, whoever gave it.
 */
double srn__text_repetition(srn_str text);
/* What the error object of an answer says; "": nothing. */
void srn__relay_error_text(srn_str body, char *ret, size_t cap);

#endif
