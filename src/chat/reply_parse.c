/* chat: what a model writes, told apart while it streams: reasoning, content, tool calls. A machine that
 * takes one byte after the other, so that how the text was cut never matters. Called by the server for each
 * answer; an object belongs to one thread. Hostile answers cost linear time, and a call is at most MAX_CALL
 * bytes.
 */
#include <stdlib.h>

#include "chat/reply_internal.h"

enum {
    MAX_CALL = 4 << 20,  /* bytes of one region of calls */
    MAX_NAME = 256,      /* of a tool's name with what stands around it */
    MAX_BLANKS = 1 << 10 /* held back because a mark might follow, and looked at again with each byte */
};

/* Where the machine stands. The states from LIST_OPEN on are inside a region of calls. */
typedef enum state {
    START, /* nothing but blanks so far: reasoning may begin */
    REASONING,
    AFTER, /* behind reasoning or calls: blanks are dropped */
    CONTENT,
    LIST_OPEN, /* "[" */
    CALL_OPEN, /* the call's mark, or the end of the section */
    BEFORE_NAME,
    NAME,   /* of a named body, up to after_name */
    OBJECT, /* "{" */
    KEY,    /* a key's quote, or "}" */
    COLON,
    VALUE, /* the first byte of a value */
    IN_VALUE,
    COMMA, /* behind a value: "," or "}" */
    XML_FUNCTION,
    XML_NEXT, /* <parameter= or </function> */
    XML_VALUE,
    CALL_CLOSE,
    SECTION_CLOSE
} state;

/* How a JSON value is scanned without recursion. */
typedef struct scan {
    uint32_t depth;
    bool in_string, escaped;
} scan;

typedef struct queued {
    srn_reply_event_kind kind;
    size_t from, len; /* in queue_text */
    uint64_t end;
} queued;

struct srn_reply_parser {
    const srn_reply_format *f;
    srn_reply_opts o;
    json_t *tools;
    srn_reply_fn *on_event;
    void *ctx;
    state state;
    uint64_t at; /* bytes taken */
    uint64_t reasoning_end;
    bool failed;
    /* Events of one kind are joined until another comes, or the caller's text is used up. */
    srn_buf out;
    srn_reply_event joined; /* its text is out */
    /* Outside calls: bytes not given out yet, that is blanks and what may become a mark. */
    srn_buf pend;
    bool reasoned;   /* some reasoning was given out */
    bool calls_over; /* no further call may come */
    uint32_t n_calls;
    /* In a region of calls. */
    srn_buf raw; /* its bytes since the mark or the last complete call */
    srn_buf queue_text;
    queued *queue; /* events that wait until the call is certain */
    size_t n_queue, cap_queue;
    bool bare, first; /* no marks around the call; no call of the section yet */
    /* In one call. */
    bool sent; /* some of it was given out */
    bool has_name, has_args;
    const json_t *tool;
    size_t matched; /* bytes of the mark that is expected */
    srn_buf word;   /* a name, a key's value, a tag */
    srn_buf args;   /* the arguments so far, to be checked at their end */
    srn_buf key;
    scan scan;
    uint32_t n_params;
};

#define BUFS(p)                                                                                              \
    { &(p)->out, &(p)->pend, &(p)->raw, &(p)->queue_text, &(p)->word, &(p)->args, &(p)->key }

int srn_reply_parser_new(const srn_reply_format *f, const srn_reply_opts *o, srn_reply_fn *on_event,
                         void *ctx, srn_reply_parser **ret, srn_err *err) {
    srn_reply_parser *p = srn_calloc(1, sizeof *p);
    if (!p) return srn_fail_nomem(err, sizeof *p);
    *p = (srn_reply_parser){.f = f, .o = *o, .on_event = on_event, .ctx = ctx};
    p->state = o->in_reasoning && o->parse_reasoning ? REASONING : START;
    p->reasoning_end = p->state == REASONING ? UINT64_MAX : 0;
    p->tools = o->tools ? json_deep_copy(o->tools) : NULL;
    srn_buf *bufs[] = BUFS(p);
    for (size_t i = 0; i < SRN_LEN(bufs); i++) srn_buf_init(bufs[i], MAX_CALL);
    if (o->tools && !p->tools) {
        srn_reply_parser_free(p);
        return srn_fail(err, SRN_ENOMEM, "no memory for the tools of an answer");
    }
    *ret = p;
    return SRN_OK;
}

