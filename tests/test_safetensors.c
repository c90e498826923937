// safetensors: what we write reads back, and every rule of the format refuses the file that breaks it.
#include <math.h>

#include "data/safetensors.h"
#include "tests/reference/reference.h"
#include "tests/test.h"

static void write_bytes(const char *path, const void *bytes, size_t size) {
    FileWriter writer;
    Errors errors = {0};
    assert_true(file_create(&writer, path, &errors));
    file_write(&writer, bytes, size);
    assert_true(file_finish(&writer, NULL, &errors));
}

// A file of this header (its length before it) and `data` zero bytes.
static void write_file(const char *path, const char *header, size_t data) {
    Text text = {0};
    uint64_t length = strlen(header);
    text_append(&text, &length, sizeof length);
    text_add(&text, header);
    for (size_t i = 0; i < data; i++) text_append(&text, "", 1);
    write_bytes(path, text.data, text.size);
    text_close(&text);
}

static char *path_of(char path[4096], const char *name) {
    path_join(path, test_folder("safetensors"), name);
    return path;
}

TEST(the_formats_own_example) {
    static const char header[] = "{\"test\":{\"dtype\":\"I32\",\"shape\":[2,2],\"data_offsets\":[0,16]}}";
    char path[4096];
    Errors errors = {0};
    assert_int_equal(sizeof header - 1, 0x3c);
    write_file(path_of(path, "example"), header, 16);
    Safetensors *st = safetensors_open(path, EXIT_DATA, &errors);
    assert_non_null(st);
    assert_int_equal(safetensors_count(st), 1);
    Tensor test = safetensors_find(st, "test");
    assert_int_equal(test.dtype, DTYPE_I32);
    assert_int_equal(test.shape[0] * test.shape[1], 4);
    assert_false(tensor_present(safetensors_find(st, "Test")));
    safetensors_close(st);
}

#define ENTRY(dtype, shape, offsets) \
    "{\"t\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":" offsets "}}"

TEST(every_rule_refuses) {
    static const struct {
        const char *header;
        size_t data;
        const char *says;
    } rows[] = {
        {"[]", 0, "must begin with {"},
        {" {}", 0, "must begin with {"},
        {"{", 0, ":1:"},
        {"{} {}", 0, ":1:"},
        {"{\"t\": 1}", 0, "exactly dtype, shape and data_offsets"},
        {"{\"t\":{\"dtype\":\"F32\",\"shape\":[1]}}", 4, "exactly dtype, shape and data_offsets"},
        {"{\"t\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4],\"x\":1}}", 4, "exactly"},
        {ENTRY("F33", "[1]", "[0,4]"), 4, "unknown dtype"},
        {ENTRY("F32", "[-1]", "[0,4]"), 4, "non-negative"},
        {ENTRY("F32", "[1.5]", "[0,4]"), 4, "non-negative"},
        {ENTRY("F32", "[1,1,1,1,1,1,1,1,1]", "[0,4]"), 4, "at most 8"},
        {ENTRY("F32", "[1]", "[0]"), 4, "two ascending"},
        {ENTRY("F32", "[1]", "[4,0]"), 4, "two ascending"},
        {ENTRY("F32", "[1]", "[0,1e400]"), 4, ":1:"},
        {ENTRY("F32", "[2]", "[0,4]"), 4, "do not agree"},
        {ENTRY("F32", "[4294967296,4294967296]", "[0,0]"), 0, "do not agree"},
        {ENTRY("F4", "[3]", "[0,1]"), 1, "do not agree"},
        {ENTRY("F32", "[1]", "[4,8]"), 8, "a hole or overlap"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},"
         "\"b\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[1,3]}}", 3, "a hole or overlap"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},"
         "\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1, ":1:"},
        {ENTRY("F32", "[1]", "[0,4]"), 3, "cut short"},
        {ENTRY("F32", "[1]", "[0,4]"), 5, "cut short or added to"},
        {"{\"__metadata__\":{\"a\":1}}", 0, "strings to strings"},
        {"{\"t\\u0000\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4, ":1:"},
    };
    char path[4096];
    path_of(path, "refused");
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        Errors errors = {0};
        write_file(path, rows[i].header, rows[i].data);
        assert_null(safetensors_open(path, EXIT_CHECKPOINT, &errors));
        assert_int_equal(errors.exit_code, EXIT_CHECKPOINT);
        const char *text = text_string(&errors.text);
        if (!strstr(text, rows[i].says) || !strstr(text, path)) fail_msg("row %zu says: %s", i, text);
        errors_close(&errors);
    }
}

