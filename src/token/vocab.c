/* The vocabulary: built once from tokenizer.ggml.* of a model's metadata, then immutable. Corrects the types
 * of tokens that files are known to mislabel where a user's text could otherwise become a control token;
 * finds what ends an answer. Refuses by name what it does not know, and ids and lists that do not fit each
 * other.
 */
#include "token/token_internal.h"

#include <stdlib.h>

/* ---- what ends an answer, by the names that the families use ---- */
typedef struct eog_name {
    const char *text;
    bool always; /* control whatever the file says; the others count only where the file says control */
} eog_name;

static const eog_name eog_names[] = {
    {"<|eot_id|>", true},
    {"<|eom_id|>", true},
    {"<|eot|>", true},
    {"<|eom|>", true},
    {"<|im_end|>", true},
    {"<|end|>", true},
    {"<|return|>", true},
    {"<|call|>", true},
    {"<|calls|>", true},
    {"<|flush|>", true},
    {"<|endoftext|>", true},
    {"<|end_of_text|>", true},
    {"<|END_OF_TURN_TOKEN|>", true},
    {"<|fim_pad|>", false},
    {"<|file_sep|>", false},
    {"<|repo_name|>", false},
    {"<end_of_turn>", true},
    {"<end_of_utterance>", true},
    {"<turn|>", true},
    {"<|tool_response>", true},
    {"<\xEF\xBD\x9C"
     "end\xE2\x96\x81of\xE2\x96\x81sentence\xEF\xBD\x9C>",
     true},
    {"[|endofturn|]", true},
    {"[e~[", false},
    {"<EOT>", false},
    {"_<EOT>", false},
    {"[EOT]", false},
    {"[EOS]", false},
    {"<eos>", false},
    {"</s>", false},
};

/* <|...|> and DeepSeek's full-width form: never ordinary text. */
static bool looks_special(srn_str t) {
    static const char wide_open[] = "<\xEF\xBD\x9C", wide_close[] = "\xEF\xBD\x9C>";
    if (t.len >= 5 && memcmp(t.ptr, "<|", 2) == 0 && memcmp(t.ptr + t.len - 2, "|>", 2) == 0) return true;
    return t.len >= 9 && memcmp(t.ptr, wide_open, 4) == 0 && memcmp(t.ptr + t.len - 4, wide_close, 4) == 0;
}

const char *srn__printable(srn_str s, char out[SRN__PRINTABLE]) {
    size_t n = SRN_MIN(s.len, (size_t)SRN__PRINTABLE - 4);
    for (size_t i = 0; i < n; i++) out[i] = s.ptr[i] >= 0x20 && s.ptr[i] <= 0x7E ? s.ptr[i] : '?';
    memcpy(out + n, n < s.len ? "..." : "", n < s.len ? 4 : 1);
    return out;
}

/* ---- reading ---- */

static int load_tokens(srn_vocab *v, const srn_weights *w, srn_err *err) {
    size_t n = 0;
    int code = srn_meta_strs(w, "tokenizer.ggml.tokens", &v->text, &n, err);
    if (code == SRN_ENOENT || (code == SRN_OK && n == 0))
        return srn_fail(err, SRN_EFORMAT, "tokenizer.ggml.tokens is %s: the file holds no vocabulary",
                        code ? "missing" : "empty");
    if (code) return code;
    if (n > SRN__MAX_TOKENS)
        return srn_fail(err, SRN_ELIMIT, "tokenizer.ggml.tokens: %zu tokens, more than the limit of %d", n,
                        SRN__MAX_TOKENS);
    v->n = v->n_all = (int32_t)n;
    v->attr = srn_calloc(n, sizeof *v->attr);
    v->eog = srn_calloc(n, sizeof *v->eog);
    if (!v->attr || !v->eog || !srn__strtab_init(&v->tab, n)) return srn_fail_nomem(err, n * 40);
    for (size_t i = 0; i < n; i++) {
        srn_str t = v->text[i];
        if (t.len > SRN__MAX_TOKEN_BYTES)
            return srn_fail(err, SRN_ELIMIT,
                            "tokenizer.ggml.tokens: token %zu has %zu bytes, the limit is %d", i, t.len,
                            SRN__MAX_TOKEN_BYTES);
        if (t.len && !srn__strtab_put(&v->tab, t, (int32_t)i)) return srn_fail_nomem(err, n * 40);
        v->max_bytes = SRN_MAX(v->max_bytes, t.len);
    }
    return SRN_OK;
}