void srn_reply_parser_free(srn_reply_parser *p) {
    if (!p) return;
    srn_buf *bufs[] = BUFS(p);
    for (size_t i = 0; i < SRN_LEN(bufs); i++) srn_buf_done(bufs[i]);
    free(p->queue);
    json_decref(p->tools);
    free(p);
}

uint64_t srn_reply_parser_reasoning_end(const srn_reply_parser *p) {
    return p->reasoning_end;
}

static bool is_blank(char c) {
    return c == ' ' || c == '\n' || c == '\t' || c == '\r';
}

/* Removes the first n bytes. */
static void drop(srn_buf *b, size_t n) {
    if (n == 0) return;
    memmove(b->data, b->data + n, b->len - n);
    b->len -= n;
}

static bool starts(const srn_buf *b, const char *word) {
    return memcmp(b->data, word, SRN_MIN(b->len, strlen(word))) == 0;
}

static bool ends_with(const srn_buf *b, const char *tail) {
    size_t n = strlen(tail);
    return b->len >= n && memcmp(b->data + b->len - n, tail, n) == 0;
}

/* ---- events ---- */

static void flush(srn_reply_parser *p) {
    if (p->out.len) {
        p->joined.text = (srn_str){p->out.data, p->out.len};
        p->on_event(p->ctx, &p->joined);
    }
    srn_buf_clear(&p->out);
}

static void give(srn_reply_parser *p, srn_reply_event_kind kind, const char *text, size_t n, uint64_t end) {
    bool whole = kind == SRN_REPLY_CALL || kind == SRN_REPLY_CALL_END;
    if (n == 0 && !whole) return;
    srn_reply_event e = {.kind = kind, .text = {text, n}, .index = p->n_calls, .end = end};
    if (whole || (p->out.len && (p->joined.kind != kind || p->joined.index != e.index))) flush(p);
    if (whole) {
        p->on_event(p->ctx, &e);
        return;
    }
    p->joined = e;
    if (!srn_buf_add(&p->out, text, n)) p->failed = true;
}

static void flush_queue(srn_reply_parser *p) {
    for (size_t i = 0; i < p->n_queue; i++) {
        const queued *q = &p->queue[i];
        give(p, q->kind, q->len ? p->queue_text.data + q->from : NULL, q->len, q->end);
    }
    p->n_queue = 0;
    srn_buf_clear(&p->queue_text);
}

/* An event of a call: at once where calls are certain, else into the queue. */
static void call_event(srn_reply_parser *p, srn_reply_event_kind kind, const char *text, size_t n) {
    if (p->o.guarded) {
        give(p, kind, text, n, p->at);
        p->sent = true;
        return;
    }
    size_t from = p->queue_text.len;
    if (n && !srn_buf_add(&p->queue_text, text, n)) p->failed = true;
    queued *last = p->n_queue ? &p->queue[p->n_queue - 1] : NULL;
    if (last && last->kind == kind && kind == SRN_REPLY_ARGUMENTS) {
        last->len += n;
        last->end = p->at;
        return;
    }
    if (p->n_queue == p->cap_queue) {
        size_t cap = p->cap_queue ? 2 * p->cap_queue : 4;
        queued *grown = srn_realloc_array(p->queue, cap, sizeof *grown);
        if (!grown) {
            p->failed = true;
            return;
        }
        p->queue = grown;
        p->cap_queue = cap;
    }
    p->queue[p->n_queue++] = (queued){kind, from, n, p->at};
}

static void arguments(srn_reply_parser *p, const char *text, size_t n) {
    if (!srn_buf_add(&p->args, text, n)) p->failed = true;
    call_event(p, SRN_REPLY_ARGUMENTS, text, n);
}

/* ---- outside calls ---- */

static void begin_call(srn_reply_parser *p) {
    const srn__call_syntax *s = p->f->calls;
    srn_buf_clear(&p->word);
    srn_buf_clear(&p->args);
    srn_buf_clear(&p->key);
    p->tool = NULL;
    p->has_name = p->has_args = p->sent = p->first = false;
    p->n_params = 0;
    p->matched = 0;
    p->scan = (scan){0};
    p->state = s->body == SRN__BODY_NAMED ? BEFORE_NAME : s->body == SRN__BODY_XML ? XML_FUNCTION : OBJECT;
}

static const char bare_mark[] = "{\"name\":";

