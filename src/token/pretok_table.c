/* The pre-tokenizers by the name that GGUF gives them in tokenizer.ggml.pre. Expressions are those of the
 * families' published tokenizer.json files, in PCRE2's words; where a family's form would backtrack without
 * bound it is written in an equivalent linear one, and the comment says how. To add a row:
 * docs/tokenizers.md. Classes must not nest, and "]" in a class must be escaped (pretok.c rewrites \s and
 * \S).
 */
#include "token/token_internal.h"

#define RE(...)                                                                                              \
    { .kind = SRN__STEP_REGEX, .regex = __VA_ARGS__ }
#define END                                                                                                  \
    { .kind = SRN__STEP_END }

#define CONTRACTION "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define GPT2        "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"
#define TAIL        "|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
/* A word with at most one sign before it, numbers of the given length, signs with line ends. */
#define CL100K(number)                                                                                       \
    CONTRACTION "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|" number "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*" TAIL
/* As CL100K, with words cut where lower case turns to upper case. */
#define UPPER "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
#define LOWER "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"
#define CASED(upper, lower, after)                                                                           \
    "[^\\r\\n\\p{L}\\p{N}]?" upper "*" lower "+" after "|[^\\r\\n\\p{L}\\p{N}]?" upper "+" lower "*" after
#define O200K(number) CASED(UPPER, LOWER, CONTRACTION "?") "|" number "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*" TAIL
/* UPPER and LOWER without Han letters: the complement of all other categories and of Han. The script itself,
 * as plain \p{Han} would be the characters used with it too. */
#define UPPER_NOT_HAN "[^\\p{Ll}\\p{N}\\p{P}\\p{S}\\p{Z}\\p{C}\\p{sc:Han}]"
#define LOWER_NOT_HAN "[^\\p{Lu}\\p{Lt}\\p{N}\\p{P}\\p{S}\\p{Z}\\p{C}\\p{sc:Han}]"
#define ASCII_SIGN    "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~]"
#define DEEPSEEK3                                                                                            \
    ASCII_SIGN "[A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\\r\\n]*" TAIL
#define CJK_KANA "[\\x{4E00}-\\x{9FA5}\\x{3040}-\\x{309F}\\x{30A0}-\\x{30FF}]+"
#define CJK_WIDE "[\\x{4E00}-\\x{9FA5}\\x{800}-\\x{4E00}\\x{AC00}-\\x{D7FF}]+"
#define BLOOM    " ?[^(\\s|.,!?\\x{2026}\\x{3002}\\x{FF0C}\\x{3001}\\x{964}\\x{6D4}\\x{60C})]+"
/* The letters with case (and some without) of the Unicode version that deepseek-llm was trained with. */
#define DEEPSEEK_LETTERS                                                                                     \
    "A-Za-z\\x{B5}\\x{C0}-\\x{D6}\\x{D8}-\\x{F6}\\x{F8}-\\x{1BA}\\x{1BC}-\\x{1BF}\\x{1C4}-\\x{293}"          \
    "\\x{295}-\\x{2AF}\\x{370}-\\x{373}\\x{376}\\x{377}\\x{37B}-\\x{37D}\\x{37F}\\x{386}\\x{388}-\\x{38A}"   \
    "\\x{38C}\\x{38E}-\\x{3A1}\\x{3A3}-\\x{3F5}\\x{3F7}-\\x{481}\\x{48A}-\\x{52F}\\x{531}-\\x{556}"          \
    "\\x{10A0}-\\x{10C5}\\x{13A0}-\\x{13F5}\\x{13F8}-\\x{13FD}\\x{1C90}-\\x{1CBA}\\x{1CBD}-\\x{1CBF}"        \
    "\\x{1D00}-\\x{1D2B}\\x{1D6B}-\\x{1D77}\\x{1D79}-\\x{1D9A}\\x{1E00}-\\x{1F15}\\x{1F18}-\\x{1F1D}"        \
    "\\x{1F20}-\\x{1F45}\\x{1F48}-\\x{1F4D}\\x{1F50}-\\x{1F57}\\x{1F59}\\x{1F5B}\\x{1F5D}\\x{1F5F}-\\x{"     \
    "1F7D}"                                                                                                  \
    "\\x{1F80}-\\x{1FB4}\\x{1FB6}-\\x{1FBC}\\x{1FBE}\\x{1FC2}-\\x{1FC4}\\x{1FC6}-\\x{1FCC}\\x{1FD0}-\\x{"    \
    "1FD3}"                                                                                                  \
    "\\x{1FD6}-\\x{1FDB}\\x{1FE0}-\\x{1FEC}\\x{1FF2}-\\x{1FF4}\\x{1FF6}-\\x{1FFC}\\x{2102}\\x{2107}"         \
    "\\x{210A}-\\x{2113}\\x{2115}\\x{2119}-\\x{211D}\\x{2124}\\x{2126}\\x{2128}\\x{212A}-\\x{212D}"          \
    "\\x{212F}-\\x{2134}\\x{2139}\\x{213C}-\\x{213F}\\x{2145}-\\x{2149}\\x{214E}\\x{2183}\\x{2184}"          \
    "\\x{2C00}-\\x{2C7B}\\x{2C7E}-\\x{2CE4}\\x{2CEB}-\\x{2CEE}\\x{2CF2}\\x{2CF3}\\x{A640}-\\x{A66D}"         \
    "\\x{A680}-\\x{A69B}\\x{A722}-\\x{A76F}\\x{A771}-\\x{A787}\\x{A78B}-\\x{A78E}\\x{AB70}-\\x{ABBF}"        \
    "\\x{FB00}-\\x{FB06}\\x{FB13}-\\x{FB17}\\x{FF21}-\\x{FF3A}\\x{FF41}-\\x{FF5A}\\x{10400}-\\x{1044F}"      \
    "\\x{104B0}-\\x{104D3}\\x{104D8}-\\x{104FB}\\x{10C80}-\\x{10CB2}\\x{10CC0}-\\x{10CF2}"                   \
    "\\x{118A0}-\\x{118DF}\\x{1E900}-\\x{1E943}"
