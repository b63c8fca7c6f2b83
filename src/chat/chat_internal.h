/* chat, inside: the syntax tree that parse*.c builds, the values and the interpreter state that the other
 * files share. Everything of one template lives in its arena; everything of one rendering lives in that
 * rendering's arena, so nothing here is freed piece by piece.
 *
 * Convention: a function that can fail returns false after srn__err filled the interpreter's error, and
 * writes its ret_ argument only on success.
 */
#ifndef SRN_CHAT_INTERNAL_H
#define SRN_CHAT_INTERNAL_H

#include "chat/chat.h"

/* ---- limits ---- */
#define SRN__SOURCE_MAX   ((size_t)1 << 20) /* bytes of template source */
#define SRN__NEST_MAX     400               /* nesting of the parser: statements and parentheses */
#define SRN__DEPTH_MAX    1000              /* nesting of evaluation, comparison, printing, macro calls */
#define SRN__DATA_DEPTH   200               /* nesting of messages, tools and extra */
#define SRN__STEPS_MAX    ((uint64_t)50000000)
#define SRN__OUTPUT_MAX   ((size_t)64 << 20)
#define SRN__MEMORY_MAX   ((size_t)256 << 20)
#define SRN__RANGE_MAX    100000 /* items of range() */
#define SRN__ARGS_MAX     6      /* parameters of a built-in filter, test or method */
#define SRN__TEMPLATE_MEM ((size_t)128 << 20)

/* ---- text with trust ---- */

/* Bytes up to end (exclusive, from the text's start) have this trust; runs alternate. */
typedef struct srn__run {
    size_t end;
    bool trusted;
} srn__run;

/* Immutable bytes (UTF-8 wherever they come from JSON or a template). runs is NULL where all bytes share
 * `trusted`, else it covers [0, len). */
typedef struct srn__text {
    const char *ptr;
    size_t len;
    const srn__run *runs;
    uint32_t n_runs;
    bool trusted;
} srn__text;

/* A text under construction, in the rendering's arena. */
typedef struct srn__builder {
    char *ptr;
    size_t len, cap;
    srn__run *runs;
    size_t n_runs, cap_runs;
} srn__builder;

/* ---- values ---- */
typedef enum srn__type {
    V_UNDEF,
    V_NONE,
    V_BOOL,
    V_INT,
    V_FLOAT,
    V_STR,
    V_SEQ,
    V_DICT,
    V_NS,   /* namespace(): a dict that `set ns.x` may write */
    V_FUNC, /* macros, built-in functions, methods bound to their object */
    V_LOOP,
    V_CYCLER,
    V_JOINER,
    V_MISSING /* an optional argument that was not given; never seen by a template */
} srn__type;

typedef enum srn__seq_kind {
    SEQ_LIST,
    SEQ_TUPLE,
    SEQ_GROUP,
    SEQ_RANGE,
    SEQ_KEYS,
    SEQ_VALUES,
    SEQ_ITEMS,
    SEQ_GEN
} srn__seq_kind;

typedef struct srn__seq srn__seq;
typedef struct srn__dict srn__dict;
typedef struct srn__func srn__func;
typedef struct srn__loop srn__loop;
typedef struct srn__hole srn__hole;
typedef struct srn__in srn__in;
typedef struct srn__node srn__node;
typedef struct srn__scope srn__scope;

/* tainted: a number, bool or container that derives from messages, tools or extra; text printed from it is
 * untrusted. Strings carry their trust themselves. */
typedef struct srn__val {
    uint8_t type;
    bool tainted;
    union {
        bool b;
        int64_t i;
        double f;
        const srn__text *s;
        srn__seq *seq;
        srn__dict *dict; /* V_DICT, V_NS, V_CYCLER and V_JOINER state */
        const srn__func *func;
        srn__loop *loop;
        const srn__hole *undef;
    } u;
} srn__val;

struct srn__seq {
    srn__val *items;
    size_t n, cap;
    uint8_t kind;
    size_t taken;              /* SEQ_GEN: items already consumed, for it can be walked once */
    int64_t start, stop, step; /* SEQ_RANGE, for printing */
};

typedef struct srn__pair {
    srn__val k, v;
} srn__pair;
struct srn__dict {
    srn__pair *pairs; /* insertion order */
    size_t n, cap;
};