// What scripts/oracles/make_bad_files.py writes, all of it; a file's number is that of the rule it breaks. NULL: good.
static const struct {
    const char *file, *says;
} bad_files[] = {
    {"00_good", NULL},
    {"01_seven_bytes", "shorter than the 8 bytes"},
    {"02_header_above_100_mb", "length is over 100 MB"},
    {"02_header_of_2_to_the_64", "length is over 100 MB"},
    {"03_header_beyond_the_file", "the header is longer than the file"},
    {"04_not_utf8", ":1:3: this byte is not valid UTF-8"},
    {"04_overlong_utf8", ":1:3: this byte is not valid UTF-8"},
    {"05_begins_with_space", "must begin with {"},
    {"05_begins_with_bracket", "must begin with {"},
    {"05_empty_header", "must begin with {"},
    {"05_text_behind", "expected nothing more after the value"},
    {"05_zero_behind", "expected nothing more after the value"},
    {"05_no_end", "expected \",\" or \"}\""},
    {"05_name_twice", "the key \"t\" stands here a second time"},
    {"05_key_twice", "the key \"shape\" stands here a second time"},
    {"05_metadata_key_twice", "the key \"a\" stands here a second time"},
    {"05_nested_65_deep", "nested deeper than 64 levels"},
    {"06_entry_is_a_number", "t: expected exactly dtype, shape and data_offsets"},
    {"06_no_offsets", "t: expected exactly"},
    {"06_one_member_more", "t: expected exactly"},
    {"06_another_member", "t: data_offsets must be two ascending integers"},
    {"06_unknown_dtype", "t: unknown dtype"},
    {"06_dtype_is_a_number", "t: unknown dtype"},
    {"06_shape_is_a_number", "t: shape must be at most 8 non-negative integers"},
    {"06_size_is_a_string", "t: shape must be"},
    {"06_three_offsets", "t: data_offsets must be"},
    {"06_metadata_is_a_list", "__metadata__: must map strings to strings"},
    {"06_metadata_holds_a_number", "__metadata__: must map"},
    {"06_metadata_holds_an_object", "__metadata__: must map"},
    {"07_hole_first", "t: data_offsets leave a hole or overlap"},
    {"07_hole_between", "b: data_offsets leave a hole or overlap"},
    {"07_overlap", "b: data_offsets leave a hole or overlap"},
    {"07_same_bytes_twice", ": data_offsets leave a hole or overlap"},
    {"07_end_before_begin", "t: data_offsets must be two ascending integers"},
    {"08_product_overflows", "t: dtype and shape do not agree with data_offsets"},
    {"08_bits_overflow", "t: dtype and shape do not agree"},
    {"08_size_disagrees", "t: dtype and shape do not agree"},
    {"08_half_a_byte", "t: dtype and shape do not agree"},
    {"08_six_bits", "t: dtype and shape do not agree"},
    {"09_cut_short", "1 bytes of data, the file has 0; it was cut short"},
    {"09_a_byte_more", "1 bytes of data, the file has 2"},
    {"09_no_tensors_but_data", "0 bytes of data, the file has 1"},
    {"10_name_with_zero", "\\u0000 is not allowed"},
    {"10_name_with_escape", "the tensor \"\\x1b]0;gone\\x07\\x1b[2Jt\": a name has 1 to 159 printable"},
    {"10_name_with_new_line", "the tensor \"t\\x0aall is well\": a name has"},
    {"10_name_with_delete", "the tensor \"\\x7ft\": a name has"},
    {"10_name_with_c1", "the tensor \"\\xc2\\x9b2Jt\": a name has"},
    {"10_name_turned_around", "\\xe2\\x80\\xaet\": a name has 1 to 159 printable"},
    {"10_name_empty", "the tensor \"\": a name has"},
    {"10_name_of_160", "t...\": a name has"},
    {"10_nine_dimensions", "t: shape must be at most 8"},
    {"11_above_2_to_the_53", "t: shape must be"},
    {"11_at_2_to_the_53", "t: shape must be"},
    {"11_negative_size", "t: shape must be"},
    {"11_negative_offset", "t: data_offsets must be"},
    {"11_fraction", "t: shape must be"},
    {"11_offset_is_a_fraction", "t: data_offsets must be"},
    {"11_infinite", "the number is too large"},
    {"11_huge", "t: shape must be"},
};
enum { BAD_FILES = sizeof bad_files / sizeof bad_files[0] };

