/* Statements: scopes, loops, macros, blocks that capture their output. Called by template.c, on the
 * rendering's thread. A scope belongs to a loop round, a macro call, or a block; a name is looked up from the
 * innermost scope outwards and set in the innermost.
 */
#include "chat/chat_internal.h"

/* ---- scopes ---- */

static srn__scope *scope_new(srn__in *in, srn__scope *parent) {
    srn__scope *s = srn__alloc(in, 1, sizeof *s);
    if (s) s->parent = parent;
    return s;
}

bool srn__scope_set(srn__in *in, srn__scope *s, const char *name, srn__val v) {
    for (size_t i = 0; i < s->n; i++)
        if (s->slots[i].name == name) return s->slots[i].v = v, true;
    if (s->n == s->cap) {
        size_t cap = s->cap ? s->cap * 2 : 4;
        srn__slot *slots = srn__alloc(in, cap, sizeof *slots);
        if (!slots) return false;
        if (s->n) memcpy(slots, s->slots, s->n * sizeof *slots);
        s->slots = slots;
        s->cap = cap;
    }
    s->slots[s->n++] = (srn__slot){name, v};
    return srn__work(in, s->n / 8);
}

const srn__val *srn__scope_get(const srn__scope *s, const char *name) {
    for (; s; s = s->parent)
        for (size_t i = 0; i < s->n; i++)
            if (s->slots[i].name == name) return &s->slots[i].v;
    return NULL;
}

static bool set_named(srn__in *in, srn__scope *s, const char *word, srn__val v) {
    const char *name = srn__intern((srn_template *)(uintptr_t)in->t, srn_str_of(word), false);
    return !name || srn__scope_set(in, s, name, v);
}

/* ---- assignment ---- */

static bool assign_attr(srn__in *in, const srn__node *target, srn__val v) {
    const srn__val *ns = srn__scope_get(in->scope, target->name);
    if (!ns) return srn__err(in, SRN_EFORMAT, "'%s' is undefined", target->name);
    if (ns->type != V_NS)
        return srn__err(in, SRN_EFORMAT, "attributes can be set on a namespace() only, '%s' is a %s",
                        target->name, srn__type_name(*ns));
    return srn__dict_set(in, ns->u.dict, target->value, v);
}

static bool assign(srn__in *in, srn__scope *scope, const srn__node *target, srn__val v) {
    if (target->kind == E_NAME) return srn__scope_set(in, scope, target->name, v);
    if (target->kind == E_NSREF) return assign_attr(in, target, v);
    srn__seq *items;
    if (!srn__iterate(in, v, &items)) return false;
    if (items->n != target->n)
        return srn__err(in, SRN_EFORMAT, "%zu names cannot take %zu values", target->n, items->n);
    for (size_t i = 0; i < target->n; i++)
        if (!assign(in, scope, target->list[i], items->items[i])) return false;
    return true;
}

/* ---- blocks that capture ---- */

/* Runs body in scope with its output going to a new text. */
static bool capture(srn__in *in, srn__scope *scope, const srn__node *body, srn__flow *flow, srn__val *ret) {
    srn__builder b = {0}, *out = in->out;
    srn__scope *outer = in->scope;
    in->out = &b;
    in->scope = scope;
    bool ok = srn__exec(in, body, flow);
    in->out = out;
    in->scope = outer;
    return ok && srn__finish(in, &b, ret);
}

static bool exec_capture(srn__in *in, const srn__node *n, srn__flow *flow) {
    srn__val v;
    srn__scope *s = scope_new(in, in->scope);
    if (!s || !capture(in, s, n->body, flow, &v)) return false;
    if (*flow != FLOW_NEXT) return true;
    if (n->b && !srn__filter_chain(in, n->b, v, &v)) return false;
    return n->kind == S_FILTER ? srn__put_str(in, in->out, v) : assign(in, in->scope, n->a, v);
}