struct srn__hole {
    const char *hint; /* the whole sentence, or NULL */
    srn_str name;
    uint8_t obj_type; /* V_MISSING: a variable; else the type that lacks the attribute */
};

typedef struct srn__kw {
    srn_str name;
    srn__val v;
    const srn__text *text; /* the name where it came out of a dict (**d), with its trust; else NULL */
} srn__kw;
typedef struct srn__args {
    srn__val *pos;
    size_t n;
    srn__kw *kw;
    size_t n_kw;
} srn__args;

/* A built-in: `sig` lists parameter names separated by spaces, optional ones end in '?'; "*" hands the raw
 * arguments over. vals[0..] are bound in the order of sig, V_MISSING where absent. */
typedef bool srn__builtin_fn(srn__in *in, srn__val self, srn__val *vals, const srn__args *raw, srn__val *ret);
typedef struct srn__builtin {
    const char *name;
    srn__builtin_fn *fn;
    const char *sig;
} srn__builtin;

typedef enum srn__func_kind { FN_BUILTIN, FN_MACRO } srn__func_kind;
struct srn__func {
    uint8_t kind;
    const srn__builtin *builtin;
    srn__val self;         /* FN_BUILTIN: the object of a method */
    const srn__node *node; /* FN_MACRO */
    srn__scope *scope;     /* FN_MACRO: where it was defined */
};

/* ---- the tree ---- */
typedef enum srn__kind {
    /* expressions */
    E_CONST,
    E_NAME,
    E_LIST,
    E_TUPLE,
    E_DICT, /* list: key, value, key, value ... */
    E_NEG,
    E_POS,
    E_NOT,
    E_AND,
    E_OR,
    E_BINARY,  /* op: OP_ADD ... */
    E_COMPARE, /* a, then list of operands with ops */
    E_CONCAT,
    E_COND, /* a test, b then, c else or NULL */
    E_ATTR,
    E_ITEM,
    E_SLICE, /* a, b, c or NULL; only below E_ITEM */
    E_CALL,
    E_FILTER, /* a is NULL at the head of a filter block's chain */
    E_TEST,
    E_NSREF, /* assignment target ns.attr: name, attr in value */
    /* statements */
    S_BODY,
    S_TEXT,
    S_PRINT,
    S_FOR,       /* a target, b iterable, c filter or NULL, body, other */
    S_IF,        /* a condition, body, other (an S_IF or S_BODY or NULL) */
    S_SET,       /* a target, b value */
    S_SET_BLOCK, /* a target, b filter chain or NULL, body */
    S_MACRO,     /* name, list of parameter names, defaults in args */
    S_CALL,      /* a the call, body; parameters as S_MACRO */
    S_FILTER,    /* b the chain, body */
    S_WITH,      /* list: target, value ...; body */
    S_SCOPE,     /* body in a scope of its own (generation) */
    S_BREAK,
    S_CONTINUE
} srn__kind;

typedef enum srn__op {
    OP_NONE,
    OP_ADD,
    OP_SUB,
    OP_MUL,
    OP_DIV,
    OP_FLOORDIV,
    OP_MOD,
    OP_POW,
    OP_TILDE,
    OP_EQ,
    OP_NE,
    OP_LT,
    OP_LE,
    OP_GT,
    OP_GE,
    OP_IN,
    OP_NOT_IN,
    OP_ASSIGN,
    OP_DOT,
    OP_COMMA,
    OP_COLON,
    OP_SEMICOLON,
    OP_PIPE,
    OP_LPAREN,
    OP_RPAREN,
    OP_LBRACKET,
    OP_RBRACKET,
    OP_LBRACE,
    OP_RBRACE
} srn__op;

typedef struct srn__arg {
    const char *name; /* keyword (interned), or NULL */
    uint8_t star;     /* 1: *args, 2: **kwargs */
    srn__node *value; /* in a macro's parameters: the default or NULL */
} srn__arg;

struct srn__node {
    uint8_t kind, op;
    bool negated;  /* E_TEST */
    uint8_t wants; /* S_MACRO, S_CALL: WANTS_* special variables that the body names */
    int line;
    const char *name; /* interned */
    srn__val value;   /* E_CONST, S_TEXT */
    srn__node *a, *b, *c, *body, *other;
    srn__node **list;
    uint8_t *ops;
    size_t n;
    srn__arg *args;
    size_t n_args;
    const srn__builtin *builtin; /* E_FILTER, E_TEST: looked up once, or NULL if there is none of that name */
};
enum { WANTS_CALLER = 1, WANTS_VARARGS = 2, WANTS_KWARGS = 4 };