TEST(every_bad_file_is_refused_in_its_own_words) {
    TextList names = {0};
    Errors errors = {0};
    assert_true(directory_list(&names, "tests/bad/safetensors", &errors));
    assert_int_equal(names.count, BAD_FILES);
    for (int i = 0; i < BAD_FILES; i++) {
        char path[4096];
        snprintf(path, sizeof path, "tests/bad/safetensors/%s.safetensors", bad_files[i].file);
        Safetensors *st = safetensors_open(path, EXIT_CHECKPOINT, &errors);
        const char *text = text_string(&errors.text);
        if (!st != (bad_files[i].says != NULL)) fail_msg("%s: %s", path, st ? "was believed" : text);
        if (!st) assert_int_equal(errors.exit_code, EXIT_CHECKPOINT);
        if (!st && (!strstr(text, bad_files[i].says) || !strstr(text, path))) fail_msg("%s says: %s", path, text);
        for (const char *c = text; *c; c++) assert_true((unsigned char)*c >= ' ' || *c == '\n');
        errors_close(&errors);
        safetensors_close(st);
    }
    text_list_close(&names);
}

// As many tensors as a file may have are found by name, one more is refused; nothing takes the square of their count.
TEST(tensors_are_counted) {
    enum { MOST = 65536 };
    char path[4096];
    path_of(path, "many");
    for (int count = MOST; count <= MOST + 1; count++) {
        Text header = {0};
        Errors errors = {0};
        for (int i = 0; i < count; i++)
            text_printf(&header, "%c\"t%d\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}",
                        i ? ',' : '{', i);
        text_add(&header, "}");
        write_file(path, text_string(&header), 0);
        text_close(&header);
        Safetensors *st = safetensors_open(path, EXIT_DATA, &errors);
        assert_true((st != NULL) == (count == MOST));
        if (!st) assert_non_null(strstr(text_string(&errors.text), "more than 65536 tensors"));
        if (st) {
            assert_int_equal(safetensors_count(st), MOST);
            assert_false(safetensors_read(st, &reference_kernels, NULL, 0, &errors));
            assert_int_equal(errors.count, MOST);
            assert_true(errors.text.size < (1 << 16)); // not all of them are told
            assert_non_null(strstr(text_string(&errors.text), "nothing here is called t0\n"));
            assert_non_null(strstr(text_string(&errors.text), "there are more mistakes"));
        }
        safetensors_close(st);
        errors_close(&errors);
    }
}

