/* format: the GGUF parser on images built in memory: what it reads, and each thing that it refuses. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>

#include "unit/gguf_image.h"

/* ---- helpers ---- */

typedef struct parsed {
    void *bytes;
    srn_weights *w;
    int code;
    srn_err err;
} parsed;

static parsed parse(image *g) {
    parsed p = {0};
    p.code = image_parse(g, &p.bytes, &p.w, &p.err);
    image_done(g);
    return p;
}

static void parsed_done(parsed *p) {
    srn_weights_free(p->w);
    free(p->bytes);
}

/* The image must be refused with the code and a sentence that holds every one of the words. */
static void assert_refused(image *g, int code, const char *words[], size_t n) {
    parsed p = parse(g);
    if (p.code != code) print_message("code %d, expected %d: %s\n", p.code, code, p.err.text);
    assert_int_equal(p.code, code);
    assert_null(p.w);
    for (size_t i = 0; i < n; i++) {
        if (!strstr(p.err.text, words[i])) print_message("'%s' is not in: %s\n", words[i], p.err.text);
        assert_non_null(strstr(p.err.text, words[i]));
    }
    parsed_done(&p);
}
#define REFUSED(g, code, ...)                                                                                \
    assert_refused(g, code, (const char *[]){__VA_ARGS__}, SRN_LEN(((const char *[]){__VA_ARGS__})))

/* Two tensors and a few keys: the base of most tests. */
static image small_model(void) {
    image g;
    image_init(&g);
    key_str(&g, "general.architecture", "llama");
    key_u32(&g, "llama.block_count", 2);
    tensor(&g, "token_embd.weight", SRN_Q8_0, 64, 3, 0x11);
    tensor(&g, "output_norm.weight", SRN_F32, 10, 1, 0x22);
    return g;
}

/* ---- what is read ---- */

static void every_kind_of_value_is_read(void **state) {
    (void)state;
    image g;
    image_init(&g);
    key_int(&g, "u8", SRN_META_U8, 200);
    key_int(&g, "i8", SRN_META_I8, 0x80);
    key_int(&g, "u16", SRN_META_U16, 65535);
    key_int(&g, "i16", SRN_META_I16, 0xFFFE);
    key_int(&g, "u32", SRN_META_U32, 4000000000u);
    key_int(&g, "i32", SRN_META_I32, 0xFFFFFFFD);
    key_int(&g, "u64", SRN_META_U64, UINT64_MAX);
    key_int(&g, "i64", SRN_META_I64, (uint64_t)-5);
    key_int(&g, "bool", SRN_META_BOOL, 1);
    key_f32(&g, "f32", 1.5f);
    key_f64(&g, "f64", -2.25);
    key_str(&g, "str", "gr\xc3\xbc\xc3\x9f");
    parsed p = parse(&g);
    assert_int_equal(p.code, SRN_OK);
    assert_int_equal(srn_meta_count(p.w), 12);
    int64_t i;
    uint64_t u;
    double f;
    bool b;
    srn_str s;
    const struct {
        const char *key;
        int64_t value;
    } ints[] = {{"u8", 200},         {"i8", -128}, {"u16", 65535}, {"i16", -2},
                {"u32", 4000000000}, {"i32", -3},  {"i64", -5}};
    for (size_t k = 0; k < SRN_LEN(ints); k++) {
        assert_int_equal(srn_meta_i64(p.w, ints[k].key, &i, &p.err), SRN_OK);
        assert_int_equal(i, ints[k].value);
    }
    assert_int_equal(srn_meta_u64(p.w, "u64", &u, &p.err), SRN_OK);
    assert_true(u == UINT64_MAX);
    assert_int_equal(srn_meta_bool(p.w, "bool", &b, &p.err), SRN_OK);
    assert_true(b);
    assert_int_equal(srn_meta_f64(p.w, "f32", &f, &p.err), SRN_OK);
    assert_true(f == 1.5);
    assert_int_equal(srn_meta_f64(p.w, "f64", &f, &p.err), SRN_OK);
    assert_true(f == -2.25);
    assert_int_equal(srn_meta_f64(p.w, "i16", &f, &p.err), SRN_OK);
    assert_true(f == -2);
    assert_int_equal(srn_meta_str(p.w, "str", &s, &p.err), SRN_OK);
    assert_true(srn_str_eqz(s, "gr\xc3\xbc\xc3\x9f"));
    parsed_done(&p);
}

