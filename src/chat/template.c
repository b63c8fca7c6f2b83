/* Templates: compiling, and rendering messages into text with the trust of every byte. The entry of this
 * room; the only state that outlives a rendering is the immutable tree. It refuses sources and messages
 * beyond the limits of chat_internal.h.
 */
#include "chat/chat_internal.h"

#include <stdlib.h>

int srn_template_new(srn_str source, const char *name, srn_template **ret, srn_err *err) {
    srn_template *t = srn_calloc(1, sizeof *t);
    if (!t) return srn_fail_nomem(err, sizeof *t);
    srn_arena_init(&t->arena, SRN__TEMPLATE_MEM);
    t->name = srn_arena_strndup(&t->arena, name, strlen(name));
    int code = t->name ? srn__lex(t, source, err) : srn_fail_nomem(err, strlen(name));
    if (!code) code = srn__parse(t, err);
    free(t->toks);
    t->toks = NULL;
    if (code) {
        srn_template_free(t);
        return code;
    }
    *ret = t;
    return SRN_OK;
}

void srn_template_free(srn_template *t) {
    if (!t) return;
    free(t->toks);
    srn_arena_done(&t->arena);
    free(t);
}

void srn_rendered_done(srn_rendered *r) {
    if (!r) return;
    srn_buf_done(&r->text);
    free(r->spans);
    *r = (srn_rendered){0};
}

static bool define(srn__in *in, const char *word, srn__val v) {
    const char *name = srn__intern((srn_template *)(uintptr_t)in->t, srn_str_of(word), false);
    return !name || srn__scope_set(in, in->globals, name, v);
}

static bool define_str(srn__in *in, const char *word, srn_str s) {
    srn__val v;
    if (!s.ptr) return true;
    return srn__str_new(in, s.ptr, s.len, true, &v) && define(in, word, v);
}

static bool define_json(srn__in *in, const char *word, const json_t *j) {
    srn__val v = srn__none();
    return (!j || srn__from_json(in, j, 0, &v)) && define(in, word, v);
}

/* The variables of the outermost scope; what the caller fixes (messages, the special tokens) wins over extra.
 */
static bool define_all(srn__in *in) {
    const srn_render_opts *o = in->o;
    srn__val messages;
    const char *key;
    json_t *value;
    if (!srn__define_globals(in) || !define(in, "tools", srn__none()) ||
        !define(in, "documents", srn__none()))
        return false;
    if (o->extra) {
        json_object_foreach((json_t *)(uintptr_t)o->extra, key, value) {
            if (!define_json(in, key, value)) return false;
        }
    }
    if (o->tools && !define_json(in, "tools", o->tools)) return false;
    if (!srn__messages_from_json(in, o->messages, &messages) || !define(in, "messages", messages))
        return false;
    return define_str(in, "bos_token", o->bos_token) && define_str(in, "eos_token", o->eos_token) &&
           define(in, "add_generation_prompt", srn__bool(o->add_generation_prompt));
}

static int take_output(const srn__builder *b, srn_rendered *ret, srn_err *err) {
    srn_rendered r = {0};
    srn_buf_init(&r.text, SRN__OUTPUT_MAX);
    r.spans = srn_calloc(b->n_runs, sizeof *r.spans);
    if (!r.spans || !srn_buf_add(&r.text, b->ptr, b->len)) {
        srn_rendered_done(&r);
        return srn_fail_nomem(err, b->len);
    }
    size_t from = 0;
    for (; r.n_spans < b->n_runs; r.n_spans++) {
        const srn__run *run = &b->runs[r.n_spans];
        r.spans[r.n_spans] = (srn_span){{r.text.data + from, run->end - from}, run->trusted};
        from = run->end;
    }
    *ret = r;
    return SRN_OK;
}

int srn_template_render(const srn_template *t, const srn_render_opts *o, srn_rendered *ret, srn_err *err) {
    if (!json_is_array(o->messages)) return srn_fail(err, SRN_EINVAL, "messages must be a JSON array");
    if (o->extra && !json_is_object(o->extra))
        return srn_fail(err, SRN_EINVAL, "the further variables of a template must be a JSON object");
    srn__builder out = {0};
    srn__scope globals = {0}, top = {.parent = &globals};
    srn__in in = {.t = t, .o = o, .err = err, .line = 1, .out = &out, .scope = &globals, .globals = &globals};
    srn__flow flow = FLOW_NEXT;
    in.max_steps = o->max_steps ? o->max_steps : SRN__STEPS_MAX;
    srn_arena_init(&in.arena, SRN__MEMORY_MAX);
    bool ok = define_all(&in);
    in.scope = &top;
    ok = ok && srn__exec(&in, t->root, &flow);
    int code = ok ? take_output(&out, ret, err) : in.code;
    srn_arena_done(&in.arena);
    return code;
}