TEST(lengths_that_lie_are_refused) {
    static const uint64_t lengths[] = {0, 1, 100, 100000001, UINT64_MAX, UINT64_MAX - 7};
    char path[4096], bytes[24] = {0};
    path_of(path, "lengths");
    for (size_t size = 0; size < 8; size++) {
        Errors errors = {0};
        write_bytes(path, bytes, size);
        assert_null(safetensors_open(path, EXIT_DATA, &errors));
        errors_close(&errors);
    }
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        Errors errors = {0};
        memcpy(bytes, &lengths[i], sizeof lengths[i]);
        write_bytes(path, bytes, sizeof bytes);
        assert_null(safetensors_open(path, EXIT_DATA, &errors));
        errors_close(&errors);
    }
}

// ---- round trips ----

enum { ROWS = 33, COLUMNS = 65 };

static void fill(void *values, DType dtype, int64_t count, double scale) {
    for (int64_t i = 0; i < count; i++) {
        float value = (float)(scale * sin((double)i));
        dtype_convert((char *)values + i * (int64_t)dtype_bytes(dtype), dtype, &value, DTYPE_F32, 1);
    }
}

static void round_trip(DType memory, DType file_dtype, bool transposed) {
    static double in[ROWS * COLUMNS], out[ROWS * COLUMNS];
    char path[4096];
    FileWriter writer;
    Errors errors = {0};
    fill(in, memory, ROWS * COLUMNS, 3);
    memset(out, 0x5a, sizeof out);
    NamedTensor named[] = {{.name = "b", .tensor = tensor_2d(in, memory, ROWS, COLUMNS), .transposed = transposed},
                           {.name = "a", .tensor = tensor_1d(NULL, memory, 5), .zero = true}};
    assert_true(file_create(&writer, path_of(path, "round"), &errors));
    assert_true(safetensors_write(&writer, &reference_kernels, named, 2, file_dtype));
    assert_true(file_finish(&writer, NULL, &errors));
    Safetensors *st = safetensors_open(path, EXIT_DATA, &errors);
    if (!st) fail_msg("%s", text_string(&errors.text));
    Tensor found = safetensors_find(st, "b");
    assert_int_equal(found.dtype, file_dtype);
    assert_int_equal(found.shape[0], transposed ? COLUMNS : ROWS);
    assert_int_equal((uintptr_t)safetensors_find(st, "a").data % 4096, 0); // the data begins on a page
    named[0].tensor.data = out;
    assert_true(safetensors_read(st, &reference_kernels, named, 2, &errors));
    double tolerance = memory == DTYPE_BF16 || file_dtype == DTYPE_BF16 ? 0x1p-7
                       : memory == file_dtype                           ? 0
                       : file_dtype == DTYPE_F16                        ? 0x1p-10
                                                                        : 1e-6;
    for (int64_t i = 0; i < ROWS * COLUMNS; i++) {
        double x, y;
        int64_t at = i * (int64_t)dtype_bytes(memory);
        dtype_convert(&x, DTYPE_F64, (char *)in + at, memory, 1);
        dtype_convert(&y, DTYPE_F64, (char *)out + at, memory, 1);
        CHECK_CLOSE(x, y, tolerance * 3);
    }
    safetensors_close(st);
}

TEST(tensors_come_back_in_every_dtype) {
    static const DType dtypes[] = {DTYPE_F32, DTYPE_F64, DTYPE_BF16, DTYPE_F16};
    for (int memory = 0; memory < 3; memory++) // kernels see no F16
        for (int file = 0; file < 4; file++)
            for (int transposed = 0; transposed < 2; transposed++) round_trip(dtypes[memory], dtypes[file], transposed);
}