static bool exec_scope(srn__in *in, const srn__node *n, srn__flow *flow) {
    srn__scope *outer = in->scope, *s = scope_new(in, outer);
    bool ok = s != NULL;
    for (size_t i = 0; ok && n->kind == S_WITH && i < n->n; i += 2) {
        srn__val v;
        ok = srn__eval(in, n->list[i + 1], &v) && assign(in, s, n->list[i], v);
    }
    in->scope = s;
    ok = ok && srn__exec(in, n->body, flow);
    in->scope = outer;
    return ok;
}

/* ---- macros ---- */

static bool macro_value(srn__in *in, const srn__node *n, srn__val *ret) {
    srn__func *f = srn__alloc(in, 1, sizeof *f);
    if (!f) return false;
    *f = (srn__func){.kind = FN_MACRO, .node = n, .scope = in->scope};
    for (srn__scope *s = in->scope; s && !s->captured; s = s->parent) s->captured = true;
    *ret = (srn__val){.type = V_FUNC, .u.func = f};
    return true;
}

static size_t find_kw(const srn__args *args, const char *name) {
    size_t i = 0;
    while (i < args->n_kw && !srn_str_eqz(args->kw[i].name, name)) i++;
    return i;
}

/* The keywords of a call that no parameter took, as a dict; an error unless the macro names kwargs. */
static bool left_over(srn__in *in, const srn__node *n, const srn__args *args, const bool *used,
                      srn__scope *s) {
    srn__dict *rest = srn__dict_new(in, 0);
    if (!rest) return false;
    for (size_t i = 0; i < args->n_kw; i++) {
        srn__val key;
        srn_str name = args->kw[i].name;
        if (used[i]) continue;
        if (!(n->wants & WANTS_KWARGS))
            return srn__err(in, SRN_EFORMAT, "macro '%s' has no parameter '%.*s'", n->name,
                            (int)SRN_MIN(name.len, 60), name.ptr);
        if (!srn__kw_name(in, &args->kw[i], &key) || !srn__dict_push(in, rest, key, args->kw[i].v))
            return false;
    }
    return !(n->wants & WANTS_KWARGS) ||
           set_named(in, s, "kwargs", (srn__val){.type = V_DICT, .u.dict = rest});
}

static bool extra_positional(srn__in *in, const srn__node *n, const srn__args *args, srn__scope *s) {
    size_t extra = args->n > n->n_args ? args->n - n->n_args : 0;
    if (extra && !(n->wants & WANTS_VARARGS))
        return srn__err(in, SRN_EFORMAT, "macro '%s' takes at most %zu arguments, %zu were given", n->name,
                        n->n_args, args->n);
    if (!(n->wants & WANTS_VARARGS)) return true;
    srn__seq *rest = srn__seq_new(in, SEQ_TUPLE, extra);
    if (!rest) return false;
    for (size_t i = 0; i < extra; i++) rest->items[rest->n++] = args->pos[n->n_args + i];
    return set_named(in, s, "varargs", srn__seq_val(rest, false));
}

static bool bind_macro(srn__in *in, const srn__node *n, const srn__args *args, srn__scope *s) {
    bool *used = srn__alloc(in, args->n_kw + 1, sizeof *used);
    if (!used) return false;
    bool own_caller = false;
    in->scope = s;
    for (size_t i = 0; i < n->n_args; i++) {
        const srn__arg *p = &n->args[i];
        size_t kw = find_kw(args, p->name);
        srn__val v;
        own_caller |= strcmp(p->name, "caller") == 0;
        if (i < args->n) {
            v = args->pos[i];
        } else if (kw < args->n_kw) {
            v = args->kw[kw].v;
            used[kw] = true;
        } else if (p->value) {
            if (!srn__eval(in, p->value, &v)) return false;
        } else if (!srn__undef_name(in, srn_str_of(p->name), V_MISSING, &v)) {
            return false;
        }
        if (!srn__scope_set(in, s, p->name, v)) return false;
    }
    if ((n->wants & WANTS_CALLER) && !own_caller) {
        size_t kw = find_kw(args, "caller");
        srn__val v;
        if (kw < args->n_kw) {
            v = args->kw[kw].v;
            used[kw] = true;
        } else if (!srn__undef(in, "no caller is defined: the macro was not used by a call block", &v)) {
            return false;
        }
        if (!set_named(in, s, "caller", v)) return false;
    }
    return extra_positional(in, n, args, s) && left_over(in, n, args, used, s);
}