static void arrays_are_read_element_by_element(void **state) {
    (void)state;
    image g;
    image_init(&g);
    key_array(&g, "i16s", SRN_META_I16, 3);
    put_le(&g.keys, 1, 2), put_le(&g.keys, 0xFFFF, 2), put_le(&g.keys, 0x8000, 2);
    key_array(&g, "f32s", SRN_META_F32, 1);
    put_le(&g.keys, 0x40490FDB, 4);
    key_array(&g, "bools", SRN_META_BOOL, 2);
    put_le(&g.keys, 0x0100, 2);
    key_array(&g, "u64s", SRN_META_U64, 1);
    put_le(&g.keys, UINT64_MAX, 8);
    key_array(&g, "f64s", SRN_META_F64, 2);
    put_le(&g.keys, 0x7FF8000000000000, 8), put_le(&g.keys, 0x7FF0000000000000, 8);
    key_array(&g, "strs", SRN_META_STR, 3);
    put_str(&g.keys, SRN_STR("a")), put_str(&g.keys, SRN_STR("")), put_str(&g.keys, SRN_STR("b\0\xff"));
    key_array(&g, "none", SRN_META_STR, 0);
    parsed p = parse(&g);
    assert_int_equal(p.code, SRN_OK);
    const srn_meta *m = srn_meta_find(p.w, "i16s");
    assert_int_equal(m->count, 3);
    assert_int_equal(srn_meta_elem_i64(m, 1), -1);
    assert_int_equal(srn_meta_elem_i64(m, 2), -32768);
    assert_true(srn_meta_elem_f64(m, 2) == -32768);
    assert_true(srn_meta_elem_f64(srn_meta_find(p.w, "f32s"), 0) == (double)3.14159274f);
    assert_int_equal(srn_meta_elem_i64(srn_meta_find(p.w, "f32s"), 0), 3);
    assert_int_equal(srn_meta_elem_i64(srn_meta_find(p.w, "bools"), 0), 0);
    assert_int_equal(srn_meta_elem_i64(srn_meta_find(p.w, "bools"), 1), 1);
    assert_true(srn_meta_elem_i64(srn_meta_find(p.w, "u64s"), 0) == INT64_MAX);
    assert_int_equal(srn_meta_elem_i64(srn_meta_find(p.w, "f64s"), 0), 0);
    assert_true(srn_meta_elem_i64(srn_meta_find(p.w, "f64s"), 1) == INT64_MAX);
    const srn_str *strs;
    size_t n;
    assert_int_equal(srn_meta_strs(p.w, "strs", &strs, &n, &p.err), SRN_OK);
    assert_int_equal(n, 3);
    assert_true(srn_str_eq(strs[2], SRN_STR("b\0\xff")));
    assert_int_equal(srn_meta_strs(p.w, "none", &strs, &n, &p.err), SRN_OK);
    assert_int_equal(n, 0);
    parsed_done(&p);
}

static void look_ups_tell_absent_from_wrong(void **state) {
    (void)state;
    image g;
    image_init(&g);
    key_str(&g, "name", "x");
    key_int(&g, "negative", SRN_META_I32, 0xFFFFFFFF);
    key_int(&g, "huge", SRN_META_U64, UINT64_MAX);
    key_array(&g, "ids", SRN_META_I32, 0);
    parsed p = parse(&g);
    uint64_t u = 77;
    int64_t i = 77;
    bool b;
    double f;
    srn_str s;
    const srn_str *strs;
    size_t n;
    assert_int_equal(srn_meta_u64(p.w, "absent", &u, &p.err), SRN_ENOENT);
    assert_int_equal(srn_meta_strs(p.w, "absent", &strs, &n, &p.err), SRN_ENOENT);
    assert_string_equal(p.err.text, "");
    assert_int_equal(srn_meta_u64(p.w, "negative", &u, &p.err), SRN_EFORMAT);
    assert_non_null(strstr(p.err.text, "'negative' must not be negative but is -1"));
    assert_int_equal(srn_meta_i64(p.w, "huge", &i, &p.err), SRN_EFORMAT);
    assert_int_equal(srn_meta_u64(p.w, "name", &u, &p.err), SRN_EFORMAT);
    assert_non_null(strstr(p.err.text, "test.gguf: key 'name' must be an integer but is of type string"));
    assert_int_equal(srn_meta_f64(p.w, "name", &f, &p.err), SRN_EFORMAT);
    assert_int_equal(srn_meta_bool(p.w, "huge", &b, &p.err), SRN_EFORMAT);
    assert_int_equal(srn_meta_str(p.w, "ids", &s, &p.err), SRN_EFORMAT);
    assert_non_null(strstr(p.err.text, "an array of i32"));
    assert_int_equal(srn_meta_strs(p.w, "ids", &strs, &n, &p.err), SRN_EFORMAT);
    assert_int_equal(u, 77);
    assert_int_equal(i, 77);
    assert_null(srn_meta_at(p.w, 4));
    parsed_done(&p);
}