static int load_types(srn_vocab *v, const srn_weights *w, srn_err *err) {
    const srn_meta *m = srn_meta_find(w, "tokenizer.ggml.token_type");
    for (int32_t i = 0; i < v->n; i++) v->attr[i] = SRN_TOKEN_NORMAL;
    if (!m) return SRN_OK;
    if (m->type != SRN_META_ARR || m->elem == SRN_META_STR || m->elem == SRN_META_ARR)
        return srn_fail(err, SRN_EFORMAT, "tokenizer.ggml.token_type is not an array of integers");
    if (m->count < (uint64_t)v->n)
        return srn_fail(err, SRN_EFORMAT, "tokenizer.ggml.token_type has %llu entries for %d tokens",
                        (unsigned long long)m->count, v->n);
    for (int32_t i = 0; i < v->n; i++) {
        int64_t t = srn_meta_elem_i64(m, (size_t)i);
        if (t >= SRN_TOKEN_NORMAL && t <= SRN_TOKEN_BYTE) v->attr[i] = (uint8_t)t;
        if (v->attr[i] == SRN_TOKEN_USER_DEFINED && looks_special(v->text[i])) v->attr[i] = SRN_TOKEN_CONTROL;
    }
    return SRN_OK;
}

/* A token id by key: absent, or all ones as some converters write it, leaves *id as it is. */
static int load_id(const srn_vocab *v, const srn_weights *w, const char *key, int32_t *id, srn_err *err) {
    int64_t x = 0;
    int code = srn_meta_i64(w, key, &x, err);
    if (code == SRN_ENOENT) return SRN_OK;
    if (code) return code;
    if (x == -1 || x == UINT32_MAX) {
        *id = -1;
        return SRN_OK;
    }
    if (x < 0 || x >= v->n)
        return srn_fail(err, SRN_EFORMAT, "%s is %lld, but the vocabulary has %d tokens", key, (long long)x,
                        v->n);
    *id = (int32_t)x;
    return SRN_OK;
}

static int load_flag(const srn_weights *w, const char *key, bool *flag, srn_err *err) {
    int code = srn_meta_bool(w, key, flag, err);
    return code == SRN_ENOENT ? SRN_OK : code;
}

static int load_ids(srn_vocab *v, const srn_weights *w, srn_err *err) {
    int32_t eot = -1, eom = -1;
    const struct {
        const char *key;
        int32_t *id;
    } ids[] = {
        {"tokenizer.ggml.bos_token_id", &v->bos},       {"tokenizer.ggml.eos_token_id", &v->eos},
        {"tokenizer.ggml.unknown_token_id", &v->unk},   {"tokenizer.ggml.padding_token_id", &v->pad},
        {"tokenizer.ggml.seperator_token_id", &v->sep}, {"tokenizer.ggml.separator_token_id", &v->sep},
        {"tokenizer.ggml.eot_token_id", &eot},          {"tokenizer.ggml.eom_token_id", &eom},
    };
    const struct {
        const char *key;
        bool *flag;
    } flags[] = {
        {"tokenizer.ggml.add_bos_token", &v->add_bos},
        {"tokenizer.ggml.add_eos_token", &v->add_eos},
        {"tokenizer.ggml.add_sep_token", &v->add_sep},
        {"tokenizer.ggml.add_space_prefix", &v->add_space_prefix},
    };
    int code = SRN_OK;
    for (size_t i = 0; i < SRN_LEN(ids) && code == SRN_OK; i++)
        code = load_id(v, w, ids[i].key, ids[i].id, err);
    for (size_t i = 0; i < SRN_LEN(flags) && code == SRN_OK; i++)
        code = load_flag(w, flags[i].key, flags[i].flag, err);
    if (code) return code;
    if (v->bos < 0) v->add_bos = false;
    if (v->eos < 0) v->add_eos = false;
    if (v->sep < 0) v->add_sep = false;
    int32_t ends[] = {v->eos, eot, eom};
    for (size_t i = 0; i < SRN_LEN(ends); i++)
        if (ends[i] >= 0) v->eog[ends[i]] = true;
    return SRN_OK;
}