/* What is pending is the mark that begins calls, and blanks before it. */
static void begin_region(srn_reply_parser *p, bool bare) {
    const srn__call_syntax *s = p->f->calls;
    srn_buf_clear(&p->raw);
    srn_buf_add(&p->raw, p->pend.data, p->pend.len);
    srn_buf_clear(&p->pend);
    begin_call(p);
    p->bare = bare;
    if (bare) { /* the mark is the object's beginning */
        srn_buf_addz(&p->key, "name");
        p->state = VALUE;
    } else if (s->section_open) {
        p->first = true;
        p->state = s->list ? LIST_OPEN : CALL_OPEN;
    }
}

/* The marks that may come in this state, by what they lead to. */
enum { TO_REASONING, FROM_REASONING, TO_CALLS, TO_BARE_CALL, N_MARKS };

static bool calls_may_come(const srn_reply_parser *p) {
    return p->o.parse_tools && !p->calls_over && p->state != REASONING;
}

static void marks_of(const srn_reply_parser *p, const char *ret[N_MARKS]) {
    bool calls = calls_may_come(p), begin = p->state == START || (p->state == AFTER && p->n_calls == 0);
    ret[TO_REASONING] = p->state == START && p->o.parse_reasoning ? p->f->think->open : NULL;
    ret[FROM_REASONING] = p->state == REASONING ? p->f->think->close : NULL;
    ret[TO_CALLS] = calls ? srn__call_opener(p->f->calls) : NULL;
    ret[TO_BARE_CALL] = calls && begin && p->f->calls->bare ? bare_mark : NULL;
}

static void take_mark(srn_reply_parser *p, int mark) {
    if (mark == TO_CALLS || mark == TO_BARE_CALL) {
        begin_region(p, mark == TO_BARE_CALL);
        return;
    }
    srn_buf_clear(&p->pend);
    p->state = mark == TO_REASONING ? REASONING : AFTER;
    p->reasoning_end = mark == TO_REASONING ? UINT64_MAX : p->at;
}

/* Gives out the first n pending bytes. */
static void give_pending(srn_reply_parser *p, size_t n) {
    bool reasoning = p->state == REASONING;
    if (n == 0) return;
    give(p, reasoning ? SRN_REPLY_REASONING : SRN_REPLY_CONTENT, p->pend.data, n, p->at - (p->pend.len - n));
    if (reasoning)
        p->reasoned = true;
    else
        p->state = CONTENT;
    drop(&p->pend, n);
}

/* Blanks before text are dropped behind reasoning and calls, and where reasoning begins. */
static void drop_leading(srn_reply_parser *p, size_t *blanks) {
    if (p->state != AFTER && !(p->state == REASONING && !p->reasoned)) return;
    drop(&p->pend, *blanks);
    *blanks = 0;
}

/* Decides on what is pending: a mark, what may become one, or text. */
static void settle(srn_reply_parser *p) {
    while (p->pend.len) {
        const char *marks[N_MARKS];
        marks_of(p, marks);
        size_t blanks = 0;
        if (p->state != CONTENT || calls_may_come(p))
            while (blanks < p->pend.len && is_blank(p->pend.data[blanks])) blanks++;
        size_t n = p->pend.len - blanks;
        if (n == 0 && blanks < MAX_BLANKS) return;
        bool wait = false;
        for (int i = 0; n && i < N_MARKS; i++) {
            size_t len = marks[i] ? strlen(marks[i]) : 0;
            if (!len || memcmp(p->pend.data + blanks, marks[i], SRN_MIN(n, len)) != 0) continue;
            wait = true;
            if (n < len) continue;
            drop_leading(p, &blanks);
            take_mark(p, i);
            return;
        }
        if (wait) return;
        drop_leading(p, &blanks);
        give_pending(p, n ? blanks + 1 : blanks);
    }
}

/* ---- inside calls ---- */

/* What was taken for a call is text; its last byte may begin a mark. */
static void not_a_call(srn_reply_parser *p) {
    p->n_queue = 0;
    srn_buf_clear(&p->queue_text);
    p->state = CONTENT;
    char last = p->raw.data[p->raw.len - 1];
    if (p->sent) {
        give(p, SRN_REPLY_CALL_END, NULL, 0, p->at - 1);
        p->n_calls++;
    } else {
        give(p, SRN_REPLY_CONTENT, p->raw.data, p->raw.len - 1, p->at - 1);
    }
    srn_buf_clear(&p->raw);
    srn_buf_add(&p->pend, &last, 1);
    settle(p);
}

static void region_over(srn_reply_parser *p) {
    srn_buf_clear(&p->raw);
    p->state = AFTER;
    if (p->f->calls->single || !p->o.parallel_calls) p->calls_over = true;
}

