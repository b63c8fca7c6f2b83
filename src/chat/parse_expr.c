/* The expression parser: recursive descent in Jinja's order of precedence (or, and, not, comparisons, + and
 * -,
 * ~, * / // %, **, unary, postfix, filters and tests). Called by parse.c; nodes live in the template's arena.
 */
#include "chat/chat_internal.h"

static srn__node *parse_or(srn__parser *p);
static srn__node *parse_unary(srn__parser *p, bool with_filter);

void *srn__parse_fail(srn__parser *p, int code, int line, const char *fmt, ...) {
    if (p->code) return NULL;
    va_list ap;
    va_start(ap, fmt);
    p->code = srn_vfail(p->err, code, fmt, ap);
    va_end(ap);
    srn_fail_prefix(p->err, code, "%s, line %d", p->t->name, line);
    return NULL;
}

static void describe(const srn__tok *t, char *out, size_t cap) {
    static const char *const ops[] = {
        [OP_ADD] = "+",    [OP_SUB] = "-",    [OP_MUL] = "*",      [OP_DIV] = "/",       [OP_FLOORDIV] = "//",
        [OP_MOD] = "%",    [OP_POW] = "**",   [OP_TILDE] = "~",    [OP_EQ] = "==",       [OP_NE] = "!=",
        [OP_LT] = "<",     [OP_LE] = "<=",    [OP_GT] = ">",       [OP_GE] = ">=",       [OP_ASSIGN] = "=",
        [OP_DOT] = ".",    [OP_COMMA] = ",",  [OP_COLON] = ":",    [OP_SEMICOLON] = ";", [OP_PIPE] = "|",
        [OP_LPAREN] = "(", [OP_RPAREN] = ")", [OP_LBRACKET] = "[", [OP_RBRACKET] = "]",  [OP_LBRACE] = "{",
        [OP_RBRACE] = "}"};
    static const char *const types[] = {[T_EOF] = "the end of the template",
                                        [T_DATA] = "text",
                                        [T_VAR_BEGIN] = "'{{'",
                                        [T_VAR_END] = "'}}'",
                                        [T_BLOCK_BEGIN] = "'{%'",
                                        [T_BLOCK_END] = "'%}'",
                                        [T_STRING] = "a string",
                                        [T_INT] = "a number",
                                        [T_FLOAT] = "a number"};
    if (t->type == T_NAME)
        snprintf(out, cap, "'%.*s'", (int)SRN_MIN(t->text.len, 60), t->text.ptr);
    else if (t->type == T_OP)
        snprintf(out, cap, "'%s'", ops[t->op]);
    else
        snprintf(out, cap, "%s", types[t->type]);
}

void *srn__parse_unexpected(srn__parser *p, const char *wanted) {
    char got[96];
    describe(p->cur, got, sizeof got);
    return srn__parse_fail(p, SRN_EFORMAT, p->cur->line, "expected %s, got %s", wanted, got);
}

bool srn__is_name(const srn__tok *t, const char *name) {
    return t->type == T_NAME && srn_str_eqz(t->text, name);
}

bool srn__is_op(const srn__tok *t, srn__op op) {
    return t->type == T_OP && t->op == op;
}

static bool skip_name(srn__parser *p, const char *name) {
    if (!srn__is_name(p->cur, name)) return false;
    p->cur++;
    return true;
}

static bool skip_op(srn__parser *p, srn__op op) {
    if (!srn__is_op(p->cur, op)) return false;
    p->cur++;
    return true;
}

bool srn__expect_op(srn__parser *p, srn__op op, const char *spelled) {
    if (skip_op(p, op)) return true;
    char wanted[16];
    snprintf(wanted, sizeof wanted, "'%s'", spelled);
    return srn__parse_unexpected(p, wanted) != NULL;
}

srn__node *srn__node_new(srn__parser *p, srn__kind kind, int line) {
    srn__node *n = srn_arena_alloc(&p->t->arena, sizeof *n);
    if (!n) return srn__parse_fail(p, SRN_ELIMIT, line, "the template needs too much memory");
    n->kind = (uint8_t)kind;
    n->line = line;
    return n;
}