/* ---- tokens ---- */
typedef enum srn__tok_type {
    T_EOF,
    T_DATA,
    T_VAR_BEGIN,
    T_VAR_END,
    T_BLOCK_BEGIN,
    T_BLOCK_END,
    T_NAME,
    T_STRING,
    T_INT,
    T_FLOAT,
    T_OP
} srn__tok_type;
typedef struct srn__tok {
    uint8_t type, op;
    int line;
    srn_str text;
    int64_t i;
    double f;
} srn__tok;

typedef struct srn__names {
    const char **slots; /* interned, NUL-terminated, in the template's arena */
    size_t n, cap;
    uint64_t seed;
} srn__names;

struct srn_template {
    srn_arena arena;
    const char *name;
    srn__tok *toks;
    size_t n_toks;
    srn__names names;
    srn__node *root;
};

/* lex.c: fills t->toks. source must stay until parsing is done. */
int srn__lex(srn_template *t, srn_str source, srn_err *err);
/* parse.c: fills t->root. */
int srn__parse(srn_template *t, srn_err *err);
/* The interned copy of s; NULL when memory ran out. With add false NULL also where it never occurs. */
const char *srn__intern(srn_template *t, srn_str s, bool add);

typedef struct srn__parser {
    srn_template *t;
    srn__tok *cur;
    int nest;
    uint8_t wants; /* special variables named since the innermost macro began */
    int loops;     /* enclosing for loops, for break and continue */
    srn_err *err;
    int code;
} srn__parser;
/* parse_expr.c */
srn__node *srn__parse_expr(srn__parser *p, bool with_cond);
enum { PT_COND = 1, PT_SIMPLE = 2, PT_PARENS = 4, PT_NAMESPACE = 8, PT_END_IN = 16, PT_END_RECURSIVE = 32 };
srn__node *srn__parse_tuple(srn__parser *p, unsigned how);
srn__node *srn__parse_filters(srn__parser *p, srn__node *node, bool start_inline);
srn__node *srn__node_new(srn__parser *p, srn__kind kind, int line);
bool srn__node_push(srn__parser *p, srn__node *n, srn__node *child, size_t *cap);
bool srn__arg_push(srn__parser *p, srn__node *n, srn__arg arg, size_t *cap);
/* Always NULL, so that a parse function can return it. */
void *srn__parse_fail(srn__parser *p, int code, int line, const char *fmt, ...) SRN_PRINTF(4, 5);
void *srn__parse_unexpected(srn__parser *p, const char *wanted);
bool srn__is_name(const srn__tok *t, const char *name);
bool srn__is_op(const srn__tok *t, srn__op op);
bool srn__expect_op(srn__parser *p, srn__op op, const char *spelled);

/* ---- the interpreter ---- */
typedef struct srn__slot {
    const char *name; /* interned */
    srn__val v;
} srn__slot;
struct srn__scope {
    srn__scope *parent;
    srn__slot *slots;
    size_t n, cap;
    bool captured; /* a macro keeps it: a loop may not reuse it for its next round */
};

struct srn__loop {
    srn__in *in;
    const srn__node *node; /* S_FOR */
    srn__scope *outer;
    srn__seq *items;
    size_t pos;
    int64_t index0; /* -1 before the first item */
    bool has_after, has_current, has_changed, length_known;
    srn__val after, current, before, changed;
    int64_t length;
};

struct srn__in {
    const srn_template *t;
    const srn_render_opts *o;
    srn_arena arena;
    srn_err *err;
    int code;
    int line;
    int depth;
    uint64_t steps, max_steps;
    srn__builder *out;
    srn__scope *scope;
    srn__scope *globals;
};

/* Records the first error, "NAME, line N: sentence"; returns false. */
bool srn__err(srn__in *in, int code, const char *fmt, ...) SRN_PRINTF(3, 4);
bool srn__nomem(srn__in *in);
void *srn__alloc(srn__in *in, size_t n, size_t size);
/* Counts work against the step limit; n is in units of about one small operation. */
bool srn__work(srn__in *in, size_t n);
bool srn__enter(srn__in *in); /* depth + 1; srn__leave undoes it, also after a failure inside */
static inline void srn__leave(srn__in *in) {
    in->depth--;
}