#define PUNCTUATION "[\\p{P}$+<=>^~|`]+"

static const srn__step gpt2[] = {RE(GPT2), END};
static const srn__step digits_gpt2[] = {RE("\\p{N}"), RE(GPT2), END};
static const srn__step llama3[] = {RE(CL100K("\\p{N}{1,3}")), END};
static const srn__step qwen2[] = {RE(CL100K("\\p{N}")), END};
static const srn__step qwen35[] = {
    RE(CONTRACTION "|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}| ?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*" TAIL),
    END};
static const srn__step o200k[] = {RE(O200K("\\p{N}{1,3}")), END};
static const srn__step tekken[] = {RE(CASED(UPPER, LOWER, "") "|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*" TAIL),
                                   END};
static const srn__step kimi[] = {
    RE("\\p{sc:Han}+|" CASED(UPPER_NOT_HAN, LOWER_NOT_HAN,
                             CONTRACTION "?") "|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*" TAIL),
    END};
static const srn__step deepseek3[] = {RE("\\p{N}{1,3}"), RE(CJK_KANA), RE(DEEPSEEK3), END};
static const srn__step deepseek_coder[] = {RE("[\\r\\n]"), RE("\\s?\\p{L}+"), RE("\\s?\\p{P}+"),
                                           RE(CJK_WIDE),   RE("\\p{N}"),      END};
/* "\s+$" would be tried from every white space of a run; from its first one it finds the same. */
static const srn__step deepseek_llm[] = {
    RE("[\\r\\n]"),
    RE("\\s?[" DEEPSEEK_LETTERS "]+"),
    RE("\\s?[!-/:-~\\x{FF01}-\\x{FF0F}\\x{FF1A}-\\x{FF5E}\\x{2018}-\\x{201F}\\x{3000}-\\x{3002}]+"),
    RE("(?<!\\s)\\s++\\z"),
    RE(CJK_WIDE),
    RE("\\p{N}"),
    END};
static const srn__step falcon[] = {RE(PUNCTUATION), RE(GPT2), {.kind = SRN__STEP_BYTE_DIGITS}, END};
static const srn__step fallback[] = {RE(PUNCTUATION), RE(GPT2), RE("\\p{N}+"), RE("[0-9][0-9][0-9]"), END};
static const srn__step bloom[] = {RE(BLOOM), END};
static const srn__step viking[] = {RE(BLOOM), RE("\\p{N}"), END};
static const srn__step bailing[] = {RE("'(?i:[sdmt]|ll|ve|re)|[^\\r\\n\\p{L}\\p{N}]?+\\p{L}+|\\p{N}"
                                       "| ?[^\\s\\p{L}\\p{N}]++[\\r\\n]*|\\s*[\\r\\n]|\\s+(?!\\S)|\\s+"),
                                    END};
