/* Expressions: the tree walk, calls and the binding of arguments. Called by exec.c and by filters that call
 * other filters, on the rendering's thread.
 */
#include "chat/chat_internal.h"

bool srn__err(srn__in *in, int code, const char *fmt, ...) {
    if (in->code) return false;
    va_list ap;
    va_start(ap, fmt);
    in->code = srn_vfail(in->err, code, fmt, ap);
    va_end(ap);
    srn_fail_prefix(in->err, code, "%s, line %d", in->t->name, in->line);
    return false;
}

bool srn__nomem(srn__in *in) {
    if (in->arena.max && in->arena.used > in->arena.max / 2)
        return srn__err(in, SRN_ELIMIT, "rendering needs more than the limit of %zu MiB of memory",
                        SRN__MEMORY_MAX >> 20);
    return srn__err(in, SRN_ENOMEM, "out of memory");
}

void *srn__alloc(srn__in *in, size_t n, size_t size) {
    uint64_t bytes;
    void *p = srn_mul_u64(n, size, &bytes) ? srn_arena_alloc(&in->arena, bytes) : NULL;
    if (!p) srn__nomem(in);
    return p;
}

bool srn__work(srn__in *in, size_t n) {
    in->steps += n;
    if (in->steps <= in->max_steps) return true;
    return srn__err(in, SRN_ELIMIT, "rendering takes more than the limit of %llu steps",
                    (unsigned long long)in->max_steps);
}

bool srn__enter(srn__in *in) {
    if (++in->depth <= SRN__DEPTH_MAX) return true;
    in->depth--;
    return srn__err(in, SRN_ELIMIT, "the template recurses more than %d deep", SRN__DEPTH_MAX);
}

bool srn__want_int(srn__in *in, srn__val v, const char *what, int64_t fallback, int64_t *ret) {
    if (v.type == V_MISSING) return *ret = fallback, true;
    if (v.type == V_UNDEF) return srn__undef_fail(in, v);
    if (!srn__is_intlike(v))
        return srn__err(in, SRN_EFORMAT, "%s must be an integer, not a %s", what, srn__type_name(v));
    *ret = srn__as_int(v);
    return true;
}

bool srn__want_text(srn__in *in, srn__val v, const char *what, const srn__text **ret) {
    if (v.type == V_UNDEF) return srn__undef_fail(in, v);
    if (v.type != V_STR)
        return srn__err(in, SRN_EFORMAT, "%s must be a string, not a %s", what, srn__type_name(v));
    *ret = v.u.s;
    return true;
}

const srn__builtin *srn__builtin_find(const srn__builtin *rows, size_t n, srn_str name) {
    for (size_t i = 0; i < n; i++)
        if (srn_str_eqz(name, rows[i].name)) return &rows[i];
    return NULL;
}

/* ---- calls ---- */

/* Position of a keyword in a signature such as "old new count?", -1 if it is not there. */
static int sig_index(const char *sig, srn_str name) {
    int index = 0;
    for (const char *p = sig; *p; index++) {
        size_t n = strcspn(p, " ?");
        if (n == name.len && memcmp(p, name.ptr, n) == 0) return index;
        p += strcspn(p, " ");
        p += *p == ' ';
    }
    return -1;
}