bool srn__node_push(srn__parser *p, srn__node *n, srn__node *child, size_t *cap) {
    if (!child) return false;
    if (n->n == *cap) {
        size_t more = *cap ? *cap * 2 : 4;
        srn__node **list = srn_arena_alloc(&p->t->arena, more * sizeof *list);
        if (!list)
            return srn__parse_fail(p, SRN_ELIMIT, n->line, "the template needs too much memory") != NULL;
        if (n->n) memcpy(list, n->list, n->n * sizeof *list);
        n->list = list;
        *cap = more;
    }
    n->list[n->n++] = child;
    return true;
}

bool srn__arg_push(srn__parser *p, srn__node *n, srn__arg arg, size_t *cap) {
    if (n->n_args == *cap) {
        size_t more = *cap ? *cap * 2 : 4;
        srn__arg *args = srn_arena_alloc(&p->t->arena, more * sizeof *args);
        if (!args)
            return srn__parse_fail(p, SRN_ELIMIT, n->line, "the template needs too much memory") != NULL;
        if (n->n_args) memcpy(args, n->args, n->n_args * sizeof *args);
        n->args = args;
        *cap = more;
    }
    n->args[n->n_args++] = arg;
    return true;
}

static srn__node *node2(srn__parser *p, srn__kind kind, int line, srn__node *a, srn__node *b) {
    srn__node *n = a && b ? srn__node_new(p, kind, line) : NULL;
    if (!n) return NULL;
    n->a = a;
    n->b = b;
    return n;
}

static srn__node *node1(srn__parser *p, srn__kind kind, int line, srn__node *a) {
    return node2(p, kind, line, a, a);
}

static srn__node *constant(srn__parser *p, int line, srn__val v) {
    srn__node *n = srn__node_new(p, E_CONST, line);
    if (n) n->value = v;
    return n;
}

static srn__node *string_const(srn__parser *p, int line, srn_str s) {
    srn__text *text = srn_arena_alloc(&p->t->arena, sizeof *text);
    if (!text) return srn__parse_fail(p, SRN_ELIMIT, line, "the template needs too much memory");
    *text = (srn__text){.ptr = s.len ? s.ptr : "", .len = s.len, .trusted = true};
    return constant(p, line, (srn__val){.type = V_STR, .u.s = text});
}

static const char *intern(srn__parser *p, const srn__tok *t) {
    const char *name = srn__intern(p->t, t->text, true);
    if (!name) srn__parse_fail(p, SRN_ELIMIT, t->line, "the template needs too much memory");
    return name;
}

/* Adjacent string literals are one string. */
static srn__node *parse_string(srn__parser *p) {
    int line = p->cur->line;
    size_t n = 0, len = 0;
    for (; p->cur[n].type == T_STRING; n++) len += p->cur[n].text.len;
    srn_str s = p->cur[0].text;
    if (n > 1) {
        char *joined = srn_arena_alloc(&p->t->arena, len + 1);
        if (!joined) return srn__parse_fail(p, SRN_ELIMIT, line, "the template needs too much memory");
        size_t at = 0;
        for (size_t i = 0; i < n; at += p->cur[i].text.len, i++)
            if (p->cur[i].text.len) memcpy(joined + at, p->cur[i].text.ptr, p->cur[i].text.len);
        s = (srn_str){joined, len};
    }
    p->cur += n;
    return string_const(p, line, s);
}

static srn__node *parse_name(srn__parser *p, bool with_namespace) {
    static const struct {
        const char *name;
        srn__val v;
    } words[] = {{"true", {.type = V_BOOL, .u.b = true}},
                 {"True", {.type = V_BOOL, .u.b = true}},
                 {"false", {.type = V_BOOL, .u.b = false}},
                 {"False", {.type = V_BOOL, .u.b = false}},
                 {"none", {.type = V_NONE}},
                 {"None", {.type = V_NONE}}};
    const srn__tok *t = p->cur++;
    for (size_t i = 0; i < SRN_LEN(words); i++)
        if (srn_str_eqz(t->text, words[i].name)) return constant(p, t->line, words[i].v);
    srn__node *n = srn__node_new(p, E_NAME, t->line);
    if (!n || !(n->name = intern(p, t))) return NULL;
    if (srn_str_eqz(t->text, "caller")) p->wants |= WANTS_CALLER;
    if (srn_str_eqz(t->text, "varargs")) p->wants |= WANTS_VARARGS;
    if (srn_str_eqz(t->text, "kwargs")) p->wants |= WANTS_KWARGS;
    if (with_namespace && skip_op(p, OP_DOT)) {
        if (p->cur->type != T_NAME) return srn__parse_unexpected(p, "a name");
        srn__node *attr = string_const(p, t->line, p->cur->text);
        if (!attr) return NULL;
        p->cur++;
        n->kind = E_NSREF;
        n->value = attr->value;
    }
    return n;
}