static const srn__step seed_coder[] = {
    RE(CONTRACTION "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}\\r\\n]+" TAIL), END};
/* Possessive, which changes no match: a letter ends neither a repetition nor the alternative early. */
static const srn__step exaone_moe[] = {
    RE(CONTRACTION "|[^\\r\\n\\p{L}\\p{N}]?(?:\\p{L}\\p{M}*+(?: \\p{L}\\p{M}*+)*+)++|\\p{N}"
                   "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]?|\\s*[\\r\\n]|\\s+(?!\\S)|\\s+"),
    END};
static const srn__step tiny_aya[] = {{.kind = SRN__STEP_DIGITS_BOUNDED}, RE(O200K("\\p{N}{1,3}")), END};
static const srn__step superbpe[] = {RE("\\p{N}+"), {.kind = SRN__STEP_DIGITS_CUT}, END};
static const srn__step afmoe[] = {
    {.kind = SRN__STEP_DIGITS},
    RE("[\\x{4E00}-\\x{9FFF}\\x{3400}-\\x{4DBF}\\x{F900}-\\x{FAFF}\\x{3040}-\\x{309F}\\x{30A0}-\\x{30FF}"
       "\\x{FF65}-\\x{FF9F}\\x{2F00}-\\x{2FDF}\\x{E40}-\\x{E7F}\\x{E80}-\\x{EFF}\\x{1780}-\\x{17FF}"
       "\\x{1000}-\\x{109F}\\x{AA60}-\\x{AA7F}\\x{A9E0}-\\x{A9FF}\\x{AC00}-\\x{D7AF}\\x{1100}-\\x{11FF}]+"),
    RE(DEEPSEEK3),
    END};
static const srn__step jais2[] = {
    RE(CONTRACTION "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+"
                   "|\\s{512}(?!\\S)|\\s{256}(?!\\S)|\\s{128}(?!\\S)|\\s{64}(?!\\S)|\\s{32}(?!\\S)"
                   "|\\s{16}(?!\\S)|\\s{8}(?!\\S)|\\s{4}(?!\\S)|\\s{1,2}(?!\\S)|\\s"),
    END};
static const srn__step youtu[] = {
    RE("[\\x{AC00}-\\x{D7A3}\\x{3131}-\\x{318E}]+"
       "|[\\x{FF01}\\x{2026}\\x{201C}\\x{201D}\\x{2018}\\x{2019}\\x{2014}\\x{FF1A}\\x{FF1B}\\x{FF0C}"
       "\\x{3001}-\\x{303F}\\x{FE30}-\\x{FE4F}]+|[\\x{3105}-\\x{312F}]+|" CJK_KANA),
    RE(O200K("\\p{N}")), END};
static const srn__step spark[] = {
    RE("\\p{N}{1,3}"), RE(CJK_KANA),
    RE(ASCII_SIGN "[A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+|[\\r\\n]"
                  "|\\s+(?!\\S)|\\s+"),
    RE("\\p{N}"), END};
static const srn__step minicpm5[] = {RE("\\p{N}{1,3}"), RE(CL100K("\\p{N}+")), END};
static const srn__step laguna[] = {RE("[^\\n]+|\\n+"), RE(CL100K("\\p{N}")), END};
static const srn__step no_contraction[] = {
    RE("[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*" TAIL), END};
static const srn__step chameleon[] = {RE("<sentinel:[0-9]+>"),
                                      RE("IMGIMG[A-I]{1,4}Z"),
                                      RE("[\\t\\n]|    |  "),
                                      RE("\\p{N}"),
                                      RE("[\\p{P}!-/:-@\\[-`{-~]"),
                                      RE(GPT2),
                                      END};
static const srn__step whole[] = {END};

enum {
    WORDS = SRN__PRE_IGNORE_MERGES,
    WORDS_BOS = SRN__PRE_IGNORE_MERGES | SRN__PRE_ADD_BOS,
};

