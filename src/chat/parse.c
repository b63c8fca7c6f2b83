/* The statement parser and the table of names. Called by srn_template_new; the tree lives in the template's
 * arena. What Jinja knows and chat templates must not do (include, import, extends, block) is refused by
 * name.
 */
#include "chat/chat_internal.h"

static srn__node *parse_body(srn__parser *p, const char *const *ends);

/* ---- names ---- */

static size_t name_slot(const srn__names *names, srn_str s) {
    size_t i = (size_t)srn_hash(names->seed, s) & (names->cap - 1);
    while (names->slots[i] && !srn_str_eqz(s, names->slots[i])) i = (i + 1) & (names->cap - 1);
    return i;
}

const char *srn__intern(srn_template *t, srn_str s, bool add) {
    srn__names *names = &t->names;
    if (add && (names->n + 1) * 2 > names->cap) {
        srn__names bigger = {.n = names->n,
                             .cap = names->cap ? names->cap * 2 : 64,
                             .seed = names->cap ? names->seed : srn_hash_seed()};
        bigger.slots = srn_arena_alloc(&t->arena, bigger.cap * sizeof *bigger.slots);
        if (!bigger.slots) return NULL;
        for (size_t i = 0; i < names->cap; i++)
            if (names->slots[i])
                bigger.slots[name_slot(&bigger, srn_str_of(names->slots[i]))] = names->slots[i];
        *names = bigger;
    }
    if (!names->cap) return NULL;
    size_t i = name_slot(names, s);
    if (!names->slots[i] && add) {
        names->slots[i] = srn_arena_strndup(&t->arena, s.ptr, s.len);
        if (names->slots[i]) names->n++;
    }
    return names->slots[i];
}

/* ---- statements ---- */

static bool block_end(srn__parser *p) {
    if (p->cur->type != T_BLOCK_END) return srn__parse_unexpected(p, "'%}'") != NULL;
    p->cur++;
    return true;
}

static bool skip_word(srn__parser *p, const char *word) {
    if (!srn__is_name(p->cur, word)) return false;
    p->cur++;
    return true;
}

/* "%}" (after an optional colon), the body, and the "{%" of one of ends; the end word is the current token.
 */
static srn__node *parse_until(srn__parser *p, const char *const *ends) {
    if (srn__is_op(p->cur, OP_COLON)) p->cur++;
    return block_end(p) ? parse_body(p, ends) : NULL;
}

/* The same, and skips the end word. */
static srn__node *parse_through(srn__parser *p, const char *end) {
    const char *const ends[] = {end, NULL};
    srn__node *body = parse_until(p, ends);
    if (body) p->cur++;
    return body;
}

static bool check_target(srn__parser *p, const srn__node *n) {
    if (n->kind == E_NAME || n->kind == E_NSREF) {
        static const char *const fixed[] = {"true", "false", "none", "True", "False", "None"};
        for (size_t i = 0; n->kind == E_NAME && i < SRN_LEN(fixed); i++)
            if (strcmp(n->name, fixed[i]) == 0)
                return srn__parse_unexpected(p, "a name to assign to") != NULL;
        return true;
    }
    if (n->kind != E_TUPLE && n->kind != E_LIST)
        return srn__parse_fail(p, SRN_EFORMAT, n->line, "only names can be assigned to") != NULL;
    for (size_t i = 0; i < n->n; i++)
        if (!check_target(p, n->list[i])) return false;
    return true;
}

static srn__node *parse_target(srn__parser *p, unsigned how) {
    srn__node *n = srn__parse_tuple(p, PT_SIMPLE | how);
    return n && check_target(p, n) ? n : NULL;
}

static srn__node *parse_name_target(srn__parser *p) {
    if (p->cur->type != T_NAME) return srn__parse_unexpected(p, "a name");
    srn__node *n = srn__node_new(p, E_NAME, p->cur->line);
    if (!n) return NULL;
    n->name = srn__intern(p->t, p->cur->text, true);
    if (!n->name) return srn__parse_fail(p, SRN_ELIMIT, n->line, "the template needs too much memory");
    p->cur++;
    return check_target(p, n) ? n : NULL;
}

static srn__node *parse_for(srn__parser *p, srn__node *n) {
    static const char *const ends[] = {"endfor", "else", NULL};
    n->kind = S_FOR;
    n->a = parse_target(p, PT_END_IN);
    if (!n->a) return NULL;
    if (!skip_word(p, "in")) return srn__parse_unexpected(p, "'in'");
    if (!(n->b = srn__parse_tuple(p, PT_END_RECURSIVE))) return NULL;
    if (skip_word(p, "if") && !(n->c = srn__parse_expr(p, true))) return NULL;
    if (srn__is_name(p->cur, "recursive"))
        return srn__parse_fail(p, SRN_EUNSUP, n->line,
                               "recursive loops are not supported; a macro can do the same");
    p->loops++;
    n->body = parse_until(p, ends);
    p->loops--;
    if (!n->body) return NULL;
    bool has_else = srn__is_name(p->cur++, "else");
    if (has_else && !(n->other = parse_through(p, "endfor"))) return NULL;
    return n;
}