static srn__node *parse_list(srn__parser *p) {
    srn__node *n = srn__node_new(p, E_LIST, p->cur->line);
    size_t cap = 0;
    p->cur++;
    while (n && !srn__is_op(p->cur, OP_RBRACKET)) {
        if (n->n && !srn__expect_op(p, OP_COMMA, ",")) return NULL;
        if (srn__is_op(p->cur, OP_RBRACKET)) break;
        if (!srn__node_push(p, n, srn__parse_expr(p, true), &cap)) return NULL;
    }
    return srn__expect_op(p, OP_RBRACKET, "]") ? n : NULL;
}

static srn__node *parse_dict(srn__parser *p) {
    srn__node *n = srn__node_new(p, E_DICT, p->cur->line);
    size_t cap = 0;
    p->cur++;
    while (n && !srn__is_op(p->cur, OP_RBRACE)) {
        if (n->n && !srn__expect_op(p, OP_COMMA, ",")) return NULL;
        if (srn__is_op(p->cur, OP_RBRACE)) break;
        if (!srn__node_push(p, n, srn__parse_expr(p, true), &cap) || !srn__expect_op(p, OP_COLON, ":") ||
            !srn__node_push(p, n, srn__parse_expr(p, true), &cap))
            return NULL;
    }
    return srn__expect_op(p, OP_RBRACE, "}") ? n : NULL;
}

static srn__node *parse_primary(srn__parser *p, bool with_namespace) {
    const srn__tok *t = p->cur;
    switch (t->type) {
    case T_NAME:
        return parse_name(p, with_namespace);
    case T_STRING:
        return parse_string(p);
    case T_INT:
        p->cur++;
        return constant(p, t->line, srn__int(t->i));
    case T_FLOAT:
        p->cur++;
        return constant(p, t->line, srn__float(t->f));
    default:
        break;
    }
    if (skip_op(p, OP_LPAREN)) {
        srn__node *n = srn__parse_tuple(p, PT_COND | PT_PARENS);
        return n && srn__expect_op(p, OP_RPAREN, ")") ? n : NULL;
    }
    if (srn__is_op(t, OP_LBRACKET)) return parse_list(p);
    if (srn__is_op(t, OP_LBRACE)) return parse_dict(p);
    return srn__parse_unexpected(p, "an expression");
}

static bool tuple_end(const srn__parser *p, unsigned how) {
    const srn__tok *t = p->cur;
    if (t->type == T_VAR_END || t->type == T_BLOCK_END || srn__is_op(t, OP_RPAREN)) return true;
    return ((how & PT_END_IN) && srn__is_name(t, "in")) ||
           ((how & PT_END_RECURSIVE) && srn__is_name(t, "recursive"));
}

srn__node *srn__parse_tuple(srn__parser *p, unsigned how) {
    srn__node *n = srn__node_new(p, E_TUPLE, p->cur->line);
    size_t cap = 0;
    bool is_tuple = false;
    while (n) {
        if (n->n && !srn__expect_op(p, OP_COMMA, ",")) return NULL;
        if (tuple_end(p, how)) break;
        srn__node *item =
            how & PT_SIMPLE ? parse_primary(p, how & PT_NAMESPACE) : srn__parse_expr(p, (how & PT_COND) != 0);
        if (!srn__node_push(p, n, item, &cap)) return NULL;
        if (!srn__is_op(p->cur, OP_COMMA)) break;
        is_tuple = true;
    }
    if (!n || is_tuple) return n;
    if (n->n) return n->list[0];
    return how & PT_PARENS ? n : srn__parse_unexpected(p, "an expression");
}

