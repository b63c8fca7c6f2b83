/* dequant_tool: lets Python tests reach the quant room, which libserin does not export.
 *
 *   dequant_tool values TYPE   blocks on standard input, f32 of every weight on standard output
 *   dequant_tool groups TYPE   the same, as srn_group structs (56 bytes each)
 *   dequant_tool table         one line per type id: id name elems bytes form q_min q_max, or id name refused
 *   dequant_tool f32-to-f16 | f16-to-f32 | bf16-to-f32   raw numbers in, raw numbers out
 *
 * TYPE is a name or an id. Exit code 2 for bad usage or a part of a block.
 */
#include <stdlib.h>

#include "quant/quant.h"

#define INPUT_MAX ((size_t)256 << 20)

static int fail(const char *what, const char *detail) {
    fprintf(stderr, "dequant_tool: %s %s\n", what, detail);
    return 2;
}

static const srn_type_info *type_named(const char *name, srn_type *ret_type) {
    for (uint32_t id = 0; id < SRN_TYPE_END; id++) {
        const srn_type_info *t = srn_type_get(id);
        if (!t || t->refused || strcmp(t->name, name) != 0) continue;
        *ret_type = (srn_type)id;
        return t;
    }
    return NULL;
}

static int print_table(void) {
    for (uint32_t id = 0; id < 1000; id++) {
        const srn_type_info *t = srn_type_get(id);
        if (!t) continue;
        if (t->refused)
            printf("%u\t%s\trefused\t%s\n", id, t->name, t->refused);
        else
            printf("%u\t%s\t%d\t%d\t%d\t%d\t%d\n", id, t->name, t->block_elems, t->block_bytes, (int)t->form,
                   t->q_min, t->q_max);
    }
    return 0;
}

static int convert(const char *how, const char *in, size_t len) {
    size_t from = strcmp(how, "f32-to-f16") == 0 ? 4 : 2;
    for (size_t i = 0; i + from <= len; i += from) {
        uint16_t h;
        float f;
        memcpy(&h, in + i, 2);
        if (from == 4) {
            memcpy(&f, in + i, 4);
            h = srn_f32_to_f16(f);
            fwrite(&h, 2, 1, stdout);
            continue;
        }
        f = how[0] == 'b' ? srn_bf16_to_f32(h) : srn_f16_to_f32(h);
        fwrite(&f, 4, 1, stdout);
    }
    return 0;
}

static int decode(const char *how, const char *name, const char *in, size_t len) {
    srn_type type = SRN_F32;
    const srn_type_info *t = type_named(name, &type);
    if (!t) return fail("no such type:", name);
    if (len == 0 || len % t->block_bytes != 0) return fail("not a whole number of blocks of", name);
    bool groups = strcmp(how, "groups") == 0;
    if (groups && t->form <= SRN_FORM_FLOAT) return fail("no integer codes in", name);
    size_t n = len / t->block_bytes * t->block_elems;
    size_t count = groups ? n / 32 : n, size = groups ? sizeof(srn_group) : sizeof(float);
    void *out = srn_calloc(count, size);
    if (!out) return fail("out of memory for", name);
    memset(out, 0xA5, count * size);
    if (groups)
        srn_group_decode(type, in, out, n);
    else
        srn_dequant(type, in, out, n);
    size_t written = fwrite(out, size, count, stdout);
    free(out);
    return written == count ? 0 : fail("cannot write the result of", name);
}

int main(int argc, char **argv) {
    if (argc == 2 && strcmp(argv[1], "table") == 0) return print_table();
    if (argc != 2 && argc != 3) return fail("usage:", "(values | groups) TYPE | table | f32-to-f16 | ...");
    char *in = NULL;
    size_t len = 0;
    srn_err err;
    if (srn_read_file("-", INPUT_MAX, &in, &len, &err) != SRN_OK) return fail("standard input:", err.text);
    int rc = argc == 2 ? convert(argv[1], in, len) : decode(argv[1], argv[2], in, len);
    free(in);
    return rc;
}