bool srn__call_builtin(srn__in *in, const srn__builtin *b, srn__val self, const srn__args *args,
                       srn__val *ret) {
    srn__val vals[SRN__ARGS_MAX];
    for (size_t i = 0; i < SRN__ARGS_MAX; i++) vals[i] = (srn__val){.type = V_MISSING};
    if (!srn__work(in, 1)) return false;
    if (b->sig[0] == '*') return b->fn(in, self, vals, args, ret);
    size_t most = 0, least = 0;
    for (const char *p = b->sig; *p; most++) {
        size_t n = strcspn(p, " ");
        if (p[n - 1] != '?') least = most + 1;
        p += n;
        p += *p == ' ';
    }
    if (args->n > most)
        return srn__err(in, SRN_EFORMAT, "'%s' takes at most %zu arguments, %zu were given", b->name, most,
                        args->n);
    for (size_t i = 0; i < args->n; i++) vals[i] = args->pos[i];
    for (size_t i = 0; i < args->n_kw; i++) {
        int at = sig_index(b->sig, args->kw[i].name);
        int n = (int)SRN_MIN(args->kw[i].name.len, 60);
        if (at < 0)
            return srn__err(in, SRN_EFORMAT, "'%s' has no parameter '%.*s'", b->name, n,
                            args->kw[i].name.ptr);
        if (srn__given(vals[at]))
            return srn__err(in, SRN_EFORMAT, "'%s' got the parameter '%.*s' twice", b->name, n,
                            args->kw[i].name.ptr);
        vals[at] = args->kw[i].v;
    }
    for (size_t i = 0; i < least; i++)
        if (!srn__given(vals[i]))
            return srn__err(in, SRN_EFORMAT, "'%s' needs %zu arguments", b->name, least);
    return b->fn(in, self, vals, args, ret);
}

static bool push_kw(srn__in *in, srn__args *a, size_t *cap, srn__kw new) {
    srn_str name = new.name;
    if (a->n_kw == *cap) {
        size_t more = *cap ? *cap * 2 : 4;
        srn__kw *kw = srn__alloc(in, more, sizeof *kw);
        if (!kw) return false;
        if (a->n_kw) memcpy(kw, a->kw, a->n_kw * sizeof *kw);
        a->kw = kw;
        *cap = more;
    }
    for (size_t i = 0; i < a->n_kw; i++)
        if (srn_str_eq(a->kw[i].name, name))
            return srn__err(in, SRN_EFORMAT, "the keyword '%.*s' is given twice", (int)SRN_MIN(name.len, 60),
                            name.ptr);
    a->kw[a->n_kw++] = new;
    return srn__work(in, a->n_kw / 8);
}

bool srn__kw_name(srn__in *in, const srn__kw *kw, srn__val *ret) {
    if (kw->text) return *ret = (srn__val){.type = V_STR, .u.s = kw->text}, true;
    return srn__str_new(in, kw->name.ptr, kw->name.len, true, ret);
}

static bool spread_kwargs(srn__in *in, srn__args *a, size_t *cap, srn__val v) {
    if (v.type != V_DICT) return srn__err(in, SRN_EFORMAT, "** needs a dict, not a %s", srn__type_name(v));
    for (size_t i = 0; i < v.u.dict->n; i++) {
        const srn__text *key = NULL;
        if (!srn__want_text(in, v.u.dict->pairs[i].k, "a keyword", &key) ||
            !push_kw(in, a, cap, (srn__kw){srn__bytes(key), v.u.dict->pairs[i].v, key}))
            return false;
    }
    return true;
}

bool srn__eval_args(srn__in *in, const srn__node *n, srn__args *ret) {
    srn__args a = {0};
    if (n->n_args) {
        srn__seq pos = {0};
        size_t cap = 0;
        for (size_t i = 0; i < n->n_args; i++) {
            const srn__arg *arg = &n->args[i];
            srn__val v;
            srn__seq *items;
            if (!srn__eval(in, arg->value, &v)) return false;
            if (arg->name) {
                if (!push_kw(in, &a, &cap, (srn__kw){srn_str_of(arg->name), v, NULL})) return false;
            } else if (arg->star == 2) {
                if (!spread_kwargs(in, &a, &cap, v)) return false;
            } else if (arg->star == 1) {
                if (!srn__iterate(in, v, &items)) return false;
                for (size_t k = 0; k < items->n; k++)
                    if (!srn__seq_push(in, &pos, items->items[k])) return false;
            } else if (!srn__seq_push(in, &pos, v)) {
                return false;
            }
        }
        a.pos = pos.items;
        a.n = pos.n;
    }
    *ret = a;
    return true;
}

static bool call_joiner(srn__in *in, srn__dict *state, srn__val *ret) {
    srn__val sep = state->pairs[0].v;
    bool used = state->n > 1;
    if (!used) {
        if (!srn__dict_push(in, state, srn__none(), srn__none())) return false;
        return srn__str_new(in, "", 0, true, ret);
    }
    *ret = sep;
    return true;
}