TEST(data_may_begin_at_any_byte) {
    static const double values[6] = {0.5, -1, 2, -4, 8, -16}; // exact in every dtype
    static const DType dtypes[] = {DTYPE_F32, DTYPE_F64, DTYPE_BF16, DTYPE_F16};
    static const char *const names[] = {"F32", "F64", "BF16", "F16"};
    char path[4096];
    path_of(path, "odd");
    for (int trial = 0; trial < 12 * 8; trial++) {
        int file = trial % 4, memory = trial / 4 % 3;
        size_t bytes = sizeof values / 8 * dtype_bytes(dtypes[file]);
        double raw[6], out[6], found[6];
        dtype_convert(raw, dtypes[file], values, DTYPE_F64, 6);
        Text text = {0};
        uint64_t length = 0;
        text_append(&text, &length, sizeof length);
        text_printf(&text, "{\"t\":{\"dtype\":\"%s\",\"shape\":[2,3],\"data_offsets\":[0,%zu]}}%*s", names[file], bytes,
                    trial / 12, "");
        length = text.size - sizeof length;
        memcpy(text.data, &length, sizeof length);
        text_append(&text, raw, bytes);
        write_bytes(path, text.data, text.size);
        text_close(&text);
        Errors errors = {0};
        Safetensors *st = safetensors_open(path, EXIT_DATA, &errors);
        if (!st) fail_msg("%s", text_string(&errors.text));
        for (int transposed = 0; transposed < 2; transposed++) {
            NamedTensor named = {.name = "t", .transposed = transposed,
                                 .tensor = tensor_2d(out, dtypes[memory], transposed ? 3 : 2, transposed ? 2 : 3)};
            assert_true(safetensors_read(st, &reference_kernels, &named, 1, &errors));
            dtype_convert(found, DTYPE_F64, out, dtypes[memory], 6);
            for (int i = 0; i < 6; i++) assert_true(found[transposed ? i % 3 * 2 + i / 3 : i] == values[i]);
        }
        safetensors_close(st);
    }
}

TEST(matrices_are_transposed_piece_by_piece) {
    enum { LONG = 1500, WIDE = 1601 }; // together more than the elements of a piece
    float *in = test_take(LONG * WIDE * sizeof *in), *out = test_take(LONG * WIDE * sizeof *out);
    char path[4096];
    FileWriter writer;
    Errors errors = {0};
    for (int i = 0; i < LONG * WIDE; i++) in[i] = (float)i;
    NamedTensor named = {.name = "t", .tensor = tensor_2d(in, DTYPE_F32, LONG, WIDE), .transposed = true};
    assert_true(file_create(&writer, path_of(path, "pieces"), &errors));
    assert_true(safetensors_write(&writer, &reference_kernels, &named, 1, DTYPE_F32));
    assert_true(file_finish(&writer, NULL, &errors));
    Safetensors *st = safetensors_open(path, EXIT_DATA, &errors);
    if (!st) fail_msg("%s", text_string(&errors.text));
    const char *turned = safetensors_find(st, "t").data;
    for (int c = 0; c < WIDE; c += 7)
        for (int r = 0; r < LONG; r++) {
            float value;
            memcpy(&value, turned + ((size_t)c * LONG + (size_t)r) * sizeof value, sizeof value);
            assert_true(value == in[r * WIDE + c]);
        }
    named.tensor.data = out;
    assert_true(safetensors_read(st, &reference_kernels, &named, 1, &errors));
    assert_memory_equal(in, out, LONG * WIDE * sizeof *in);
    safetensors_close(st);
    free(in);
    free(out);
}

TEST(each_tensor_may_keep_its_own_dtype) {
    static const DType dtypes[] = {DTYPE_F32, DTYPE_F64, DTYPE_BF16, DTYPE_F16};
    static unsigned char bytes[4][6 * 8];
    char path[4096];
    FileWriter writer;
    Errors errors = {0};
    NamedTensor named[4];
    for (int i = 0; i < 4; i++) {
        for (size_t b = 0; b < sizeof bytes[i]; b++) bytes[i][b] = (unsigned char)(31 * b + 7 * (size_t)i);
        named[i] = (NamedTensor){.tensor = tensor_2d(bytes[i], dtypes[i], 2, 3)};
        snprintf(named[i].name, sizeof named[i].name, "t%d", i);
    }
    assert_true(file_create(&writer, path_of(path, "own"), &errors));
    assert_true(safetensors_write(&writer, NULL, named, 4, DTYPE_OWN));
    assert_true(file_finish(&writer, NULL, &errors));
    Safetensors *st = safetensors_open(path, EXIT_DATA, &errors);
    if (!st) fail_msg("%s", text_string(&errors.text));
    for (int i = 0; i < 4; i++) {
        Tensor found = safetensors_find(st, named[i].name);
        assert_int_equal(found.dtype, dtypes[i]);
        assert_memory_equal(found.data, bytes[i], tensor_size_bytes(found));
    }
    safetensors_close(st);
}