bool srn__call_macro(srn__in *in, const srn__func *f, const srn__args *args, srn__val *ret) {
    srn__scope *outer = in->scope, *s = scope_new(in, f->scope);
    srn__flow flow = FLOW_NEXT;
    int line = in->line;
    if (!s || !srn__enter(in)) return false;
    bool ok = bind_macro(in, f->node, args, s);
    in->scope = outer;
    ok = ok && capture(in, s, f->node->body, &flow, ret);
    srn__leave(in);
    if (ok) in->line = line;
    return ok;
}

static bool exec_call(srn__in *in, const srn__node *n) {
    srn__val fn, caller, v;
    srn__args args;
    if (!srn__eval(in, n->a->a, &fn) || !srn__eval_args(in, n->a, &args) || !macro_value(in, n, &caller))
        return false;
    if (find_kw(&args, "caller") < args.n_kw)
        return srn__err(in, SRN_EFORMAT, "a call block sets 'caller' itself");
    srn__kw *kw = srn__alloc(in, args.n_kw + 1, sizeof *kw);
    if (!kw) return false;
    if (args.n_kw) memcpy(kw, args.kw, args.n_kw * sizeof *kw);
    kw[args.n_kw++] = (srn__kw){SRN_STR("caller"), caller, NULL};
    args.kw = kw;
    in->line = n->line;
    return srn__call(in, fn, &args, &v) && srn__put_str(in, in->out, v);
}

/* ---- loops ---- */

/* The next item that passes the loop's filter. */
static bool loop_fetch(srn__loop *l, srn__val *ret, bool *ret_found) {
    srn__in *in = l->in;
    *ret_found = false;
    while (!*ret_found && l->pos < l->items->n) {
        *ret = l->items->items[l->pos++];
        *ret_found = true;
        if (!srn__work(in, 1)) return false;
        if (!l->node->c) continue;
        srn__val test;
        srn__scope *now = in->scope, *s = scope_new(in, l->outer);
        in->scope = s;
        bool ok = s && assign(in, s, l->node->a, *ret) && srn__eval(in, l->node->c, &test);
        in->scope = now;
        if (!ok) return false;
        *ret_found = srn__truth(test);
    }
    return true;
}

static bool loop_peek(srn__loop *l, bool *ret_found) {
    if (!l->has_after && !loop_fetch(l, &l->after, &l->has_after)) return false;
    *ret_found = l->has_after;
    return true;
}

static bool loop_next(srn__loop *l, bool *ret_found) {
    srn__val item;
    if (l->has_after) {
        item = l->after;
        l->has_after = false;
        *ret_found = true;
    } else if (!loop_fetch(l, &item, ret_found)) {
        return false;
    }
    if (!*ret_found) return true;
    l->index0++;
    l->before = l->current;
    l->current = item;
    return true;
}