static void call_over(srn_reply_parser *p) {
    call_event(p, SRN_REPLY_CALL_END, NULL, 0);
    flush_queue(p);
    srn_buf_clear(&p->raw);
    srn_buf_clear(&p->word);
    p->sent = false;
    p->n_calls++;
    p->matched = 0;
    if (p->bare || !p->f->calls->section_open)
        region_over(p);
    else
        p->state = CALL_OPEN;
}

/* The body is complete: its closing mark, if it has one, is left. */
static void body_over(srn_reply_parser *p) {
    p->matched = 0;
    if (p->bare || !*p->f->calls->call_close)
        call_over(p);
    else
        p->state = CALL_CLOSE;
}

/* Takes c as the next byte of the mark; false: it is another. *ret_whole: that was its last. */
static bool expect(srn_reply_parser *p, const char *mark, char c, bool *ret_whole) {
    *ret_whole = false;
    if (p->matched == 0 && is_blank(c) && !is_blank(mark[0])) return true;
    if (mark[p->matched] != c) return false;
    *ret_whole = !mark[++p->matched];
    if (*ret_whole) p->matched = 0;
    return true;
}

/* The tool's name is known. False: it is none of the request's. */
static bool named(srn_reply_parser *p, const char *name, size_t n) {
    p->tool = srn__tool_find(p->tools, (srn_str){name, n});
    if (n == 0 || p->has_name || (p->tools && !p->tool)) return false;
    p->has_name = true;
    call_event(p, SRN_REPLY_CALL, name, n);
    if (p->args.len) call_event(p, SRN_REPLY_ARGUMENTS, p->args.data, p->args.len);
    return true;
}

static bool arguments_valid(const srn_reply_parser *p) {
    if (p->o.guarded) return true;
    json_t *j = json_loadb(p->args.data, p->args.len, JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL, NULL);
    bool ok = json_is_object(j);
    json_decref(j);
    return ok;
}

/* ---- JSON bodies ---- */

typedef enum scanned { GOES_ON, LAST, BEFORE } scanned;

/* One byte of a JSON value: whether it is the value's last, or the value ended before it. */
static scanned scan_value(scan *s, char c) {
    if (s->in_string) {
        bool quote = c == '"' && !s->escaped;
        s->escaped = c == '\\' && !s->escaped;
        if (quote) s->in_string = false;
        return quote && s->depth == 0 ? LAST : GOES_ON;
    }
    if (c == '"') s->in_string = true;
    if (c == '{' || c == '[') s->depth++;
    if (c == '}' || c == ']') {
        if (s->depth == 0) return BEFORE;
        return --s->depth == 0 ? LAST : GOES_ON;
    }
    return s->depth == 0 && (c == ',' || is_blank(c)) ? BEFORE : GOES_ON;
}

static bool key_is(const srn_reply_parser *p, const char *word) {
    return srn_str_eqz((srn_str){p->key.data, p->key.len}, word);
}

static bool is_arguments(const srn_reply_parser *p) {
    const srn__call_syntax *s = p->f->calls;
    return s->body == SRN__BODY_NAMED || key_is(p, s->arguments_key);
}

/* A value is complete. */
static bool value_over(srn_reply_parser *p) {
    p->state = COMMA;
    if (is_arguments(p)) return arguments_valid(p);
    if (!key_is(p, "name")) return true;
    json_t *name = json_loadb(p->word.data, p->word.len, JSON_DECODE_ANY, NULL);
    bool ok = json_is_string(name) && named(p, json_string_value(name), json_string_length(name));
    json_decref(name);
    return ok;
}

/* Behind a value: the object goes on or ends. */
static bool after_value(srn_reply_parser *p, char c) {
    p->scan = (scan){0};
    p->state = KEY;
    if (c == ',') return true;
    if (c != '}' || !p->has_name) return false;
    if (!p->has_args) arguments(p, "{}", 2);
    body_over(p);
    return true;
}

/* One byte inside a value. Arguments go out as they come once the name is known. */
static bool in_value(srn_reply_parser *p, char c) {
    scanned end = scan_value(&p->scan, c);
    bool named_body = p->f->calls->body == SRN__BODY_NAMED;
    if (end != BEFORE) {
        if (is_arguments(p) && p->has_name)
            arguments(p, &c, 1);
        else if (!srn_buf_add(is_arguments(p) ? &p->args : &p->word, &c, 1))
            p->failed = true;
    }
    if (end == GOES_ON) return true;
    if (!value_over(p)) return false;
    if (named_body) {
        body_over(p);
        return end == LAST;
    }
    return end == LAST || is_blank(c) || after_value(p, c);
}