static srn__node *parse_if(srn__parser *p, srn__node *n) {
    static const char *const ends[] = {"elif", "else", "endif", NULL};
    srn__node *first = n;
    for (;;) {
        n->kind = S_IF;
        if (!(n->a = srn__parse_tuple(p, 0)) || !(n->body = parse_until(p, ends))) return NULL;
        const srn__tok *t = p->cur++;
        if (srn__is_name(t, "endif")) return first;
        if (srn__is_name(t, "else")) return (n->other = parse_through(p, "endif")) ? first : NULL;
        if (!(n->other = srn__node_new(p, S_IF, t->line))) return NULL;
        n = n->other;
    }
}

static srn__node *parse_set(srn__parser *p, srn__node *n) {
    if (!(n->a = parse_target(p, PT_NAMESPACE))) return NULL;
    if (srn__is_op(p->cur, OP_ASSIGN)) {
        p->cur++;
        n->kind = S_SET;
        return (n->b = srn__parse_tuple(p, PT_COND)) ? n : NULL;
    }
    n->kind = S_SET_BLOCK;
    if (srn__is_op(p->cur, OP_PIPE) && !(n->b = srn__parse_filters(p, NULL, false))) return NULL;
    return (n->body = parse_through(p, "endset")) ? n : NULL;
}

static bool parse_signature(srn__parser *p, srn__node *n) {
    size_t cap = 0;
    bool defaults = false;
    if (!srn__expect_op(p, OP_LPAREN, "(")) return false;
    while (!srn__is_op(p->cur, OP_RPAREN)) {
        if (n->n_args && !srn__expect_op(p, OP_COMMA, ",")) return false;
        srn__node *name = parse_name_target(p);
        if (!name) return false;
        srn__arg arg = {.name = name->name};
        if (srn__is_op(p->cur, OP_ASSIGN)) {
            p->cur++;
            defaults = true;
            if (!(arg.value = srn__parse_expr(p, true))) return false;
        } else if (defaults) {
            return srn__parse_fail(p, SRN_EFORMAT, name->line,
                                   "parameter '%s' without a default follows one that has a default",
                                   name->name) != NULL;
        }
        if (!srn__arg_push(p, n, arg, &cap)) return false;
    }
    return srn__expect_op(p, OP_RPAREN, ")");
}

/* The body of a macro or call block: loops outside of it cannot be left from inside. */
static bool parse_macro_body(srn__parser *p, srn__node *n, const char *end, uint8_t wants_before) {
    int loops = p->loops;
    p->loops = 0;
    n->body = parse_through(p, end);
    p->loops = loops;
    n->wants = p->wants;
    p->wants |= wants_before;
    return n->body != NULL;
}

static srn__node *parse_macro(srn__parser *p, srn__node *n) {
    uint8_t wants = p->wants;
    n->kind = S_MACRO;
    srn__node *name = parse_name_target(p);
    if (!name) return NULL;
    n->name = name->name;
    p->wants = 0;
    if (!parse_signature(p, n) || !parse_macro_body(p, n, "endmacro", wants)) return NULL;
    p->wants = wants;
    return n;
}

static srn__node *parse_call_block(srn__parser *p, srn__node *n) {
    uint8_t wants = p->wants;
    n->kind = S_CALL;
    p->wants = 0;
    if (srn__is_op(p->cur, OP_LPAREN) && !parse_signature(p, n)) return NULL;
    n->a = srn__parse_expr(p, true);
    if (!n->a) return NULL;
    if (n->a->kind != E_CALL)
        return srn__parse_fail(p, SRN_EFORMAT, n->line, "'call' needs a call, as in {%% call f() %%}");
    n->name = "caller";
    return parse_macro_body(p, n, "endcall", wants) ? n : NULL;
}

static srn__node *parse_filter_block(srn__parser *p, srn__node *n) {
    n->kind = S_FILTER;
    if (!(n->b = srn__parse_filters(p, NULL, true))) return NULL;
    return (n->body = parse_through(p, "endfilter")) ? n : NULL;
}

static srn__node *parse_with(srn__parser *p, srn__node *n) {
    size_t cap = 0;
    n->kind = S_WITH;
    while (p->cur->type != T_BLOCK_END) {
        if (n->n && !srn__expect_op(p, OP_COMMA, ",")) return NULL;
        if (!srn__node_push(p, n, parse_target(p, 0), &cap)) return NULL;
        if (!srn__expect_op(p, OP_ASSIGN, "=")) return NULL;
        if (!srn__node_push(p, n, srn__parse_expr(p, true), &cap)) return NULL;
    }
    return (n->body = parse_through(p, "endwith")) ? n : NULL;
}

static srn__node *parse_print(srn__parser *p, srn__node *n) {
    size_t cap = 0;
    n->kind = S_BODY;
    while (p->cur->type != T_BLOCK_END) {
        if (n->n && !srn__expect_op(p, OP_COMMA, ",")) return NULL;
        srn__node *print = srn__node_new(p, S_PRINT, p->cur->line);
        if (!print || !(print->a = srn__parse_expr(p, true)) || !srn__node_push(p, n, print, &cap))
            return NULL;
    }
    return n;
}