static bool loop_length(srn__loop *l, int64_t *ret) {
    if (!l->length_known && !l->node->c) {
        l->length = (int64_t)l->items->n;
    } else if (!l->length_known) {
        srn__seq *rest = srn__seq_new(l->in, SEQ_LIST, 0);
        bool found = true;
        while (rest && found) {
            srn__val v;
            if (!loop_fetch(l, &v, &found) || (found && !srn__seq_push(l->in, rest, v))) return false;
        }
        if (!rest) return false;
        l->length = (int64_t)rest->n + l->index0 + 1 + l->has_after;
        srn__node *unfiltered = srn__alloc(l->in, 1, sizeof *unfiltered);
        if (!unfiltered) return false;
        *unfiltered = *l->node;
        unfiltered->c = NULL;
        l->node = unfiltered;
        l->items = rest;
        l->pos = 0;
    }
    l->length_known = true;
    *ret = l->length;
    return true;
}

static bool loop_cycle(srn__in *in, srn__val self, srn__val *vals, const srn__args *raw, srn__val *ret) {
    (void)vals;
    if (raw->n == 0) return srn__err(in, SRN_EFORMAT, "loop.cycle needs at least one value");
    *ret = raw->pos[(size_t)self.u.loop->index0 % raw->n];
    return true;
}

static bool loop_changed(srn__in *in, srn__val self, srn__val *vals, const srn__args *raw, srn__val *ret) {
    (void)vals;
    srn__loop *l = self.u.loop;
    srn__seq *now = srn__seq_new(in, SEQ_TUPLE, raw->n);
    bool same = false;
    if (!now) return false;
    for (size_t i = 0; i < raw->n; i++) now->items[now->n++] = raw->pos[i];
    if (l->has_changed && !srn__equal(in, l->changed, srn__seq_val(now, false), &same)) return false;
    l->changed = srn__seq_val(now, false);
    l->has_changed = true;
    *ret = srn__bool(!same);
    return true;
}

static bool loop_method(srn__in *in, srn__loop *l, const srn__builtin *b, srn__val *ret) {
    srn__func *f = srn__alloc(in, 1, sizeof *f);
    if (!f) return false;
    *f = (srn__func){.kind = FN_BUILTIN, .builtin = b, .self = {.type = V_LOOP, .u.loop = l}};
    *ret = (srn__val){.type = V_FUNC, .u.func = f};
    return true;
}

bool srn__loop_attr(srn__in *in, srn__loop *l, srn_str name, srn__val *ret, bool *ret_found) {
    static const srn__builtin cycle = {"loop.cycle", loop_cycle, "*"},
                              changed = {"loop.changed", loop_changed, "*"};
    bool more;
    int64_t n;
    *ret_found = true;
    if (srn_str_eqz(name, "index0")) return *ret = srn__int(l->index0), true;
    if (srn_str_eqz(name, "index")) return *ret = srn__int(l->index0 + 1), true;
    if (srn_str_eqz(name, "first")) return *ret = srn__bool(l->index0 == 0), true;
    if (srn_str_eqz(name, "depth")) return *ret = srn__int(1), true;
    if (srn_str_eqz(name, "depth0")) return *ret = srn__int(0), true;
    if (srn_str_eqz(name, "cycle")) return loop_method(in, l, &cycle, ret);
    if (srn_str_eqz(name, "changed")) return loop_method(in, l, &changed, ret);
    if (srn_str_eqz(name, "last")) {
        if (!loop_peek(l, &more)) return false;
        return *ret = srn__bool(!more), true;
    }
    if (srn_str_eqz(name, "previtem")) {
        if (l->index0 == 0) return srn__undef(in, "there is no previous item", ret);
        return *ret = l->before, true;
    }
    if (srn_str_eqz(name, "nextitem")) {
        if (!loop_peek(l, &more)) return false;
        if (!more) return srn__undef(in, "there is no next item", ret);
        return *ret = l->after, true;
    }
    bool length = srn_str_eqz(name, "length"), rev = srn_str_eqz(name, "revindex"),
         rev0 = srn_str_eqz(name, "revindex0");
    *ret_found = length || rev || rev0;
    if (!*ret_found) return true;
    if (!loop_length(l, &n)) return false;
    *ret = srn__int(length ? n : rev ? n - l->index0 : n - l->index0 - 1);
    return true;
}