TEST(everything_that_does_not_fit_is_named_before_anything_is_read) {
    static float values[6] = {1, 2, 3, 4, 5, 6}, out[6];
    char path[4096];
    FileWriter writer;
    Errors errors = {0};
    NamedTensor written[] = {{.name = "same", .tensor = tensor_2d(values, DTYPE_F32, 2, 3)},
                             {.name = "turned", .tensor = tensor_2d(values, DTYPE_F32, 2, 3)},
                             {.name = "extra", .tensor = tensor_1d(values, DTYPE_F32, 6)}};
    NamedTensor wanted[] = {{.name = "same", .tensor = tensor_2d(out, DTYPE_F32, 2, 3)},
                            {.name = "turned", .tensor = tensor_2d(out, DTYPE_F32, 3, 2)},
                            {.name = "missing", .tensor = tensor_1d(out, DTYPE_F32, 6)}};
    assert_true(file_create(&writer, path_of(path, "fit"), &errors));
    assert_true(safetensors_write(&writer, &reference_kernels, written, 3, DTYPE_F32));
    assert_true(file_finish(&writer, NULL, &errors));
    Safetensors *st = safetensors_open(path, EXIT_DATA, &errors);
    assert_false(safetensors_read(st, &reference_kernels, wanted, 3, &errors));
    assert_int_equal(errors.count, 3);
    assert_non_null(strstr(text_string(&errors.text), "turned has shape (2, 3), expected (3, 2)"));
    assert_non_null(strstr(text_string(&errors.text), "no tensor missing"));
    assert_non_null(strstr(text_string(&errors.text), "extra"));
    for (int i = 0; i < 6; i++) assert_true(out[i] == 0);
    errors_close(&errors);
    safetensors_close(st);
}

TEST(shapes_and_dtypes_that_do_not_fit_are_told_as_they_are) {
    static const struct {
        const char *header;
        size_t data;
        const char *says; // NULL: it fits
    } rows[] = {
        {ENTRY("F32", "[1,1,1,1,2]", "[0,8]"), 8, "t has shape (1, 1, 1, 1, 2), expected (1)"},
        {ENTRY("F32", "[0]", "[0,0]"), 0, "t has shape (0), expected (1)"},
        {ENTRY("F32", "[1,1]", "[0,4]"), 4, "t has shape (1, 1), expected (1)"},
        {ENTRY("I16", "[0]", "[0,0]"), 0, "t is I16, expected F32, F64, BF16 or F16"},
        {ENTRY("I64", "[1]", "[0,8]"), 8, "t is I64, expected F32, F64, BF16 or F16"},
        {ENTRY("F32", "[]", "[0,4]"), 4, NULL},
        {ENTRY("F32", "[1]", "[0,4]"), 4, NULL},
    };
    char path[4096];
    path_of(path, "shapes");
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        Errors errors = {0};
        float number = 1;
        NamedTensor named = {.name = "t", .tensor = tensor_1d(&number, DTYPE_F32, 1)};
        write_file(path, rows[i].header, rows[i].data);
        Safetensors *st = safetensors_open(path, EXIT_DATA, &errors);
        assert_non_null(st);
        assert_int_equal(safetensors_read(st, &reference_kernels, &named, 1, &errors), rows[i].says == NULL);
        if (rows[i].says && !strstr(text_string(&errors.text), rows[i].says))
            fail_msg("row %zu says: %s", i, text_string(&errors.text));
        assert_true(rows[i].says || number == 0);
        errors_close(&errors);
        safetensors_close(st);
    }
}