static void tensors_have_shape_place_and_bytes(void **state) {
    (void)state;
    image g = small_model();
    tensor_row(&g, "scalar", SRN_F32, NULL, 0, 288);
    for (int k = 0; k < 64; k++) srn_buf_addc(&g.data, 0x33);
    parsed p = parse(&g);
    assert_int_equal(p.code, SRN_OK);
    assert_int_equal(srn_weights_count(p.w), 3);
    const srn_tensor *t = srn_weights_find(p.w, "token_embd.weight");
    assert_ptr_equal(t, srn_weights_at(p.w, 0));
    assert_int_equal(t->type, SRN_Q8_0);
    assert_int_equal(t->n_dims, 2);
    assert_int_equal(t->ne[0], 64);
    assert_int_equal(t->ne[1], 3);
    assert_int_equal(t->ne[3], 1);
    assert_int_equal(t->n_bytes, 2 * 34 * 3);
    assert_ptr_equal(t->data, (char *)p.bytes + t->offset);
    assert_int_equal(((const uint8_t *)t->data)[t->n_bytes - 1], 0x11);
    t = srn_weights_find(p.w, "output_norm.weight");
    assert_int_equal(t->offset % 32, 0);
    assert_int_equal(((const uint8_t *)t->data)[0], 0x22);
    t = srn_weights_find(p.w, "scalar");
    assert_int_equal(t->n_dims, 1);
    assert_int_equal(t->n_bytes, 4);
    assert_int_equal(((const uint8_t *)t->data)[3], 0x33);
    assert_null(srn_weights_find(p.w, "output_norm.weigh"));
    assert_null(srn_weights_find(p.w, ""));
    assert_null(srn_weights_at(p.w, 3));
    assert_int_equal(srn_weights_parts(p.w), 1);
    assert_string_equal(srn_weights_path(p.w), "test.gguf");
    srn_weights_drop_tensors(p.w); /* of an image in memory: nothing happens */
    assert_int_equal(((const uint8_t *)t->data)[3], 0x33);
    parsed_done(&p);
}

static void thousands_of_names_are_found(void **state) {
    (void)state;
    enum { N = 5000 };
    image g;
    image_init(&g);
    char name[64];
    for (uint32_t i = 0; i < N; i++) {
        snprintf(name, sizeof name, "blk.%u.%u", i / 7, i % 7);
        key_u32(&g, name, i);
        tensor(&g, name, SRN_I8, 1 + i % 3, 1, (uint8_t)i);
    }
    parsed p = parse(&g);
    assert_int_equal(p.code, SRN_OK);
    for (uint32_t i = 0; i < N; i++) {
        uint64_t v = 0;
        snprintf(name, sizeof name, "blk.%u.%u", i / 7, i % 7);
        assert_int_equal(srn_meta_u64(p.w, name, &v, NULL), SRN_OK);
        assert_int_equal(v, i);
        const srn_tensor *t = srn_weights_find(p.w, name);
        assert_non_null(t);
        assert_int_equal(*(const uint8_t *)t->data, (uint8_t)i);
    }
    assert_null(srn_meta_find(p.w, "blk.0.7"));
    parsed_done(&p);
}

static void every_stored_type_is_read_and_every_other_refused_by_name(void **state) {
    (void)state;
    size_t read = 0, refused = 0;
    for (uint32_t id = 0; id < 500; id++) {
        const srn_type_info *info = srn_type_get(id);
        image g;
        image_init(&g);
        if (info && info->name && !info->refused) {
            uint64_t bytes = 0;
            tensor(&g, "t", (srn_type)id, 256, 2, 0x40);
            parsed p = parse(&g);
            assert_int_equal(p.code, SRN_OK);
            assert_true(srn_type_bytes((srn_type)id, 512, &bytes));
            assert_int_equal(srn_weights_at(p.w, 0)->n_bytes, bytes);
            parsed_done(&p);
            read++;
            continue;
        }
        char number[32];
        snprintf(number, sizeof number, info && info->name ? "(%u)" : "type %u is unknown", id);
        tensor_row(&g, "t", id, (uint64_t[]){256, 2}, 2, 0);
        REFUSED(&g, SRN_EUNSUP, "tensor 't'", number, info && info->name ? info->name : "unknown",
                info && info->name ? info->refused : "newer");
        refused++;
    }
    assert_true(read >= 31);
    assert_true(refused > 10);
}

