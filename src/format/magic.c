/* What a file seems to be when it is not GGUF. Pure; called by the parser to make its error useful, and for
 * the first bytes of a download. */
#include "format/format_internal.h"

#include <ctype.h>

typedef struct magic {
    const char *bytes;
    size_t n;
    const char *is;    /* "it seems to be ..." */
    const char *to_do; /* a sentence */
} magic;

static const char convert[] = "convert it to GGUF first, or download the model's GGUF file";
static const char reconvert[] =
    "this format was replaced by GGUF in 2023: download a current GGUF file of the model";
static const char unpack[] = "unpack it and give the .gguf file that is inside";
static const char download[] =
    "download it again and check the address and that you are logged in where needed";

/* By the first bytes; the order matters only where one is the beginning of another. */
static const magic magics[] = {
    {"version https://git-lfs", 23, "a git-lfs pointer, not the file itself",
     "fetch the real file with `git lfs pull`"},
    {"PK\3\4", 4, "a zip archive (PyTorch checkpoints are one)", convert},
    {"\x80\2", 2, "a Python pickle (an old PyTorch checkpoint)", convert},
    {"lmgg", 4, "a GGML file without version", reconvert},
    {"fmgg", 4, "a GGMF file, older than GGUF", reconvert},
    {"tjgg", 4, "a GGJT file, older than GGUF", reconvert},
    {"algg", 4, "a GGLA adapter, older than GGUF", reconvert},
    {"\x89HDF", 4, "an HDF5 file (Keras weights are one)", convert},
    {"\x1f\x8b", 2, "a gzip archive", unpack},
    {"\x28\xb5\x2f\xfd", 4, "a zstd archive", unpack},
    {"\xfd"
     "7zXZ",
     5, "an xz archive", unpack},
    {"BZh", 3, "a bzip2 archive", unpack},
    {"7z\xbc\xaf", 4, "a 7-Zip archive", unpack},
    {"%PDF", 4, "a PDF document", download},
    {"\x7f"
     "ELF",
     4, "a program", "give the path of a .gguf file"},
};

static bool starts_with_word(const uint8_t *p, size_t len, const char *word) {
    size_t n = strlen(word);
    if (len < n) return false;
    for (size_t i = 0; i < n; i++)
        if (tolower(p[i]) != word[i]) return false;
    return true;
}

/* Text that a server sends in place of a file, or a model's configuration. */
static bool find_text(const uint8_t *p, size_t len, const char **ret_is, const char **ret_to_do) {
    while (len && isspace(*p)) p++, len--;
    if (starts_with_word(p, len, "<!doctype html") || starts_with_word(p, len, "<html")) {
        *ret_is = "an HTML page, which a server sends in place of a file";
    } else if (starts_with_word(p, len, "<?xml")) {
        *ret_is = "an XML document, perhaps a server's error";
    } else if (starts_with_word(p, len, "{") || starts_with_word(p, len, "[")) {
        *ret_is = "JSON text, perhaps a configuration or a server's error";
    } else {
        return false;
    }
    *ret_to_do = download;
    return true;
}

static bool is_safetensors(const uint8_t *p, size_t len) {
    uint64_t header = 0;
    if (len < 9) return false;
    for (int i = 7; i >= 0; i--) header = header << 8 | p[i];
    return p[8] == '{' && header >= 2 && header < (uint64_t)1 << 30;
}

static bool all_zero(const uint8_t *p, size_t len) {
    size_t n = SRN_MIN(len, (size_t)4096);
    for (size_t i = 0; i < n; i++)
        if (p[i]) return false;
    return true;
}

int srn_gguf_check_head(const uint8_t *p, size_t n, const char *name, srn_err *err) {
    return n >= 4 && memcmp(p, "GGUF", 4) == 0 ? SRN_OK : srn__not_gguf(p, n, name, err);
}

int srn__not_gguf(const uint8_t *p, size_t len, const char *name, srn_err *err) {
    const char *is = NULL, *to_do = "give the path of a .gguf file";
    if (len == 0) return srn_fail(err, SRN_EFORMAT, "%s: the file is empty; download it again", name);
    for (size_t i = 0; i < SRN_LEN(magics) && !is; i++)
        if (len >= magics[i].n && memcmp(p, magics[i].bytes, magics[i].n) == 0)
            is = magics[i].is, to_do = magics[i].to_do;
    if (!is && is_safetensors(p, len)) is = "a safetensors file", to_do = convert;
    if (!is && find_text(p, len, &is, &to_do))
        return srn_fail(err, SRN_EFORMAT, "%s: not a GGUF file: it seems to be %s; %s", name, is, to_do);
    if (!is && all_zero(p, len))
        is = "a file of zeros, perhaps an unfinished download", to_do = "download it again";
    if (!is && len < 4 && memcmp(p, "GGUF", len) == 0)
        is = "the first bytes of one, cut off", to_do = "download it again";
    if (is) return srn_fail(err, SRN_EFORMAT, "%s: not a GGUF file: it seems to be %s; %s", name, is, to_do);
    char hex[9] = "";
    srn_hex(p, SRN_MIN(len, (size_t)4), hex);
    return srn_fail(err, SRN_EFORMAT,
                    "%s: not a GGUF file: it begins with the bytes %s and not with 'GGUF'; %s", name, hex,
                    to_do);
}