/* Sorted by name within a family; the first of a family is the one that its first model's files carry. */
const srn__pretok_row srn__pretok_rows[] = {
    {"default", fallback, 0},
    {"gpt-2", gpt2, 0},
    {"a.x-4.0", gpt2, 0},
    {"exaone4", gpt2, 0},
    {"gigachat", gpt2, 0},
    {"granite-docling", gpt2, 0},
    {"jais", gpt2, 0},
    {"jina-de", gpt2, 0},
    {"jina-es", gpt2, 0},
    {"jina-v1-en", gpt2, 0},
    {"jina-v2-code", gpt2, 0},
    {"jina-v2-de", gpt2, 0},
    {"jina-v2-es", gpt2, 0},
    {"mellum", gpt2, 0},
    {"modern-bert", gpt2, 0},
    {"mpt", gpt2, 0},
    {"olmo", gpt2, 0},
    {"phi-2", gpt2, 0},
    {"roberta-bpe", gpt2, 0},
    {"trillion", gpt2, 0},
    {"starcoder", digits_gpt2, 0},
    {"codeshell", digits_gpt2, 0},
    {"command-r", digits_gpt2, 0},
    {"exaone", digits_gpt2, 0},
    {"mellum2", digits_gpt2, 0},
    {"minerva-7b", digits_gpt2, 0},
    {"refact", digits_gpt2, 0},
    {"smollm", digits_gpt2, 0},
    {"llama-bpe", llama3, WORDS_BOS},
    {"falcon-h1", llama3, WORDS_BOS},
    {"falcon3", llama3, WORDS_BOS},
    {"jina-v5-nano", llama3, WORDS_BOS},
    {"lfm2", llama3, WORDS_BOS},
    {"llama-v3", llama3, WORDS_BOS},
    {"llama3", llama3, WORDS_BOS},
    {"midm-2.0", llama3, WORDS_BOS},
    {"pixtral", llama3, WORDS_BOS},
    {"chatglm-bpe", llama3, 0},
    {"dbrx", llama3, 0},
    {"glm4", llama3, 0},
    {"smaug-bpe", llama3, 0},
    {"qwen2", qwen2, 0},
    {"deepseek-r1-qwen", qwen2, 0},
    {"f2llmv2", qwen2, 0},
    {"grok-2", qwen2, 0},
    {"hunyuan", qwen2, 0},
    {"kormo", qwen2, 0},
    {"megrez", qwen2, 0},
    {"solar-open", qwen2, 0},
    {"stablelm2", qwen2, 0},
    {"qwen35", qwen35, 0},
    {"gpt-4o", o200k, 0},
    {"granite-embed-multi-97m", o200k, WORDS},
    {"kanana2", o200k, 0},
    {"llama4", o200k, 0},
    {"minimax-m2", o200k, 0},
    {"talkie", o200k, 0},
    {"tekken", tekken, WORDS_BOS},
    {"kimi-k2", kimi, 0},
    {"deepseek-llm", deepseek_llm, 0},
    {"deepseek-coder", deepseek_coder, 0},
    {"deepseek-v3", deepseek3, 0},
    {"hunyuan-dense", deepseek3, 0},
    {"hy_v4", deepseek3, 0},
    {"joyai-llm", deepseek3, 0},
    {"falcon", falcon, 0},
    {"bloom", bloom, 0},
    {"gpt3-finnish", bloom, 0},
    {"poro-chat", bloom, 0},
    {"viking", viking, 0},
    {"bailingmoe", bailing, 0},
    {"bailingmoe2", bailing, 0},
    {"llada-moe", bailing, 0},
    {"seed-coder", seed_coder, 0},
    {"exaone-moe", exaone_moe, 0},
    {"cohere2moe", tiny_aya, 0},
    {"tiny_aya", tiny_aya, 0},
    {"superbpe", superbpe, 0},
    {"afmoe", afmoe, 0},
    {"jais-2", jais2, 0},
    {"youtu", youtu, WORDS},
    {"spark2_5", spark, 0},
    {"minicpm5", minicpm5, WORDS},
    {"laguna", laguna, 0},
    {"ufakzeka", no_contraction, 0},
    {"chameleon", chameleon, SRN__PRE_ADD_BOS},
    {"gemma4", whole, SRN__PRE_RAW | SRN__PRE_ADD_BOS},
    {"granite-embed-multi-311m", whole, SRN__PRE_RAW},
    {"sarvam-moe", whole, SRN__PRE_RAW},
};
const size_t srn__n_pretok_rows = SRN_LEN(srn__pretok_rows);