static void versions_and_byte_orders(void **state) {
    (void)state;
    image g = small_model();
    g.version = 2;
    parsed p = parse(&g);
    assert_int_equal(p.code, SRN_OK);
    assert_int_equal(srn_weights_version(p.w), 2);
    parsed_done(&p);
    g = small_model(), g.version = 1;
    REFUSED(&g, SRN_EUNSUP, "version 1;", "convert the model again");
    g = small_model(), g.version = 4;
    REFUSED(&g, SRN_EUNSUP, "version 4;", "newer");
    g = small_model(), g.version = 0;
    REFUSED(&g, SRN_EUNSUP, "version 0;");
    g = small_model(), g.version = 0x03000000;
    REFUSED(&g, SRN_EUNSUP, "big-endian", "gguf-convert-endian");
}

static void alignment_is_obeyed_and_checked(void **state) {
    (void)state;
    image g;
    image_init(&g);
    g.alignment = 128;
    key_u32(&g, "general.alignment", 128);
    tensor(&g, "a", SRN_I8, 5, 1, 1);
    tensor(&g, "b", SRN_I8, 5, 1, 2);
    parsed p = parse(&g);
    assert_int_equal(p.code, SRN_OK);
    assert_int_equal(srn_weights_find(p.w, "a")->offset % 128, 0);
    assert_int_equal(srn_weights_find(p.w, "b")->offset, srn_weights_find(p.w, "a")->offset + 128);
    parsed_done(&p);
    const uint32_t wrong[] = {0, 1, 4, 24, 33, 0xFFFFFFFF};
    for (size_t i = 0; i < SRN_LEN(wrong); i++) {
        g = small_model();
        key_u32(&g, "general.alignment", wrong[i]);
        REFUSED(&g, SRN_EFORMAT, "general.alignment", "power of two");
    }
    g = small_model();
    key_u32(&g, "general.alignment", 1u << 31);
    REFUSED(&g, SRN_ELIMIT, "general.alignment", "limit");
    g = small_model();
    key_str(&g, "general.alignment", "32");
    REFUSED(&g, SRN_EFORMAT, "general.alignment", "string");
    g = small_model();
    tensor_row(&g, "odd", SRN_I8, (uint64_t[]){1}, 1, 257);
    REFUSED(&g, SRN_EFORMAT, "tensor 'odd'", "257", "alignment 32");
}

/* ---- what is refused ---- */

static void every_shorter_file_is_refused(void **state) {
    (void)state;
    image g = small_model();
    key_array(&g, "tokens", SRN_META_STR, 2);
    put_str(&g.keys, SRN_STR("ab")), put_str(&g.keys, SRN_STR("c"));
    key_array(&g, "scores", SRN_META_F32, 2);
    put_le(&g.keys, 0, 8);
    key_int(&g, "flag", SRN_META_BOOL, 0);
    srn_buf whole;
    image_write(&g, &whole);
    image_done(&g);
    for (size_t n = 0; n <= whole.len; n++) {
        srn_err err = {0};
        srn_weights *w = NULL;
        char *cut = malloc(n ? n : 1);
        assert_non_null(cut);
        memcpy(cut, whole.data, n);
        int code = srn_gguf_parse(cut, n, "cut.gguf", &w, &err);
        assert_int_equal(code, n == whole.len ? SRN_OK : SRN_EFORMAT);
        if (code) assert_memory_equal(err.text, "cut.gguf: ", 10);
        srn_weights_free(w);
        free(cut);
    }
    srn_buf_done(&whole);
}