static bool begin_value(srn_reply_parser *p, char c) {
    srn_buf_clear(&p->word);
    p->scan = (scan){0};
    p->state = IN_VALUE;
    if (is_arguments(p)) {
        if (p->has_args || c != '{') return false;
        p->has_args = true;
    }
    return c && strchr("{[\"-0123456789tfn", c) && in_value(p, c);
}

static bool object_byte(srn_reply_parser *p, char c) {
    if (p->state == IN_VALUE) return in_value(p, c);
    if (p->state == KEY && p->scan.in_string) {
        if (scan_value(&p->scan, c) == GOES_ON) return p->key.len < MAX_NAME && srn_buf_add(&p->key, &c, 1);
        p->state = COLON;
        return true;
    }
    if (is_blank(c)) return true;
    switch (p->state) {
    case OBJECT:
        p->state = KEY;
        return c == '{';
    case KEY:
        srn_buf_clear(&p->key);
        p->scan = (scan){.in_string = true};
        return c == '"';
    case COLON:
        p->state = VALUE;
        return c == ':';
    case VALUE:
        return begin_value(p, c);
    default: /* COMMA */
        return after_value(p, c);
    }
}

/* ---- named bodies ---- */

static bool name_byte(srn_reply_parser *p, char c) {
    const srn__call_syntax *s = p->f->calls;
    if (p->word.len > MAX_NAME || !srn_buf_add(&p->word, &c, 1)) return false;
    if (!ends_with(&p->word, s->after_name)) return true;
    size_t n = p->word.len - strlen(s->after_name);
    p->word.data[n] = 0;
    const char *cut = s->name_cut ? strstr(p->word.data, s->name_cut) : NULL;
    if (cut) n = (size_t)(cut - p->word.data);
    while (n && is_blank(p->word.data[n - 1])) n--;
    p->state = VALUE;
    return named(p, p->word.data, n);
}

/* ---- XML bodies ---- */