bool srn__call(srn__in *in, srn__val fn, const srn__args *args, srn__val *ret) {
    if (fn.type == V_UNDEF) return srn__undef_fail(in, fn);
    if (fn.type == V_JOINER) return call_joiner(in, fn.u.dict, ret);
    if (fn.type != V_FUNC) return srn__err(in, SRN_EFORMAT, "a %s cannot be called", srn__type_name(fn));
    if (fn.u.func->kind == FN_BUILTIN)
        return srn__call_builtin(in, fn.u.func->builtin, fn.u.func->self, args, ret);
    return srn__call_macro(in, fn.u.func, args, ret);
}

bool srn__filter_chain(srn__in *in, const srn__node *n, srn__val v, srn__val *ret) {
    srn__args args;
    srn__val subject = v;
    if (!srn__enter(in)) return false;
    bool ok = (!n->a || srn__filter_chain(in, n->a, v, &subject)) && srn__eval_args(in, n, &args);
    in->line = n->line;
    ok = ok && srn__call_builtin(in, n->builtin, subject, &args, ret);
    srn__leave(in);
    return ok;
}

/* ---- expressions ---- */

static bool eval_name(srn__in *in, const srn__node *n, srn__val *ret) {
    const srn__val *v = srn__scope_get(in->scope, n->name);
    if (v) return *ret = *v, true;
    return srn__undef_name(in, srn_str_of(n->name), V_MISSING, ret);
}

static bool eval_seq(srn__in *in, const srn__node *n, srn__val *ret) {
    srn__seq *s = srn__seq_new(in, n->kind == E_LIST ? SEQ_LIST : SEQ_TUPLE, n->n);
    if (!s) return false;
    for (size_t i = 0; i < n->n; i++)
        if (!srn__eval(in, n->list[i], &s->items[i])) return false;
    s->n = n->n;
    *ret = srn__seq_val(s, false);
    return true;
}

static bool eval_dict(srn__in *in, const srn__node *n, srn__val *ret) {
    srn__dict *d = srn__dict_new(in, n->n / 2);
    if (!d) return false;
    for (size_t i = 0; i < n->n; i += 2) {
        srn__val k, v;
        if (!srn__eval(in, n->list[i], &k) || !srn__eval(in, n->list[i + 1], &v) ||
            !srn__dict_set(in, d, k, v))
            return false;
    }
    *ret = (srn__val){.type = V_DICT, .u.dict = d};
    return true;
}

static bool eval_compare(srn__in *in, const srn__node *n, srn__val *ret) {
    srn__val left, right;
    bool holds = true;
    if (!srn__eval(in, n->a, &left)) return false;
    for (size_t i = 0; holds && i < n->n; i++) {
        if (!srn__eval(in, n->list[i], &right)) return false;
        in->line = n->line;
        if (!srn__compare(in, (srn__op)n->ops[i], left, right, &holds)) return false;
        left = right;
    }
    *ret = srn__bool(holds);
    return true;
}

static bool eval_concat(srn__in *in, const srn__node *n, srn__val *ret) {
    srn__builder b = {0};
    for (size_t i = 0; i < n->n; i++) {
        srn__val v;
        if (!srn__eval(in, n->list[i], &v) || !srn__put_str(in, &b, v)) return false;
    }
    return srn__finish(in, &b, ret);
}

static bool eval_cond(srn__in *in, const srn__node *n, srn__val *ret) {
    srn__val test;
    if (!srn__eval(in, n->a, &test)) return false;
    if (srn__truth(test)) return srn__eval(in, n->b, ret);
    if (n->c) return srn__eval(in, n->c, ret);
    return srn__undef(in, "the condition of an 'if' without 'else' was false, so it has no value", ret);
}