static void counts_that_the_file_cannot_hold_are_refused(void **state) {
    (void)state;
    image g = small_model();
    g.n_keys = 60000;
    REFUSED(&g, SRN_EFORMAT, "cut off");
    g = small_model(), g.n_keys = UINT64_MAX;
    REFUSED(&g, SRN_ELIMIT, "keys", "limit");
    g = small_model(), g.n_tensors = 200000;
    REFUSED(&g, SRN_EFORMAT, "table of tensors", "cut off");
    g = small_model(), g.n_tensors = UINT64_MAX / 2;
    REFUSED(&g, SRN_ELIMIT, "tensors", "limit");
    g = small_model();
    key_array(&g, "tokens", SRN_META_STR, 1 << 25);
    REFUSED(&g, SRN_EFORMAT, "key 'tokens'", "cut off");
    g = small_model();
    key_array(&g, "tokens", SRN_META_F64, UINT64_MAX / 8 + 1);
    REFUSED(&g, SRN_ELIMIT, "key 'tokens'", "limit");
    g = small_model();
    key_begin(&g, "name", SRN_META_STR);
    put_le(&g.keys, UINT64_MAX, 8);
    REFUSED(&g, SRN_EFORMAT, "key 'name'", "cut off");
}

static void names_must_be_clean_and_short(void **state) {
    (void)state;
    static char longer[2048];
    memset(longer, 'x', sizeof longer - 1);
    const char *wrong[] = {"", "a\nb", "\x1b[2J", "\xff", "\xc2\x85"};
    for (size_t i = 0; i < SRN_LEN(wrong); i++) {
        image g = small_model();
        key_u32(&g, wrong[i], 1);
        REFUSED(&g, SRN_EFORMAT, "key '", "printable UTF-8");
        g = small_model();
        tensor_row(&g, wrong[i], SRN_I8, (uint64_t[]){1}, 1, 256);
        REFUSED(&g, SRN_EFORMAT, "tensor '", "printable UTF-8");
    }
    image g = small_model();
    key_u32(&g, longer, 1);
    REFUSED(&g, SRN_ELIMIT, "key 2", "2047 bytes", "limit");
    g = small_model();
    longer[256] = 0;
    tensor_row(&g, longer, SRN_I8, (uint64_t[]){1}, 1, 256);
    REFUSED(&g, SRN_ELIMIT, "tensor 2", "256 bytes", "limit");
    g = small_model();
    put_str(&g.keys, SRN_STR("nu\0l"));
    put_le(&g.keys, SRN_META_U8, 4);
    put_le(&g.keys, 1, 1);
    g.n_keys++;
    REFUSED(&g, SRN_EFORMAT, "key 'nu?l'", "printable UTF-8");
}

static void wrong_values_are_named(void **state) {
    (void)state;
    image g = small_model();
    key_begin(&g, "odd", 13);
    REFUSED(&g, SRN_EFORMAT, "key 'odd'", "value type 13");
    g = small_model();
    key_array(&g, "odd", 99, 0);
    REFUSED(&g, SRN_EFORMAT, "key 'odd'", "element type 99");
    g = small_model();
    key_array(&g, "nested", SRN_META_ARR, 1);
    REFUSED(&g, SRN_EUNSUP, "key 'nested'", "arrays of arrays");
    g = small_model();
    key_int(&g, "flag", SRN_META_BOOL, 2);
    REFUSED(&g, SRN_EFORMAT, "key 'flag'", "0 or 1 but is 2");
    g = small_model();
    key_array(&g, "flags", SRN_META_BOOL, 3);
    put_le(&g.keys, 0x050100, 3);
    REFUSED(&g, SRN_EFORMAT, "key 'flags'", "0 or 1 but is 5");
    g = small_model();
    key_u32(&g, "llama.block_count", 3);
    REFUSED(&g, SRN_EFORMAT, "key 'llama.block_count'", "there twice", "entries 1 and 2");
}

static void wrong_shapes_are_named(void **state) {
    (void)state;
    image g = small_model();
    tensor_row(&g, "t", SRN_F32, (uint64_t[]){1, 1, 1, 1, 1}, 5, 256);
    REFUSED(&g, SRN_ELIMIT, "tensor 't'", "5 dimensions");
    g = small_model();
    tensor_row(&g, "t", SRN_F32, (uint64_t[]){4, 0}, 2, 256);
    REFUSED(&g, SRN_EFORMAT, "tensor 't'", "dimension 1 is 0");
    g = small_model();
    tensor_row(&g, "t", SRN_F32, (uint64_t[]){1u << 31, 1u << 31, 4}, 3, 256);
    REFUSED(&g, SRN_EFORMAT, "tensor 't'", "overflow at dimension 2");
    g = small_model();
    tensor_row(&g, "t", SRN_F64, (uint64_t[]){1u << 31, 1u << 30}, 2, 256);
    REFUSED(&g, SRN_EFORMAT, "tensor 't'", "overflows");
    g = small_model();
    tensor_row(&g, "t", SRN_Q4_K, (uint64_t[]){128, 2}, 2, 256);
    REFUSED(&g, SRN_EFORMAT, "tensor 't'", "rows of 128", "blocks of 256", "Q4_K");
}