static bool parse_call_args(srn__parser *p, srn__node *n) {
    int line = p->cur->line;
    size_t cap = 0;
    int seen = 0; /* 1: a keyword, 2: *args, 4: **kwargs */
    bool comma = false;
    if (!srn__expect_op(p, OP_LPAREN, "(")) return false;
    while (!srn__is_op(p->cur, OP_RPAREN)) {
        if (comma && !srn__expect_op(p, OP_COMMA, ",")) return false;
        if (comma && srn__is_op(p->cur, OP_RPAREN)) break;
        srn__arg arg = {0};
        bool bad;
        if (skip_op(p, OP_MUL)) {
            bad = seen & 6;
            arg.star = 1;
            seen |= 2;
        } else if (skip_op(p, OP_POW)) {
            bad = seen & 4;
            arg.star = 2;
            seen |= 4;
        } else if (p->cur->type == T_NAME && srn__is_op(p->cur + 1, OP_ASSIGN)) {
            bad = seen & 4;
            if (!(arg.name = intern(p, p->cur))) return false;
            p->cur += 2;
            seen |= 1;
        } else {
            bad = seen != 0;
        }
        if (bad)
            return srn__parse_fail(p, SRN_EFORMAT, line, "arguments of a call are in the wrong order") !=
                   NULL;
        arg.value = srn__parse_expr(p, true);
        if (!arg.value || !srn__arg_push(p, n, arg, &cap)) return false;
        comma = true;
    }
    return srn__expect_op(p, OP_RPAREN, ")");
}

static srn__node *parse_subscribed(srn__parser *p) {
    int line = p->cur->line;
    srn__node *start = NULL;
    if (!srn__is_op(p->cur, OP_COLON)) {
        start = srn__parse_expr(p, true);
        if (!start || !srn__is_op(p->cur, OP_COLON)) return start;
    }
    p->cur++;
    srn__node *n = srn__node_new(p, E_SLICE, line);
    if (!n) return NULL;
    n->a = start;
    bool more =
        !srn__is_op(p->cur, OP_COLON) && !srn__is_op(p->cur, OP_RBRACKET) && !srn__is_op(p->cur, OP_COMMA);
    if (more && !(n->b = srn__parse_expr(p, true))) return NULL;
    if (skip_op(p, OP_COLON) && !srn__is_op(p->cur, OP_RBRACKET) && !srn__is_op(p->cur, OP_COMMA) &&
        !(n->c = srn__parse_expr(p, true)))
        return NULL;
    return n;
}

static srn__node *parse_subscript(srn__parser *p, srn__node *obj) {
    const srn__tok *t = p->cur++;
    if (t->op == OP_DOT) {
        const srn__tok *attr = p->cur;
        if (attr->type == T_INT) {
            p->cur++;
            return node2(p, E_ITEM, t->line, obj, constant(p, t->line, srn__int(attr->i)));
        }
        if (attr->type != T_NAME) return srn__parse_unexpected(p, "a name or a number");
        srn__node *n = node1(p, E_ATTR, t->line, obj);
        if (!n || !(n->name = intern(p, attr))) return NULL;
        p->cur++;
        return n;
    }
    srn__node *tuple = srn__node_new(p, E_TUPLE, t->line);
    size_t cap = 0;
    while (tuple && !srn__is_op(p->cur, OP_RBRACKET)) {
        if (tuple->n && !srn__expect_op(p, OP_COMMA, ",")) return NULL;
        if (!srn__node_push(p, tuple, parse_subscribed(p), &cap)) return NULL;
    }
    if (!srn__expect_op(p, OP_RBRACKET, "]") || !tuple) return NULL;
    for (size_t i = 0; tuple->n > 1 && i < tuple->n; i++)
        if (tuple->list[i]->kind == E_SLICE)
            return srn__parse_fail(p, SRN_EFORMAT, t->line, "a slice cannot be one of several subscripts");
    return node2(p, E_ITEM, t->line, obj, tuple->n == 1 ? tuple->list[0] : tuple);
}

static srn__node *parse_call(srn__parser *p, srn__node *callee) {
    srn__node *n = node1(p, E_CALL, p->cur->line, callee);
    return n && parse_call_args(p, n) ? n : NULL;
}

static srn__node *parse_postfix(srn__parser *p, srn__node *n) {
    while (n) {
        if (srn__is_op(p->cur, OP_DOT) || srn__is_op(p->cur, OP_LBRACKET))
            n = parse_subscript(p, n);
        else if (srn__is_op(p->cur, OP_LPAREN))
            n = parse_call(p, n);
        else
            break;
    }
    return n;
}