/* A parameter becomes a member of the JSON object of arguments. */
static bool xml_parameter(srn_reply_parser *p, const char *value, size_t n) {
    if (n && value[0] == '\n') value++, n--;
    if (n && value[n - 1] == '\n') n--;
    bool text = srn__tool_param_is_text(p->tool, (srn_str){p->key.data, p->key.len});
    json_t *v = text ? NULL : json_loadb(value, n, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
    if (!v) v = json_stringn(value, n);
    json_t *k = json_stringn(p->key.data, p->key.len);
    char *key = json_dumps(k, JSON_ENCODE_ANY), *dump = json_dumps(v, JSON_ENCODE_ANY);
    bool ok = key && dump;
    if (ok) {
        const char *before = p->n_params++ ? ", " : "{";
        arguments(p, before, strlen(before));
        arguments(p, key, strlen(key));
        arguments(p, ": ", 2);
        arguments(p, dump, strlen(dump));
    }
    free(key);
    free(dump);
    json_decref(k);
    json_decref(v);
    return ok;
}

static bool xml_tag(srn_reply_parser *p) {
    static const char function[] = "<function=", parameter[] = "<parameter=", close[] = "</function>";
    const srn_buf *w = &p->word;
    bool open = p->state == XML_FUNCTION,
         closes = !open && starts(w, close) && w->len > 1 && w->data[1] == '/';
    const char *want = open ? function : parameter;
    if (w->len > MAX_NAME || (!starts(w, want) && (open || !starts(w, close)))) return false;
    if (!ends_with(w, ">")) return true;
    size_t head = strlen(want), n = closes ? 0 : w->len - head - 1;
    bool ok = true;
    if (closes) {
        if (p->n_params == 0) arguments(p, "{", 1);
        arguments(p, "}", 1);
        ok = arguments_valid(p);
        body_over(p);
    } else if (open) {
        ok = named(p, w->data + head, n);
        p->state = XML_NEXT;
    } else {
        srn_buf_clear(&p->key);
        srn_buf_add(&p->key, w->data + head, n);
        p->state = XML_VALUE;
    }
    srn_buf_clear(&p->word);
    return ok;
}

static bool xml_byte(srn_reply_parser *p, char c) {
    static const char close[] = "</parameter>";
    if (p->state != XML_VALUE && p->word.len == 0 && is_blank(c)) return true;
    if (!srn_buf_add(&p->word, &c, 1)) return false;
    if (p->state != XML_VALUE) return xml_tag(p);
    if (!ends_with(&p->word, close)) return true;
    bool ok = xml_parameter(p, p->word.data, p->word.len - (sizeof close - 1));
    srn_buf_clear(&p->word);
    p->state = XML_NEXT;
    return ok;
}

/* ---- between the calls of a section ---- */

static bool list_byte(srn_reply_parser *p, char c) {
    bool first = p->first;
    if (is_blank(c)) return true;
    if (p->state == LIST_OPEN) {
        p->state = CALL_OPEN;
        return c == '[';
    }
    if (c == ']' && !first) {
        p->state = SECTION_CLOSE;
        if (!*p->f->calls->section_close) region_over(p);
        return true;
    }
    if (c != (first ? '{' : ',')) return false;
    begin_call(p);
    return !first || object_byte(p, c);
}

static bool section_byte(srn_reply_parser *p, char c) {
    const srn__call_syntax *s = p->f->calls;
    if (s->list) return list_byte(p, c);
    if (p->word.len == 0 && is_blank(c)) return true;
    if (!srn_buf_add(&p->word, &c, 1)) return false;
    bool opens = starts(&p->word, s->call_open), closes = !p->first && starts(&p->word, s->section_close);
    if (opens && p->word.len == strlen(s->call_open))
        begin_call(p);
    else if (closes && p->word.len == strlen(s->section_close))
        region_over(p);
    return opens || closes;
}

static bool call_byte(srn_reply_parser *p, char c) {
    const srn__call_syntax *s = p->f->calls;
    bool whole, ok;
    switch (p->state) {
    case BEFORE_NAME:
        if (!*s->before_name) {
            p->state = NAME;
            return name_byte(p, c);
        }
        ok = expect(p, s->before_name, c, &whole);
        if (whole) p->state = NAME;
        return ok;
    case CALL_CLOSE:
        ok = expect(p, s->call_close, c, &whole);
        if (whole) call_over(p);
        return ok;
    case SECTION_CLOSE:
        ok = expect(p, s->section_close, c, &whole);
        if (whole) region_over(p);
        return ok;
    case NAME:
        return name_byte(p, c);
    case XML_FUNCTION:
    case XML_NEXT:
    case XML_VALUE:
        return xml_byte(p, c);
    case LIST_OPEN:
    case CALL_OPEN:
        return section_byte(p, c);
    default:
        return p->state == VALUE && is_blank(c) ? true : object_byte(p, c);
    }
}

/* ---- the caller's side ---- */

static int finish(srn_reply_parser *p, srn_err *err) {
    flush(p);
    if (!p->failed) return SRN_OK;
    return srn_fail(err, SRN_ELIMIT, "a tool call in the answer is longer than %d bytes", MAX_CALL);
}

int srn_reply_parser_add(srn_reply_parser *p, srn_str text, srn_err *err) {
    for (size_t i = 0; i < text.len && !p->failed; i++) {
        if (p->state == CONTENT && !p->pend.len && !calls_may_come(p)) {
            p->at += text.len - i;
            give(p, SRN_REPLY_CONTENT, text.ptr + i, text.len - i, p->at);
            break;
        }
        char c = text.ptr[i];
        p->at++;
        if (p->state < LIST_OPEN) {
            srn_buf_add(&p->pend, &c, 1);
            settle(p);
        } else if (!srn_buf_add(&p->raw, &c, 1)) {
            p->failed = true;
        } else if (!call_byte(p, c)) {
            not_a_call(p);
        }
    }
    return finish(p, err);
}

int srn_reply_parser_end(srn_reply_parser *p, srn_err *err) {
    if (p->state < LIST_OPEN) {
        size_t blanks = 0;
        while (blanks < p->pend.len && is_blank(p->pend.data[blanks])) blanks++;
        if (p->state == AFTER || (p->state == REASONING && !p->reasoned)) drop(&p->pend, blanks);
        give_pending(p, p->pend.len);
        return finish(p, err);
    }
    bool between = (p->state == CALL_OPEN || p->state == SECTION_CLOSE) && !p->first;
    if (!between && !p->sent) give(p, SRN_REPLY_CONTENT, p->raw.data, p->raw.len, p->at);
    srn_buf_clear(&p->raw);
    p->state = CONTENT;
    return finish(p, err);
}