static void wrong_places_are_named(void **state) {
    (void)state;
    image g = small_model();
    tensor_row(&g, "far", SRN_F32, (uint64_t[]){8}, 1, 256);
    REFUSED(&g, SRN_EFORMAT, "tensor 'far'", "cut off");
    g = small_model();
    tensor_row(&g, "far", SRN_F32, (uint64_t[]){8}, 1, UINT64_MAX - 31);
    REFUSED(&g, SRN_EFORMAT, "tensor 'far'", "overflows");
    g = small_model();
    tensor_row(&g, "far", SRN_F32, (uint64_t[]){8}, 1, INT64_MAX - 31);
    REFUSED(&g, SRN_EFORMAT, "tensor 'far'", "cut off");
    g = small_model();
    tensor_row(&g, "over", SRN_F32, (uint64_t[]){1}, 1, 192);
    REFUSED(&g, SRN_EFORMAT, "tensor 'over'", "overlaps tensor 'token_embd.weight'");
    g = small_model();
    tensor_row(&g, "output_norm.weight", SRN_F32, (uint64_t[]){1}, 1, 0);
    REFUSED(&g, SRN_EFORMAT, "output_norm.weight");
    g = small_model();
    tensor(&g, "output_norm.weight", SRN_F32, 3, 1, 0);
    REFUSED(&g, SRN_EFORMAT, "tensor 'output_norm.weight' is there twice, at bytes ");
}

static void other_formats_are_recognised(void **state) {
    (void)state;
    static const struct {
        const char *bytes;
        size_t n;
        const char *word;
    } others[] = {
        {"", 0, "empty"},
        {"GG", 2, "cut off"},
        {"version https://git-lfs.github.com/spec/v1\noid", 46, "git lfs pull"},
        {"PK\3\4........", 12, "PyTorch"},
        {"\x80\2}q", 4, "pickle"},
        {"tjgg\3\0\0\0", 8, "GGJT"},
        {"lmgg\1\0\0\0", 8, "GGML"},
        {"\x10\1\0\0\0\0\0\0{\"__metadata__\"", 24, "safetensors"},
        {"  <!DOCTYPE HTML>", 17, "HTML"},
        {"<html>", 6, "HTML"},
        {"{\"error\":1}", 11, "JSON"},
        {"\0\0\0\0\0\0\0\0", 8, "zeros"},
        {"\x1f\x8b\x08\0", 4, "gzip"},
        {"hello", 5, "68656c6c"},
        {"FUGG\0\0\0\3", 8, "big-endian"},
    };
    for (size_t i = 0; i < SRN_LEN(others); i++) {
        srn_err err = {0};
        srn_weights *w = NULL;
        char *exact = malloc(others[i].n ? others[i].n : 1);
        assert_non_null(exact);
        memcpy(exact, others[i].bytes, others[i].n);
        int code = srn_gguf_parse(exact, others[i].n, "f", &w, &err);
        if (!strstr(err.text, others[i].word))
            print_message("'%s' is not in: %s\n", others[i].word, err.text);
        assert_non_null(strstr(err.text, others[i].word));
        assert_int_equal(code, i + 1 == SRN_LEN(others) ? SRN_EUNSUP : SRN_EFORMAT);
        free(exact);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kind_of_value_is_read),
        cmocka_unit_test(arrays_are_read_element_by_element),
        cmocka_unit_test(look_ups_tell_absent_from_wrong),
        cmocka_unit_test(tensors_have_shape_place_and_bytes),
        cmocka_unit_test(thousands_of_names_are_found),
        cmocka_unit_test(every_stored_type_is_read_and_every_other_refused_by_name),
        cmocka_unit_test(versions_and_byte_orders),
        cmocka_unit_test(alignment_is_obeyed_and_checked),
        cmocka_unit_test(every_shorter_file_is_refused),
        cmocka_unit_test(counts_that_the_file_cannot_hold_are_refused),
        cmocka_unit_test(names_must_be_clean_and_short),
        cmocka_unit_test(wrong_values_are_named),
        cmocka_unit_test(wrong_shapes_are_named),
        cmocka_unit_test(wrong_places_are_named),
        cmocka_unit_test(other_formats_are_recognised),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