srn__node *srn__parse_filters(srn__parser *p, srn__node *node, bool start_inline) {
    while (start_inline || srn__is_op(p->cur, OP_PIPE)) {
        if (!start_inline) p->cur++;
        start_inline = false;
        if (p->cur->type != T_NAME) return srn__parse_unexpected(p, "the name of a filter");
        srn__node *n = srn__node_new(p, E_FILTER, p->cur->line);
        if (!n || !(n->name = intern(p, p->cur))) return NULL;
        n->builtin = srn__filter(p->cur->text);
        if (!n->builtin)
            return srn__parse_fail(p, SRN_EFORMAT, p->cur->line, "there is no filter '%s'", n->name);
        p->cur++;
        n->a = node;
        if (srn__is_op(p->cur, OP_LPAREN) && !parse_call_args(p, n)) return NULL;
        node = n;
    }
    return node;
}

static srn__node *parse_test(srn__parser *p, srn__node *subject) {
    srn__node *n = node1(p, E_TEST, p->cur->line, subject);
    if (!n) return NULL;
    p->cur++;
    n->negated = skip_name(p, "not");
    if (p->cur->type != T_NAME) return srn__parse_unexpected(p, "the name of a test");
    if (!(n->name = intern(p, p->cur))) return NULL;
    n->builtin = srn__test(p->cur->text);
    if (!n->builtin) return srn__parse_fail(p, SRN_EFORMAT, p->cur->line, "there is no test '%s'", n->name);
    p->cur++;
    const srn__tok *t = p->cur;
    if (srn__is_op(t, OP_LPAREN)) return parse_call_args(p, n) ? n : NULL;
    bool arg = t->type == T_NAME || t->type == T_STRING || t->type == T_INT || t->type == T_FLOAT ||
               srn__is_op(t, OP_LBRACKET) || srn__is_op(t, OP_LBRACE);
    if (!arg || srn__is_name(t, "else") || srn__is_name(t, "or") || srn__is_name(t, "and")) return n;
    if (srn__is_name(t, "is"))
        return srn__parse_fail(p, SRN_EFORMAT, t->line, "tests cannot be chained with 'is'");
    size_t cap = 0;
    srn__arg a = {.value = parse_postfix(p, parse_primary(p, false))};
    return a.value && srn__arg_push(p, n, a, &cap) ? n : NULL;
}

static srn__node *parse_filter_expr(srn__parser *p, srn__node *n) {
    while (n) {
        if (srn__is_op(p->cur, OP_PIPE))
            n = srn__parse_filters(p, n, false);
        else if (srn__is_name(p->cur, "is"))
            n = parse_test(p, n);
        else if (srn__is_op(p->cur, OP_LPAREN))
            n = parse_call(p, n);
        else
            break;
    }
    return n;
}

static srn__node *parse_unary(srn__parser *p, bool with_filter) {
    int line = p->cur->line;
    srn__node *n;
    if (++p->nest > SRN__NEST_MAX) {
        p->nest--;
        return srn__parse_fail(p, SRN_ELIMIT, line, "the template is nested more than %d deep",
                               SRN__NEST_MAX);
    }
    if (skip_op(p, OP_SUB))
        n = node1(p, E_NEG, line, parse_unary(p, false));
    else if (skip_op(p, OP_ADD))
        n = node1(p, E_POS, line, parse_unary(p, false));
    else
        n = parse_primary(p, false);
    n = parse_postfix(p, n);
    if (with_filter) n = parse_filter_expr(p, n);
    p->nest--;
    return n;
}

/* The left-associative levels above '~': each row's operators bind tighter than the row before. */
static srn__node *parse_binary(srn__parser *p, size_t level) {
    static const uint8_t ops[2][4] = {{OP_MUL, OP_DIV, OP_FLOORDIV, OP_MOD},
                                      {OP_POW, OP_POW, OP_POW, OP_POW}};
    int line = p->cur->line;
    if (level == SRN_LEN(ops)) return parse_unary(p, true);
    srn__node *left = parse_binary(p, level + 1);
    while (left && p->cur->type == T_OP && memchr(ops[level], p->cur->op, 4)) {
        uint8_t op = p->cur->op;
        p->cur++;
        left = node2(p, E_BINARY, line, left, parse_binary(p, level + 1));
        if (left) left->op = op;
    }
    return left;
}