static bool exec_round(srn__in *in, const srn__node *n, srn__loop *l, srn__scope *s, srn__flow *flow) {
    s->n = 0;
    return set_named(in, s, "loop", (srn__val){.type = V_LOOP, .u.loop = l}) &&
           assign(in, s, n->a, l->current) && srn__exec(in, n->body, flow);
}

static bool exec_for(srn__in *in, const srn__node *n) {
    srn__val iterable;
    srn__scope *outer = in->scope, *s = NULL;
    srn__loop *l = srn__alloc(in, 1, sizeof *l);
    srn__flow flow = FLOW_NEXT;
    if (!l || !srn__eval(in, n->b, &iterable)) return false;
    *l = (srn__loop){.in = in, .node = n, .outer = outer, .index0 = -1};
    if (!srn__iterate(in, iterable, &l->items)) return false;
    for (bool found; flow != FLOW_BREAK;) {
        if (!loop_next(l, &found)) return false;
        if (!found) break;
        if ((!s || s->captured) && !(s = scope_new(in, outer))) return false;
        flow = FLOW_NEXT;
        in->scope = s;
        bool ok = exec_round(in, n, l, s, &flow);
        in->scope = outer;
        if (!ok) return false;
    }
    if (l->index0 >= 0 || !n->other) return true;
    in->scope = scope_new(in, outer);
    flow = FLOW_NEXT;
    bool ok = in->scope && srn__exec(in, n->other, &flow);
    in->scope = outer;
    return ok;
}

/* ---- statements ---- */

static bool exec_if(srn__in *in, const srn__node *n, srn__flow *flow) {
    for (; n; n = n->other) {
        srn__val test;
        if (n->kind != S_IF) return srn__exec(in, n, flow);
        if (!srn__eval(in, n->a, &test)) return false;
        if (srn__truth(test)) return srn__exec(in, n->body, flow);
    }
    return true;
}

static bool exec_print(srn__in *in, const srn__node *n) {
    srn__val v;
    if (!srn__eval(in, n->a, &v)) return false;
    in->line = n->line;
    return srn__put_str(in, in->out, v);
}

static bool exec_set(srn__in *in, const srn__node *n) {
    srn__val v;
    if (!srn__eval(in, n->b, &v)) return false;
    in->line = n->line;
    return assign(in, in->scope, n->a, v);
}

static bool exec_body(srn__in *in, const srn__node *n, srn__flow *flow) {
    for (size_t i = 0; i < n->n && *flow == FLOW_NEXT; i++)
        if (!srn__exec(in, n->list[i], flow)) return false;
    return true;
}

static bool exec_node(srn__in *in, const srn__node *n, srn__flow *flow) {
    srn__val v;
    switch (n->kind) {
    case S_BODY:
        return exec_body(in, n, flow);
    case S_TEXT:
        return srn__put_text(in, in->out, n->value.u.s);
    case S_PRINT:
        return exec_print(in, n);
    case S_FOR:
        return exec_for(in, n);
    case S_IF:
        return exec_if(in, n, flow);
    case S_SET:
        return exec_set(in, n);
    case S_SET_BLOCK:
    case S_FILTER:
        return exec_capture(in, n, flow);
    case S_MACRO:
        return macro_value(in, n, &v) && srn__scope_set(in, in->scope, n->name, v);
    case S_CALL:
        return exec_call(in, n);
    case S_WITH:
    case S_SCOPE:
        return exec_scope(in, n, flow);
    default:
        *flow = n->kind == S_BREAK ? FLOW_BREAK : FLOW_CONTINUE;
        return true;
    }
}

bool srn__exec(srn__in *in, const srn__node *n, srn__flow *flow) {
    if (!srn__enter(in)) return false;
    in->line = n->line;
    bool ok = srn__work(in, 1) && exec_node(in, n, flow);
    srn__leave(in);
    return ok;
}