static srn__node *parse_generation(srn__parser *p, srn__node *n) {
    int loops = p->loops;
    n->kind = S_SCOPE;
    p->loops = 0;
    n->body = parse_through(p, "endgeneration");
    p->loops = loops;
    return n->body ? n : NULL;
}

static srn__node *parse_jump(srn__parser *p, srn__node *n) {
    bool is_break = srn__is_name(p->cur - 1, "break");
    n->kind = is_break ? S_BREAK : S_CONTINUE;
    if (p->loops) return n;
    return srn__parse_fail(p, SRN_EFORMAT, n->line, "'%s' outside of a loop",
                           is_break ? "break" : "continue");
}

static srn__node *parse_statement(srn__parser *p) {
    static const struct {
        const char *word;
        srn__node *(*parse)(srn__parser *, srn__node *);
    } table[] = {{"for", parse_for},
                 {"if", parse_if},
                 {"set", parse_set},
                 {"macro", parse_macro},
                 {"call", parse_call_block},
                 {"filter", parse_filter_block},
                 {"with", parse_with},
                 {"print", parse_print},
                 {"break", parse_jump},
                 {"continue", parse_jump},
                 {"generation", parse_generation}};
    static const char *const foreign[] = {"include", "import",     "from", "extends",
                                          "block",   "autoescape", "do",   "trans"};
    const srn__tok *t = p->cur;
    if (t->type != T_NAME) return srn__parse_unexpected(p, "the name of a statement");
    for (size_t i = 0; i < SRN_LEN(table); i++) {
        if (!srn_str_eqz(t->text, table[i].word)) continue;
        srn__node *n = srn__node_new(p, S_BODY, t->line);
        if (!n) return NULL;
        p->cur++;
        return table[i].parse(p, n);
    }
    for (size_t i = 0; i < SRN_LEN(foreign); i++)
        if (srn_str_eqz(t->text, foreign[i]))
            return srn__parse_fail(p, SRN_EUNSUP, t->line, "the statement '%s' is not part of chat templates",
                                   foreign[i]);
    return srn__parse_fail(p, SRN_EFORMAT, t->line, "there is no statement '%.*s' here",
                           (int)SRN_MIN(t->text.len, 60), t->text.ptr);
}

static srn__node *parse_piece(srn__parser *p) {
    const srn__tok *t = p->cur++;
    srn__node *n = srn__node_new(p, t->type == T_DATA ? S_TEXT : S_PRINT, t->line);
    if (!n) return NULL;
    if (t->type == T_DATA) {
        srn__text *text = srn_arena_alloc(&p->t->arena, sizeof *text);
        if (!text) return srn__parse_fail(p, SRN_ELIMIT, t->line, "the template needs too much memory");
        *text = (srn__text){.ptr = t->text.ptr, .len = t->text.len, .trusted = true};
        n->value = (srn__val){.type = V_STR, .u.s = text};
        return n;
    }
    if (!(n->a = srn__parse_tuple(p, PT_COND))) return NULL;
    if (p->cur->type != T_VAR_END) return srn__parse_unexpected(p, "'}}'");
    p->cur++;
    return n;
}

static void *missing_end(srn__parser *p, const char *const *ends, int line) {
    size_t last = 0;
    while (ends[last + 1]) last++;
    const char *end = strcmp(ends[last], "else") == 0 ? ends[0] : ends[last];
    return srn__parse_fail(p, SRN_EFORMAT, line, "the block that starts here is not closed by '%s'", end);
}

/* Statements and text up to "{%" and one of ends (NULL: the end of the template). */
static srn__node *parse_body(srn__parser *p, const char *const *ends) {
    int start = p->cur > p->t->toks ? p->cur[-1].line : 1;
    srn__node *n = srn__node_new(p, S_BODY, p->cur->line);
    size_t cap = 0;
    if (++p->nest > SRN__NEST_MAX) {
        p->nest--;
        return srn__parse_fail(p, SRN_ELIMIT, start, "the template is nested more than %d deep",
                               SRN__NEST_MAX);
    }
    while (n) {
        if (p->cur->type == T_EOF) {
            if (ends) n = missing_end(p, ends, start);
            break;
        }
        srn__node *child;
        if (p->cur->type == T_BLOCK_BEGIN) {
            p->cur++;
            bool end = false;
            for (size_t i = 0; ends && ends[i] && !end; i++) end = srn__is_name(p->cur, ends[i]);
            if (end) break;
            child = parse_statement(p);
            if (child && !block_end(p)) child = NULL;
        } else {
            child = parse_piece(p);
        }
        if (!child || !srn__node_push(p, n, child, &cap)) n = NULL;
    }
    p->nest--;
    return n;
}

int srn__parse(srn_template *t, srn_err *err) {
    srn__parser p = {.t = t, .cur = t->toks, .err = err};
    t->root = parse_body(&p, NULL);
    return p.code;
}