/* text.c */
bool srn__put(srn__in *in, srn__builder *b, const char *p, size_t n, bool trusted);
bool srn__put_text(srn__in *in, srn__builder *b, const srn__text *s);
bool srn__put_part(srn__in *in, srn__builder *b, const srn__text *s, size_t from, size_t to);
bool srn__put_cp(srn__in *in, srn__builder *b, uint32_t cp, bool trusted);
bool srn__finish(srn__in *in, const srn__builder *b, srn__val *ret);
bool srn__str_new(srn__in *in, const char *p, size_t n, bool trusted, srn__val *ret); /* shares p */
bool srn__str_part(srn__in *in, const srn__text *s, size_t from, size_t to, srn__val *ret);
bool srn__trust_at(const srn__text *s, size_t at);
bool srn__all_trusted(const srn__text *s);
static inline srn_str srn__bytes(const srn__text *s) {
    return (srn_str){s->ptr, s->len};
}
size_t srn__cp_next(const char *p, size_t n,
                    uint32_t *ret_cp); /* a malformed byte counts as one, cp U+FFFD */
size_t srn__cp_count(const srn__text *s);
size_t srn__cp_offset(const srn__text *s, size_t index); /* byte offset of the index-th code point, or len */
size_t srn__find(srn_str hay, srn_str needle, size_t from); /* SIZE_MAX if absent */
size_t srn__rfind(srn_str hay, srn_str needle);

/* unicode.c: as Python's str methods see characters. */
bool srn__is_space(uint32_t cp);
bool srn__is_alpha(uint32_t cp);
bool srn__is_decimal(uint32_t cp);
bool srn__is_digit(uint32_t cp);
bool srn__is_numeric(uint32_t cp);
bool srn__is_upper(uint32_t cp);
bool srn__is_lower(uint32_t cp);
bool srn__is_title(uint32_t cp);
bool srn__is_printable(uint32_t cp);
bool srn__is_line_break(uint32_t cp);
size_t srn__upper(uint32_t cp, uint32_t out[3]);
size_t srn__title(uint32_t cp, uint32_t out[3]);
size_t srn__lower(uint32_t cp, uint32_t out[3]);

/* value.c */
static inline srn__val srn__none(void) {
    return (srn__val){.type = V_NONE};
}
static inline srn__val srn__bool(bool b) {
    return (srn__val){.type = V_BOOL, .u.b = b};
}
static inline srn__val srn__int(int64_t i) {
    return (srn__val){.type = V_INT, .u.i = i};
}
static inline srn__val srn__float(double f) {
    return (srn__val){.type = V_FLOAT, .u.f = f};
}
static inline bool srn__given(srn__val v) {
    return v.type != V_MISSING;
}
static inline bool srn__is_numberlike(srn__val v) {
    return v.type == V_INT || v.type == V_BOOL || v.type == V_FLOAT;
}
static inline bool srn__is_intlike(srn__val v) {
    return v.type == V_INT || v.type == V_BOOL;
}
static inline int64_t srn__as_int(srn__val v) {
    return v.type == V_BOOL ? v.u.b : v.u.i;
}
static inline double srn__as_float(srn__val v) {
    return v.type == V_FLOAT ? v.u.f : (double)srn__as_int(v);
}
const char *srn__type_name(srn__val v); /* as Python names it: "str", "dict", ... */
bool srn__undef(srn__in *in, const char *hint, srn__val *ret);
bool srn__undef_name(srn__in *in, srn_str name, uint8_t obj_type, srn__val *ret);
bool srn__undef_fail(srn__in *in, srn__val v); /* raises what using it means; false */
srn__seq *srn__seq_new(srn__in *in, srn__seq_kind kind, size_t cap);
bool srn__seq_push(srn__in *in, srn__seq *s, srn__val v);
srn__val srn__seq_val(srn__seq *s, bool tainted);
srn__dict *srn__dict_new(srn__in *in, size_t cap);
bool srn__dict_push(srn__in *in, srn__dict *d, srn__val k, srn__val v); /* k is known to be new */
bool srn__dict_set(srn__in *in, srn__dict *d, srn__val k, srn__val v);
bool srn__dict_get(srn__in *in, const srn__dict *d, srn__val k, srn__val *ret, bool *ret_found);
const srn__val *srn__dict_getz(const srn__dict *d, srn_str key);
bool srn__hashable(srn__in *in, srn__val k);
bool srn__truth(srn__val v);
bool srn__equal(srn__in *in, srn__val a, srn__val b, bool *ret);
bool srn__order(srn__in *in, srn__val a, srn__val b, srn__op op, bool *ret); /* OP_LT OP_LE OP_GT OP_GE */
bool srn__contains(srn__in *in, srn__val item, srn__val box, bool *ret);
bool srn__length(srn__in *in, srn__val v, int64_t *ret);
/* The items that iterating v yields (a generator's are consumed). */
bool srn__iterate(srn__in *in, srn__val v, srn__seq **ret);