static srn__node *parse_concat(srn__parser *p) {
    int line = p->cur->line;
    srn__node *first = parse_binary(p, 0);
    if (!first || !srn__is_op(p->cur, OP_TILDE)) return first;
    srn__node *n = srn__node_new(p, E_CONCAT, line);
    size_t cap = 0;
    if (!n || !srn__node_push(p, n, first, &cap)) return NULL;
    while (skip_op(p, OP_TILDE))
        if (!srn__node_push(p, n, parse_binary(p, 0), &cap)) return NULL;
    return n;
}

static srn__node *parse_math(srn__parser *p) {
    int line = p->cur->line;
    srn__node *left = parse_concat(p);
    while (left && (srn__is_op(p->cur, OP_ADD) || srn__is_op(p->cur, OP_SUB))) {
        uint8_t op = p->cur->op;
        p->cur++;
        left = node2(p, E_BINARY, line, left, parse_concat(p));
        if (left) left->op = op;
    }
    return left;
}

static srn__op compare_op(srn__parser *p) {
    const srn__tok *t = p->cur;
    if (t->type == T_OP && t->op >= OP_EQ && t->op <= OP_GE) {
        p->cur++;
        return (srn__op)t->op;
    }
    if (skip_name(p, "in")) return OP_IN;
    if (srn__is_name(t, "not") && srn__is_name(t + 1, "in")) {
        p->cur += 2;
        return OP_NOT_IN;
    }
    return OP_NONE;
}

static srn__node *parse_compare(srn__parser *p) {
    int line = p->cur->line;
    srn__node *left = parse_math(p), *n = NULL;
    size_t cap = 0, cap_ops = 0;
    for (srn__op op; left && (op = compare_op(p)) != OP_NONE;) {
        if (!n && !(n = node1(p, E_COMPARE, line, left))) return NULL;
        if (n->n == cap_ops) {
            size_t more = cap_ops ? cap_ops * 2 : 4;
            uint8_t *ops = srn_arena_alloc(&p->t->arena, more);
            if (!ops) return srn__parse_fail(p, SRN_ELIMIT, line, "the template needs too much memory");
            if (n->n) memcpy(ops, n->ops, n->n);
            n->ops = ops;
            cap_ops = more;
        }
        n->ops[n->n] = (uint8_t)op;
        if (!srn__node_push(p, n, parse_math(p), &cap)) return NULL;
    }
    return n ? n : left;
}

static srn__node *parse_not(srn__parser *p) {
    int line = p->cur->line;
    if (!skip_name(p, "not")) return parse_compare(p);
    if (++p->nest > SRN__NEST_MAX) {
        p->nest--;
        return srn__parse_fail(p, SRN_ELIMIT, line, "the template is nested more than %d deep",
                               SRN__NEST_MAX);
    }
    srn__node *n = node1(p, E_NOT, line, parse_not(p));
    p->nest--;
    return n;
}

static srn__node *parse_and(srn__parser *p) {
    int line = p->cur->line;
    srn__node *left = parse_not(p);
    while (left && skip_name(p, "and")) left = node2(p, E_AND, line, left, parse_not(p));
    return left;
}

static srn__node *parse_or(srn__parser *p) {
    int line = p->cur->line;
    srn__node *left = parse_and(p);
    while (left && skip_name(p, "or")) left = node2(p, E_OR, line, left, parse_and(p));
    return left;
}

srn__node *srn__parse_expr(srn__parser *p, bool with_cond) {
    int line = p->cur->line;
    if (!with_cond) return parse_or(p);
    if (++p->nest > SRN__NEST_MAX) {
        p->nest--;
        return srn__parse_fail(p, SRN_ELIMIT, line, "the template is nested more than %d deep",
                               SRN__NEST_MAX);
    }
    srn__node *then = parse_or(p);
    while (then && skip_name(p, "if")) {
        srn__node *n = node2(p, E_COND, line, parse_or(p), then);
        if (n && skip_name(p, "else") && !(n->c = srn__parse_expr(p, true))) n = NULL;
        then = n;
    }
    p->nest--;
    return then;
}