/* ---- corrections ---- */

/* A line end or a single character: some models end answers with one, and texts must still hold it. */
static bool is_plain(const srn_vocab *v, srn_str t) {
    size_t i = 0;
    for (; i < t.len; i++) {
        uint32_t cp = 0;
        size_t n = srn_utf8_get(t.ptr + i, t.len - i, &cp);
        int byte =
            v->kind == SRN_VOCAB_BPE && !v->raw_bpe && n ? srn__letter_byte(cp) : (int)SRN_MIN(cp, 0x7Fu);
        if (byte != '\n' && byte != '\r') break;
        i += n - 1;
    }
    return i == t.len || srn_utf8_len(t.ptr, t.len) == t.len;
}

static void mark_ends(srn_vocab *v) {
    for (size_t i = 0; i < SRN_LEN(eog_names); i++) {
        int32_t id = srn__strtab_get(&v->tab, srn_str_of(eog_names[i].text));
        if (id < 0) continue;
        if (eog_names[i].always) v->attr[id] = SRN_TOKEN_CONTROL;
        if (v->attr[id] == SRN_TOKEN_CONTROL) v->eog[id] = true;
    }
    /* Where a message ends with <|end|> but an answer with <|return|> or a call, the former ends no answer.
     */
    int32_t end = srn__strtab_get(&v->tab, SRN_STR("<|end|>"));
    bool harmony = srn__strtab_get(&v->tab, SRN_STR("<|return|>")) >= 0 &&
                   srn__strtab_get(&v->tab, SRN_STR("<|call|>")) >= 0;
    bool solar = srn__strtab_get(&v->tab, SRN_STR("<|flush|>")) >= 0 &&
                 srn__strtab_get(&v->tab, SRN_STR("<|calls|>")) >= 0;
    if (end >= 0 && end != v->eos && (harmony || solar)) v->eog[end] = false;
    /* What the file itself names as an end, or as the start, is no ordinary text, unless ordinary text needs
     * it. */
    for (int32_t i = 0; i < v->n; i++) {
        bool text = v->attr[i] == SRN_TOKEN_NORMAL || v->attr[i] == SRN_TOKEN_USER_DEFINED;
        if (text && (v->eog[i] || i == v->bos) && !is_plain(v, v->text[i])) v->attr[i] = SRN_TOKEN_CONTROL;
    }
}

/* Phi-3's added tokens take the white space after them, all but these. GGUF has no field for it. */
static void mark_rstrip(srn_vocab *v, const srn_weights *w) {
    srn_str arch = {0};
    v->control_rstrip = v->kind == SRN_VOCAB_SPM &&
                        srn_meta_str(w, "general.architecture", &arch, NULL) == SRN_OK &&
                        srn_str_eqz(arch, "phi3");
}

static srn_str escaped(srn_vocab *v, srn_str t) {
    size_t spaces = 0;
    for (size_t i = 0; i < t.len; i++) spaces += t.ptr[i] == ' ';
    if (!spaces || !srn__escapes_spaces(v)) return t;
    char *p = srn_arena_alloc(&v->arena, t.len + 2 * spaces), *q = p;
    if (!p) return (srn_str){0};
    for (size_t i = 0; i < t.len; i++) {
        if (t.ptr[i] == ' ') {
            memcpy(q, SRN__LOWLINE, 3);
            q += 3;
        } else {
            *q++ = t.ptr[i];
        }
    }
    return (srn_str){p, t.len + 2 * spaces};
}