/* repr.c */
size_t srn__float_repr(double f, char out[40]);
bool srn__put_str(srn__in *in, srn__builder *b, srn__val v);  /* as Python's str() */
bool srn__put_repr(srn__in *in, srn__builder *b, srn__val v); /* as Python's repr() */
bool srn__to_text(srn__in *in, srn__val v, const srn__text **ret);

/* The keyword's name as a value: trusted where the template spells it. */
bool srn__kw_name(srn__in *in, const srn__kw *kw, srn__val *ret);

/* json.c */
bool srn__from_json(srn__in *in, const json_t *j, int depth, srn__val *ret);
bool srn__messages_from_json(srn__in *in, const json_t *j, srn__val *ret);
extern const srn__builtin srn__tojson_filter;

/* ops.c */
bool srn__binary(srn__in *in, srn__op op, srn__val a, srn__val b, srn__val *ret);
bool srn__negate(srn__in *in, srn__val a, bool positive, srn__val *ret);
bool srn__compare(srn__in *in, srn__op op, srn__val a, srn__val b, bool *ret);
bool srn__slice(srn__in *in, srn__val v, srn__val start, srn__val stop, srn__val step, srn__val *ret);

/* format.c */
bool srn__percent(srn__in *in, const srn__text *fmt, srn__val arg, srn__val *ret);
bool srn__format_method(srn__in *in, srn__val self, srn__val *vals, const srn__args *raw, srn__val *ret);

/* access.c: attributes, items and methods */
bool srn__getattr(srn__in *in, srn__val obj, srn_str name, srn__val *ret);
bool srn__getitem(srn__in *in, srn__val obj, srn__val key, srn__val *ret);
bool srn__attr_path(srn__in *in, srn__val obj, srn__val path, srn__val *ret); /* "a.b.0", for attribute= */

/* methods.c */
const srn__builtin *srn__str_method(srn_str name);

/* eval.c */
bool srn__eval(srn__in *in, const srn__node *n, srn__val *ret);
bool srn__eval_args(srn__in *in, const srn__node *n, srn__args *ret);
bool srn__call(srn__in *in, srn__val fn, const srn__args *args, srn__val *ret);
bool srn__call_builtin(srn__in *in, const srn__builtin *b, srn__val self, const srn__args *args,
                       srn__val *ret);
bool srn__filter_chain(srn__in *in, const srn__node *n, srn__val v, srn__val *ret);
const srn__builtin *srn__builtin_find(const srn__builtin *rows, size_t n, srn_str name);

/* exec.c */
typedef enum srn__flow { FLOW_NEXT, FLOW_BREAK, FLOW_CONTINUE } srn__flow;
bool srn__exec(srn__in *in, const srn__node *n, srn__flow *flow);
bool srn__call_macro(srn__in *in, const srn__func *f, const srn__args *args, srn__val *ret);
bool srn__scope_set(srn__in *in, srn__scope *s, const char *name, srn__val v);
const srn__val *srn__scope_get(const srn__scope *s, const char *name);
bool srn__loop_attr(srn__in *in, srn__loop *l, srn_str name, srn__val *ret, bool *ret_found);

/* filters.c, filters_seq.c, tests.c, globals.c */
const srn__builtin *srn__filter(srn_str name);
const srn__builtin *srn__seq_filter(srn_str name);
const srn__builtin *srn__test(srn_str name);
bool srn__apply_test(srn__in *in, srn__val name, srn__val v, const srn__args *args, bool *ret);
bool srn__define_globals(srn__in *in);

/* Arguments of built-ins, with an error that names the parameter. */
bool srn__want_int(srn__in *in, srn__val v, const char *what, int64_t fallback, int64_t *ret);
bool srn__want_text(srn__in *in, srn__val v, const char *what, const srn__text **ret);

#endif