static bool eval_item(srn__in *in, const srn__node *n, srn__val *ret) {
    srn__val obj, key = srn__none(),
                  part[3] = {{.type = V_MISSING}, {.type = V_MISSING}, {.type = V_MISSING}};
    if (!srn__eval(in, n->a, &obj)) return false;
    if (n->b->kind != E_SLICE) {
        if (!srn__eval(in, n->b, &key)) return false;
        in->line = n->line;
        return srn__getitem(in, obj, key, ret);
    }
    const srn__node *nodes[3] = {n->b->a, n->b->b, n->b->c};
    for (int i = 0; i < 3; i++)
        if (nodes[i] && !srn__eval(in, nodes[i], &part[i])) return false;
    in->line = n->line;
    return srn__slice(in, obj, part[0], part[1], part[2], ret);
}

static bool eval_call(srn__in *in, const srn__node *n, srn__val *ret) {
    srn__val fn;
    srn__args args;
    if (!srn__eval(in, n->a, &fn) || !srn__eval_args(in, n, &args)) return false;
    in->line = n->line;
    return srn__call(in, fn, &args, ret);
}

static bool eval_filter(srn__in *in, const srn__node *n, srn__val *ret) {
    srn__val v;
    srn__args args;
    if (!srn__eval(in, n->a, &v) || !srn__eval_args(in, n, &args)) return false;
    in->line = n->line;
    return srn__call_builtin(in, n->builtin, v, &args, ret);
}

static bool eval_test(srn__in *in, const srn__node *n, srn__val *ret) {
    srn__val v;
    srn__args args;
    if (!srn__eval(in, n->a, &v) || !srn__eval_args(in, n, &args)) return false;
    in->line = n->line;
    if (!srn__call_builtin(in, n->builtin, v, &args, ret)) return false;
    *ret = srn__bool(srn__truth(*ret) != n->negated);
    return true;
}

static bool eval_binary(srn__in *in, const srn__node *n, srn__val *ret) {
    srn__val a, b;
    if (!srn__eval(in, n->a, &a)) return false;
    if (n->kind == E_AND || n->kind == E_OR) {
        if (srn__truth(a) == (n->kind == E_OR)) return *ret = a, true;
        return srn__eval(in, n->b, ret);
    }
    if (!srn__eval(in, n->b, &b)) return false;
    in->line = n->line;
    return srn__binary(in, (srn__op)n->op, a, b, ret);
}

static bool eval_unary(srn__in *in, const srn__node *n, srn__val *ret) {
    srn__val a;
    if (!srn__eval(in, n->a, &a)) return false;
    in->line = n->line;
    if (n->kind == E_ATTR) return srn__getattr(in, a, srn_str_of(n->name), ret);
    if (n->kind != E_NOT) return srn__negate(in, a, n->kind == E_POS, ret);
    *ret = srn__bool(!srn__truth(a));
    return true;
}

static bool eval_node(srn__in *in, const srn__node *n, srn__val *ret) {
    switch (n->kind) {
    case E_CONST:
        *ret = n->value;
        return true;
    case E_NAME:
        return eval_name(in, n, ret);
    case E_LIST:
    case E_TUPLE:
        return eval_seq(in, n, ret);
    case E_DICT:
        return eval_dict(in, n, ret);
    case E_NEG:
    case E_POS:
    case E_NOT:
    case E_ATTR:
        return eval_unary(in, n, ret);
    case E_AND:
    case E_OR:
    case E_BINARY:
        return eval_binary(in, n, ret);
    case E_COMPARE:
        return eval_compare(in, n, ret);
    case E_CONCAT:
        return eval_concat(in, n, ret);
    case E_COND:
        return eval_cond(in, n, ret);
    case E_ITEM:
        return eval_item(in, n, ret);
    case E_CALL:
        return eval_call(in, n, ret);
    case E_FILTER:
        return eval_filter(in, n, ret);
    case E_TEST:
        return eval_test(in, n, ret);
    default:
        return srn__err(in, SRN_EFORMAT, "this cannot be used as a value");
    }
}

bool srn__eval(srn__in *in, const srn__node *n, srn__val *ret) {
    if (!srn__enter(in)) return false;
    in->line = n->line;
    srn__val v;
    bool ok = srn__work(in, 1) && eval_node(in, n, &v);
    srn__leave(in);
    if (ok) *ret = v;
    return ok;
}
