/* The vocabulary of a made model: byte-level BPE of the shape's size. 256 bytes, then strings of two, three
 * and four small letters, with and without a space before, each with the merge that makes it, so that text
 * becomes tokens of about the usual length; then names of reserved tokens, and the three special ones at the
 * end. Called once, by srn_synth_new.
 */
#include "synth/synth_internal.h"

#define SPACE "\xC4\xA0" /* the letter of byte 0x20 */

static const char chat_template[] =
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + "
    "'<|im_end|>' + '\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% "
    "endif %}";

enum { N_SPECIAL = 3, LETTERS = 26 };

/* Called once per token, or per merge. left and right: empty for a byte or a reserved token. */
typedef struct walk {
    srn_gguf_head *h;
    bool merges;     /* write merges, else tokens */
    uint32_t n, max; /* tokens so far, and how many there may be before the special ones */
    uint32_t n_merges;
} walk;

static bool take(walk *w, const char *left, const char *right) {
    if (w->n >= w->max) return false;
    w->n++;
    char text[32];
    int n = snprintf(text, sizeof text, "%s%s%s", left, w->merges && *right ? " " : "", right);
    if (*right) w->n_merges++;
    if (w->h && (!w->merges || *right)) srn_gguf_elem_str(w->h, (srn_str){text, (size_t)n});
    return true;
}

/* Byte letters as in every such vocabulary: a byte that prints is itself, the others follow from U+0100 on.
 */
static void bytes(walk *w) {
    uint32_t others = 0;
    for (uint32_t b = 0; b < 256; b++) {
        bool prints = (b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE;
        char letter[5] = {0};
        srn_utf8_put(prints ? b : 0x100 + others++, letter);
        take(w, letter, "");
    }
}

/* All pairs (a, b) of `left` and `right` strings: letters are counted as numbers of base 26. */
static void pairs(walk *w, const char *before, int left, int right) {
    uint32_t n_left = left == 2 ? LETTERS * LETTERS : left == 1 ? LETTERS : 1;
    uint32_t n_right = right == 2 ? LETTERS * LETTERS : LETTERS;
    for (uint32_t i = 0; i < n_left; i++)
        for (uint32_t j = 0; j < n_right; j++) {
            char a[8], b[4];
            int k = snprintf(a, sizeof a, "%s", before);
            if (left == 2) a[k++] = (char)('a' + i / LETTERS);
            if (left >= 1) a[k++] = (char)('a' + i % LETTERS);
            a[k] = 0, k = 0;
            if (right == 2) b[k++] = (char)('a' + j / LETTERS);
            b[k++] = (char)('a' + j % LETTERS);
            b[k] = 0;
            if (!take(w, a, b)) return;
        }
}

static void all(walk *w) {
    bytes(w);
    pairs(w, SPACE, 0, 1);
    pairs(w, "", 1, 1);
    pairs(w, SPACE, 1, 2);
    pairs(w, "", 1, 2);
    pairs(w, "", 2, 2);
    char name[24];
    do snprintf(name, sizeof name, "<|reserved_%u|>", w->n);
    while (take(w, name, ""));
}

void srn__put_vocab(srn_gguf_head *h, uint32_t n_vocab) {
    static const char *const special[N_SPECIAL] = {"<|endoftext|>", "<|im_start|>", "<|im_end|>"};
    walk count = {.max = n_vocab - N_SPECIAL};
    all(&count);
    srn_gguf_put_str(h, "tokenizer.ggml.model", SRN_STR("gpt2"));
    srn_gguf_put_str(h, "tokenizer.ggml.pre", SRN_STR("gpt-2"));
    srn_gguf_put_array(h, "tokenizer.ggml.tokens", SRN_META_STR, n_vocab);
    walk tokens = {.h = h, .max = n_vocab - N_SPECIAL};
    all(&tokens);
    for (size_t i = 0; i < N_SPECIAL; i++) srn_gguf_elem_str(h, srn_str_of(special[i]));
    srn_gguf_put_array(h, "tokenizer.ggml.token_type", SRN_META_I32, n_vocab);
    for (uint32_t i = 0; i < n_vocab; i++) {
        bool reserved = i >= 256 + count.n_merges && i < n_vocab - N_SPECIAL;
        srn_gguf_elem_i32(h, i >= n_vocab - N_SPECIAL ? 3 : reserved ? 5 : 1); /* control, unused, normal */
    }
    srn_gguf_put_array(h, "tokenizer.ggml.merges", SRN_META_STR, count.n_merges);
    walk merges = {.h = h, .max = n_vocab - N_SPECIAL, .merges = true};
    all(&merges);
    srn_gguf_put_u32(h, "tokenizer.ggml.bos_token_id", n_vocab - 3);
    srn_gguf_put_u32(h, "tokenizer.ggml.eos_token_id", n_vocab - 1);
    srn_gguf_put_u32(h, "tokenizer.ggml.padding_token_id", n_vocab - 3);
    srn_gguf_put_bool(h, "tokenizer.ggml.add_bos_token", false);
    srn_gguf_put_str(h, "tokenizer.chat_template", srn_str_of(chat_template));
}