static int build_matchers(srn_vocab *v, srn_err *err) {
    size_t n = (size_t)v->n;
    srn_str *texts = srn_calloc(n, sizeof *texts);
    int32_t *ids = srn_calloc(n, sizeof *ids);
    int code = texts && ids ? SRN_OK : srn_fail_nomem(err, n * sizeof *texts);
    for (int pass = 0; pass < 2 && code == SRN_OK; pass++) {
        uint32_t k = 0;
        for (int32_t i = 0; i < v->n && code == SRN_OK; i++) {
            bool control = v->attr[i] == SRN_TOKEN_CONTROL || v->attr[i] == SRN_TOKEN_UNKNOWN;
            if (pass == 0 ? !control : v->attr[i] != SRN_TOKEN_USER_DEFINED) continue;
            if (v->text[i].len > SRN__MAX_SPECIAL_BYTES)
                code = srn_fail(err, SRN_ELIMIT,
                                "tokenizer.ggml.tokens: special token %d has %zu bytes, the limit is %d", i,
                                v->text[i].len, SRN__MAX_SPECIAL_BYTES);
            texts[k] = pass == 0 ? v->text[i] : escaped(v, v->text[i]);
            if (v->text[i].len && !texts[k].ptr) code = srn_fail_nomem(err, v->text[i].len);
            ids[k++] = i;
        }
        if (code == SRN_OK) code = srn__matcher_init(pass == 0 ? &v->control : &v->user, texts, ids, k, err);
    }
    free(texts);
    free(ids);
    return code;
}

/* ---- the kinds ---- */

typedef struct kind_row {
    const char *name; /* tokenizer.ggml.model */
    srn_vocab_kind kind;
    const char *pre; /* instead of tokenizer.ggml.pre */
    int (*load)(srn_vocab *v, const srn_weights *w, srn_err *err);
    int32_t bos, eos, unk, pad, sep; /* where the file names none */
    bool add_bos, add_sep, add_space_prefix;
} kind_row;

static const kind_row kinds[] = {
    {"gpt2", SRN_VOCAB_BPE, NULL, srn__bpe_load, -1, -1, -1, -1, -1, false, false, false},
    {"gemma4", SRN_VOCAB_BPE, "gemma4", srn__bpe_load, -1, -1, -1, -1, -1, true, false, false},
    {"llama", SRN_VOCAB_SPM, NULL, srn__spm_load, 1, 2, 0, -1, -1, true, false, true},
    {"bert", SRN_VOCAB_WPM, NULL, srn__wpm_load, 101, -1, 100, 0, 102, true, true, false},
};

static int find_kind(const srn_weights *w, const kind_row **ret, srn_err *err) {
    srn_str model = {0};
    int code = srn_meta_str(w, "tokenizer.ggml.model", &model, err);
    if (code == SRN_ENOENT)
        return srn_fail(err, SRN_EFORMAT, "tokenizer.ggml.model is missing: the file holds no vocabulary");
    if (code) return code;
    for (size_t i = 0; i < SRN_LEN(kinds); i++) {
        if (!srn_str_eqz(model, kinds[i].name)) continue;
        *ret = &kinds[i];
        return SRN_OK;
    }
    char shown[SRN__PRINTABLE];
    return srn_fail(err, SRN_EUNSUP,
                    "tokenizer.ggml.model: the tokenizer '%s' is not supported; known ones are gpt2, gemma4, "
                    "llama and bert",
                    srn__printable(model, shown));
}

static int load_pretok(srn_vocab *v, const srn_weights *w, const kind_row *k, srn_err *err) {
    srn_str name = SRN_STR("default");
    int code = srn_meta_str(w, "tokenizer.ggml.pre", &name, err);
    if (code && code != SRN_ENOENT) return code;
    if (k->pre) name = srn_str_of(k->pre);
    const srn__pretok_row *row = NULL;
    code = srn__pretok_new(name, &v->pretok, &row, err);
    if (code) return code;
    v->raw_bpe = row->flags & SRN__PRE_RAW;
    v->ignore_merges = row->flags & SRN__PRE_IGNORE_MERGES;
    if (row->flags & SRN__PRE_ADD_BOS) v->add_bos = true;
    return SRN_OK;
}

static int load(srn_vocab *v, const srn_weights *w, srn_err *err) {
    const kind_row *k = NULL;
    int code = find_kind(w, &k, err);
    if (code) return code;
    v->kind = k->kind;
    if ((code = load_tokens(v, w, err)) || (code = load_types(v, w, err))) return code;
    v->bos = k->bos < v->n ? k->bos : -1;
    v->eos = k->eos < v->n ? k->eos : -1;
    v->unk = k->unk < v->n ? k->unk : -1;
    v->pad = k->pad < v->n ? k->pad : -1;
    v->sep = k->sep < v->n ? k->sep : -1;
    v->add_bos = k->add_bos;
    v->add_sep = k->add_sep;
    v->add_space_prefix = k->add_space_prefix;
    if (k->kind == SRN_VOCAB_BPE && (code = load_pretok(v, w, k, err))) return code;
    if ((code = load_ids(v, w, err))) return code;
    mark_ends(v);
    mark_rstrip(v, w);
    if ((code = k->load(v, w, err))) return code;
    return build_matchers(v, err);
}

int srn_vocab_new(const srn_weights *w, srn_vocab **ret, srn_err *err) {
    srn_vocab *v = srn_calloc(1, sizeof *v);
    if (!v) return srn_fail_nomem(err, sizeof *v);
    srn_arena_init(&v->arena, 0);
    int code = load(v, w, err);
    if (code) {
        srn_vocab_free(v);
        return srn_fail_prefix(err, code, "%s", srn_weights_path(w));
    }
    *ret = v;
    return SRN_OK;
}

void srn_vocab_free(srn_vocab *v) {
    if (!v) return;
    srn__strtab_done(&v->tab);
    srn__matcher_done(&v->control);
    srn__matcher_done(&v->user);
    srn__pretok_free(v->pretok);
    srn_arena_done(&v->arena);
    free(v->attr);
    free(v->eog);
    free(v->merges);
    free(v->order);
    free(v);
}

/* ---- questions ---- */

static bool known(const srn_vocab *v, int32_t id) {
    return id >= 0 && id < v->n;
}

srn_vocab_kind srn_vocab_kind_of(const srn_vocab *v) {
    return v->kind;
}
int32_t srn_vocab_size(const srn_vocab *v) {
    return v->n;
}
int32_t srn_vocab_bos(const srn_vocab *v) {
    return v->bos;
}
int32_t srn_vocab_eos(const srn_vocab *v) {
    return v->eos;
}
int32_t srn_vocab_unk(const srn_vocab *v) {
    return v->unk;
}
int32_t srn_vocab_pad(const srn_vocab *v) {
    return v->pad;
}
bool srn_vocab_add_bos(const srn_vocab *v) {
    return v->add_bos;
}
bool srn_vocab_add_eos(const srn_vocab *v) {
    return v->add_eos;
}
bool srn_vocab_is_eog(const srn_vocab *v, int32_t id) {
    return known(v, id) && v->eog[id];
}
srn_token_attr srn_vocab_attr(const srn_vocab *v, int32_t id) {
    return known(v, id) ? (srn_token_attr)v->attr[id] : SRN_TOKEN_UNKNOWN;
}
srn_str srn_vocab_text(const srn_vocab *v, int32_t id) {
    return known(v, id) ? v->text[id] : (srn_str){"", 0};
}
int32_t srn_vocab_find(const srn_vocab *v, srn_str text) {
    int32_t id = srn__strtab_get(&v->tab, text);
    return known(v, id) ? id : -1;
}
