// Errors, memory, texts, tensors, arenas and random numbers.
#include <math.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/arena.h"
#include "runtime/error.h"
#include "runtime/integers.h"
#include "runtime/memory.h"
#include "runtime/philox.h"
#include "runtime/tensor.h"
#include "runtime/text.h"
#include "tests/test.h"

// The known answers published with Random123.
TEST(philox_known_answers) {
    static const struct {
        uint32_t counter[4], key[2], expected[4];
    } rows[] = {
        {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, {0xffffffff, 0xffffffff},
         {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0},
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        Philox r = philox(rows[i].counter, rows[i].key);
        assert_memory_equal(r.word, rows[i].expected, sizeof r.word);
    }
}

TEST(philox_normal_is_a_function_of_the_index) {
    enum { COUNT = 1001 };
    float whole[COUNT], piece[COUNT];
    philox_normal(whole, COUNT, 1, 7, STREAM_TEST, 3, 0);
    for (int begin = 0; begin < COUNT; begin += 37) {
        int size = COUNT - begin < 37 ? COUNT - begin : 37;
        philox_normal(piece, size, 1, 7, STREAM_TEST, 3, (uint64_t)begin);
        assert_memory_equal(piece, whole + begin, (size_t)size * sizeof *piece);
    }
}

TEST(philox_normal_does_not_depend_on_the_team) {
    enum { COUNT = 200001 };
    static float whole[COUNT], piece[COUNT];
    philox_normal(whole, COUNT, 1, 7, STREAM_TEST, 3, 5);
    for (int begin = 0; begin < COUNT; begin += 1000)
        philox_normal(piece + begin, COUNT - begin < 1000 ? 1 : 1000, 1, 7, STREAM_TEST, 3, 5 + (uint64_t)begin);
    assert_memory_equal(piece, whole, sizeof whole);
}

TEST(philox_normal_has_its_moments) {
    enum { COUNT = 100000 };
    static float x[COUNT];
    philox_normal(x, COUNT, 2, 1, STREAM_TEST, 0, 0);
    double mean = 0, square = 0, fourth = 0;
    for (int i = 0; i < COUNT; i++) mean += x[i], square += x[i] * x[i], fourth += pow(x[i], 4);
    CHECK_CLOSE(mean / COUNT, 0, 0.03);
    CHECK_CLOSE(square / COUNT, 4, 0.06);
    CHECK_CLOSE(fourth / COUNT / 16, 3, 0.12);
}

TEST(memory_is_zeroed_and_never_null) {
    for (int64_t count = 0; count < 3000; count += 7) {
        char *used = memory_take(count, 1, "a test");
        memset(used, 1, (size_t)count);
        free(used);
        char *taken = memory_take(count, 1, "a test");
        assert_non_null(taken);
        for (int64_t i = 0; i < count; i++) assert_int_equal(taken[i], 0);
        free(taken);
    }
    char *grown = memory_grow(NULL, 0, sizeof(double), "a test");
    assert_non_null(grown);
    grown = memory_grow(grown, 0, 1, "a test"); // which is no free
    assert_non_null(grown);
    free(grown);
    char *string = memory_string("text");
    assert_string_equal(string, "text");
    free(string);
}

TEST(room_in_memory_is_doubled) {
    int64_t *items = NULL, capacity = 0, moves = 0;
    for (int64_t i = 0; i < 5000; i++) {
        int64_t before = capacity;
        items = memory_room(items, i + 1, &capacity, sizeof *items, "a test");
        assert_true(capacity > i);
        moves += capacity != before;
        items[i] = i;
    }
    for (int64_t i = 0; i < 5000; i++) assert_int_equal(items[i], i);
    assert_true(moves < 12);
    items = memory_room(items, 100000, &capacity, sizeof *items, "a test");
    assert_int_equal(capacity, 100000);
    free(items);
}

typedef struct {
    int64_t count;
    size_t size;
    const char *told;
} TooMuch;

static void take_too_much(const void *context) {
    const TooMuch *much = context;
    free(memory_take(much->count, much->size, "numbers"));
}

static void grow_too_much(const void *context) {
    const TooMuch *much = context;
    int64_t capacity = 0;
    free(memory_room(NULL, much->count, &capacity, much->size, "numbers"));
}

TEST(too_much_memory_ends_the_program) {
    static const TooMuch rows[] = {
        {INT64_C(1) << 60, 16, "out of memory: 16777216 TiB (1152921504606846976 of 16 bytes) for numbers\n"},
        {INT64_C(1) << 59, 16, "(576460752303423488 of 16 bytes) for numbers\n"}, // more than a pointer's difference
        {INT64_MAX, SIZE_MAX, "of 18446744073709551615 bytes) for numbers\n"},
        {17, SIZE_MAX / 2, "(17 of 9223372036854775807 bytes) for numbers\n"},
    };
    char told[1000];
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        for (int grows = 0; grows < 2; grows++) {
            int status = test_status_of(grows ? grow_too_much : take_too_much, &rows[i], told, sizeof told);
            assert_int_equal(status, EXIT_INTERNAL);
            if (!strstr(told, rows[i].told)) fail_msg("%s\nnot as expected: %s", told, rows[i].told);
        }
    int status = test_status_of(take_too_much, &(TooMuch){-1, 8, ""}, told, sizeof told);
    assert_int_equal(status, EXIT_INTERNAL);
    assert_non_null(strstr(told, "(-1 of 8 bytes) for numbers\n"));
#ifndef __SANITIZE_ADDRESS__ // which ends the program itself
    status = test_status_of(take_too_much, &(TooMuch){INT64_MAX, 1, ""}, told, sizeof told);
    assert_int_equal(status, EXIT_INTERNAL);
    status = test_status_of(grow_too_much, &(TooMuch){INT64_MAX, 1, ""}, told, sizeof told);
    assert_int_equal(status, EXIT_INTERNAL);
    assert_non_null(strstr(told, "(9223372036854775807 of 1 bytes) for numbers\n"));
#endif
}

TEST(integers_round_up) {
    static const struct {
        int64_t a, b, quotient, multiple;
    } rows[] = {{0, 3, 0, 0}, {1, 3, 1, 3}, {3, 3, 1, 3}, {4, 3, 2, 6}, {50257, 128, 393, 50304},
                {INT64_C(1) << 60, 1, INT64_C(1) << 60, INT64_C(1) << 60}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        assert_int_equal(divide_up(rows[i].a, rows[i].b), rows[i].quotient);
        assert_int_equal(round_up(rows[i].a, rows[i].b), rows[i].multiple);
    }
}

TEST(bf16_rounds_to_nearest_even) {
    static const struct {
        float value;
        uint16_t bits;
    } rows[] = {{1.0f, 0x3f80}, {0x1.01p0f, 0x3f80}, {0x1.03p0f, 0x3f82}, {0x1.02p0f, 0x3f81}, {-0.0f, 0x8000},
                {3.4e38f, 0x7f80}, {0x1.010002p0f, 0x3f81}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        assert_int_equal(bf16_from_float(rows[i].value), rows[i].bits);
    assert_true(isnan(bf16_to_float(bf16_from_float(NAN))));
    assert_true(isinf(bf16_to_float(bf16_from_float(INFINITY))));
    for (uint32_t bits = 0; bits < 0x7f80; bits++)
        assert_int_equal(bf16_from_float(bf16_to_float((uint16_t)bits)), bits);
}

TEST(f16_rounds_to_nearest_even) {
    static const struct {
        float value;
        uint16_t bits;
    } rows[] = {{1.0f, 0x3c00},       {-2.0f, 0xc000},       {0x1.002p0f, 0x3c00},  {0x1.006p0f, 0x3c02},
                {65504.0f, 0x7bff},   {65519.996f, 0x7bff},  {65520.0f, 0x7c00},    {-1e9f, 0xfc00},
                {0x1p-14f, 0x0400},   {0x1.ff8p-15f, 0x03ff}, {0x1.ffcp-15f, 0x0400}, {0x1p-24f, 0x0001},
                {0x1p-25f, 0x0000},   {0x1.8p-25f, 0x0001},  {0x1.8p-24f, 0x0002},  {-0.0f, 0x8000},
                {INFINITY, 0x7c00},   {0x1.002002p0f, 0x3c01}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        assert_int_equal(f16_from_float(rows[i].value), rows[i].bits);
    for (uint32_t bits = 0; bits < 0x10000; bits++) {
        float value = f16_to_float((uint16_t)bits);
        if ((bits & 0x7fff) > 0x7c00) assert_true(isnan(value));
        else assert_int_equal(f16_from_float(value), bits);
        if ((bits & 0x7fff) < 0x0400) CHECK_CLOSE(value, (bits & 0x8000 ? -1 : 1) * ldexp(bits & 0x7fff, -24), 0);
    }
    assert_true(isnan(f16_to_float(f16_from_float(NAN))));
}

TEST(conversions_round_once) {
    static const double values[] = {1, -3.5, 0x1.004p-9, 0x1p-30, 0x1p-200, -0x1p-200, 0x1.ffp100, 65519.99999999, -0.0,
                                    0x1.00200000001p0, 0x1.01000000001p0, -0x1.01000000001p0, 0x1.00fffffffp0, 1e300};
    static const DType dtypes[] = {DTYPE_F32, DTYPE_F64, DTYPE_BF16, DTYPE_F16};
    static const int digits[] = {24, 53, 8, 11}, smallest[] = {-149, -1074, -133, -24};
    enum { COUNT = sizeof values / sizeof values[0] };
    for (int t = 0; t < 4; t++)
        for (int i = 0; i < COUNT; i++) {
            char packed[9];
            double found;
            dtype_convert(packed + 1, dtypes[t], &values[i], DTYPE_F64, 1);
            dtype_convert(&found, DTYPE_F64, packed + 1, dtypes[t], 1);
            int exponent = values[i] == 0 ? 0 : ilogb(values[i]) + 1 - digits[t];
            double unit = ldexp(1, exponent > smallest[t] ? exponent : smallest[t]);
            double expected = rint(values[i] / unit) * unit, limit = t == 0 ? 0x1p128 : t == 2 ? 0x1p128 : 65520;
            if (t != 1 && fabs(expected) >= limit) expected = copysign(INFINITY, expected);
            CHECK_CLOSE(found, expected, 0);
            for (int u = 0; u < 4; u++) { // through another dtype and from it: as by way of a double
                char other[8], straight[8];
                dtype_convert(other, dtypes[u], packed + 1, dtypes[t], 1);
                dtype_convert(straight, dtypes[u], &found, DTYPE_F64, 1);
                assert_memory_equal(other, straight, dtype_bytes(dtypes[u]));
            }
        }
}

TEST(elements_are_transposed) {
    static unsigned char in[70 * 90 * 8], out[sizeof in];
    for (size_t i = 0; i < sizeof in; i++) in[i] = (unsigned char)(i * 131 >> 3);
    for (size_t bytes = 2; bytes <= 8; bytes *= 2) {
        elements_transpose(out, in, 70, 67, 90, bytes);
        for (size_t r = 0; r < 70; r++)
            for (size_t c = 0; c < 67; c++)
                assert_memory_equal(out + (c * 70 + r) * bytes, in + (r * 90 + c) * bytes, bytes);
    }
}

TEST(tensor_views_point_where_they_should) {
    static float data[2 * 3 * 8];
    Tensor t = tensor_3d(data, DTYPE_F32, 2, 3, 8);
    assert_int_equal(tensor_count(t), 48);
    assert_int_equal(tensor_size_bytes(t), 192);
    Tensor middle = tensor_slice(t, 2, 2, 4); // columns 2..5
    assert_ptr_equal(middle.data, data + 2);
    assert_false(tensor_contiguous(middle));
    Tensor heads = tensor_split_last(middle, 2, 2);
    assert_int_equal(heads.rank, 4);
    assert_int_equal(heads.stride[2], 2);
    assert_int_equal(heads.stride[1], 8);
    Tensor rows = tensor_merge_rows(middle);
    assert_int_equal(rows.shape[0], 6);
    assert_int_equal(rows.stride[0], 8);
    assert_true(tensor_contiguous(tensor_reshape(t, 6, 8, 0, 0)));
    assert_false(tensor_present(TENSOR_NONE));
    assert_int_equal(tensor_count(TENSOR_NONE), 0);
}

static void place(Arena *arena, void *places[3]) {
    places[0] = arena_take(arena, "small", 1);
    places[1] = arena_take(arena, "large", 1000);
    places[2] = arena_take(arena, "small", 300);
}

TEST(arena_measures_what_it_places) {
    Arena arena = {.name = "test"};
    void *places[3];
    place(&arena, places);
    assert_null(places[1]);
    assert_int_equal(arena.used, 256 + 1024 + 512);
    char *memory = aligned_alloc(ARENA_ALIGNMENT, arena.used);
    arena_begin_placing(&arena, memory);
    place(&arena, places);
    assert_ptr_equal(places[1], memory + 256);
    assert_ptr_equal(places[2], memory + 256 + 1024);
    Text report = {0};
    arena_report(&report, (const Arena *[]){&arena}, 1);
    assert_non_null(strstr(text_string(&report), "large"));
    assert_true(strstr(text_string(&report), "large") < strstr(text_string(&report), "small")); // largest first
    text_close(&report);
    arena_close(&arena);
    free(memory);
}

TEST(arenas_do_not_wrap) {
    Arena arena = {.name = "huge"};
    const Arena *list[] = {&arena};
    for (int i = 0; i < 40; i++) arena_take(&arena, "piece", SIZE_MAX / 16);
    assert_true(arena_total(list, 1) >= SIZE_MAX / 4);
    arena_take(&arena, "piece", SIZE_MAX);
    assert_true(arena_total(list, 1) >= SIZE_MAX / 4);
    arena_close(&arena);
}

TEST(text_numbers) {
    char out[TEXT_NUMBER];
    assert_string_equal(text_bytes(out, 1536), "1.50 KiB");
    assert_string_equal(text_bytes(out, 12), "12 B");
    assert_string_equal(text_count(out, 124439808), "124M");
    assert_string_equal(text_duration(out, 75), "1m15s");
    assert_string_equal(text_duration(out, NAN), "-");
    assert_string_equal(text_double(out, 0.1), "0.1");
    assert_string_equal(text_double(out, 6e-4), "0.0006");
    assert_string_equal(text_double(out, 9007199254740992.0), "9007199254740992");
    for (uint64_t i = 0; i < 20000; i++) {
        uint64_t bits = philox_u64(1, STREAM_TEST, 9, i);
        double value;
        memcpy(&value, &bits, sizeof value);
        if (isfinite(value)) assert_true(strtod(text_double(out, value), NULL) == value);
    }
}

TEST(text_nearest_finds_typing_errors) {
    static const char *const words[] = {"weight_decay", "warmup_steps", "lr"};
    assert_string_equal(text_nearest("weight_deacy", words, 3), "weight_decay");
    assert_string_equal(text_nearest("warmup", words, 3), "warmup_steps");
    assert_null(text_nearest("momentum", words, 3));
}

TEST(text_escape_keeps_text_and_shows_the_rest) {
    static const char bytes[] = "a\tb\n\x1b[2J\xff\xc3\xa9\xc2\x9b\xe2\x82";
    Text out = {0};
    text_escape(&out, bytes, sizeof bytes - 1);
    assert_string_equal(text_string(&out), "a\tb\n\\x1b[2J\\xff\xc3\xa9\\xc2\\x9b\\xe2\\x82");
    text_clear(&out);
    text_escape(&out, "\xe2\x80\xa9\xe2\x80\xaa\xe2\x80\xae\xe2\x80\xaf\xe2\x81\xa5\xe2\x81\xa6\xe2\x81\xa9\0", 22);
    assert_string_equal(text_string(&out), "\xe2\x80\xa9\\xe2\\x80\\xaa\\xe2\\x80\\xae\xe2\x80\xaf\xe2\x81\xa5"
                                           "\\xe2\\x81\\xa6\\xe2\\x81\\xa9\\x00");
    Text again = {0};
    text_escape(&again, out.data, out.size);
    assert_string_equal(text_string(&again), text_string(&out));
    text_close(&again);
    text_close(&out);
    size_t bad = 0;
    assert_false(text_is_utf8("ab\xed\xa0\x80", 5, &bad)); // a surrogate
    assert_int_equal(bad, 2);
    assert_false(text_is_utf8("\xc0\x80", 2, &bad)); // overlong
    assert_true(text_is_utf8("\xf4\x8f\xbf\xbf", 4, &bad));
    assert_int_equal(text_repair(&out, "a\xff\xc3\xa9\xe2\x82", 6), 3); // out was closed, and is empty
    assert_string_equal(text_string(&out), "a" REPLACEMENT "\xc3\xa9" REPLACEMENT REPLACEMENT);
    text_close(&out);
}

TEST(an_excerpt_is_short_and_stays_on_its_line) {
    Text out = {0}, word = {0};
    text_excerpt(&out, "a\tb\nc\x1b\xff\xc3\xa9");
    assert_string_equal(text_string(&out), "a\\x09b\\x0ac\\x1b\\xff\xc3\xa9");
    for (int begin = 76; begin <= 80; begin++) { // a character that would be cut is left out
        text_clear(&out);
        text_clear(&word);
        for (int i = 0; i < begin; i++) text_add(&word, "x");
        text_add(&word, "\xf0\x9f\x99\x82yyyy");
        text_excerpt(&out, text_string(&word));
        int kept = begin == 76 ? 80 : begin;
        assert_int_equal(out.size, kept + 3);
        assert_memory_equal(out.data, word.data, (size_t)kept);
        assert_string_equal(out.data + kept, "...");
    }
    text_close(&out);
    text_close(&word);
}

TEST(wide_characters_and_marks_have_their_columns) {
    static const struct {
        const char *text;
        int64_t width, columns; // of which there are so many
        size_t fitting;         // bytes
    } rows[] = {
        {"", 0, 3, 0}, {"abc", 3, 3, 3}, {"abcd", 4, 3, 3}, {"abc", 3, 0, 0}, {"abc", 3, -1, 0},
        {"\u00e9t\u00e9", 3, 2, 3},                               // precomposed
        {"e\u0301t", 2, 1, 3},                                    // the mark stays with its letter
        {"\u5b66\u7fd2", 4, 4, 6}, {"\u5b66\u7fd2", 4, 3, 3},    // half of a wide one is none of it
        {"a\uff21\uac00", 5, 4, 4}, {"\U0001f680!", 3, 2, 4}, {"\u2501\u2578", 2, 1, 3},
        {"\u200b\u0301", 0, 0, 5},                               // nothing but marks
        {"\xff\xe5\xad", 3, 2, 2},                                // as a terminal shows bytes that are no text
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (text_width(rows[i].text) != rows[i].width || text_fitting(rows[i].text, rows[i].columns) != rows[i].fitting)
            fail_msg("%s: %ld columns, %zu bytes in %ld", rows[i].text, text_width(rows[i].text),
                     text_fitting(rows[i].text, rows[i].columns), rows[i].columns);
        Text text = {0};
        text_add(&text, "before ");
        text_add(&text, rows[i].text);
        text_pad(&text, strlen("before "), 4);
        assert_int_equal(text_width(text_string(&text)), 7 + (rows[i].width > 4 ? rows[i].width : 4));
        text_close(&text);
    }
    Text blank = {0};
    text_pad(&blank, 0, 2);
    assert_string_equal(text_string(&blank), "  ");
    text_close(&blank);
}

TEST(what_is_printed_is_safe) {
    char bytes[64] = {0};
    FILE *file = tmpfile();
    assert_non_null(file);
    text_print(file, "%s is %d\n", "\x1b[2J\r", 7);
    rewind(file);
    assert_int_equal(fread(bytes, 1, sizeof bytes, file), 17);
    assert_string_equal(bytes, "\\x1b[2J\\x0d is 7\n");
    fclose(file);
}

TEST(words_for_a_shell) {
    static const char *const words[][2] = {{"runs/a-1.2", "runs/a-1.2"}, {"a b", "'a b'"}, {"", "''"},
                                           {"it's", "'it'\\''s'"}, {"x*", "'x*'"}, {"\xc3\xbc", "'\xc3\xbc'"}};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        Text text = {0};
        text_add_shell(&text, words[i][0]);
        assert_string_equal(text_string(&text), words[i][1]);
        text_close(&text);
    }
}

TEST(errors_keep_the_first_exit_code) {
    Errors errors = {0};
    assert_false(errors_add(&errors, EXIT_DATA, "one %d", 1));
    assert_false(errors_add(&errors, EXIT_USAGE, "two"));
    assert_int_equal(errors.exit_code, EXIT_DATA);
    assert_int_equal(errors.count, 2);
    assert_string_equal(text_string(&errors.text), "one 1\ntwo\n");
    errors_close(&errors);
}

TEST(errors_beyond_a_hundred_are_counted) {
    Errors errors = {0}, all = {0};
    for (int i = 1; i <= 1000; i++) errors_add(&errors, EXIT_DATA, "number %d.", i);
    assert_int_equal(errors.count, 1000);
    assert_non_null(strstr(text_string(&errors.text), "number 100.\nthere are more mistakes; these come first\n"));
    assert_null(strstr(text_string(&errors.text), "number 101."));
    errors_move(&all, &errors);
    assert_int_equal(all.count, 1000);
    errors_close(&all);
}

TEST(messages_cannot_command_a_terminal) {
    Errors errors = {0};
    errors_add(&errors, EXIT_DATA, "%s: no tensor %s", "\xc3\xa9\t\\x07", "\x1b[2J\xff\x7f\r\n.");
    assert_string_equal(text_string(&errors.text), "\xc3\xa9\t\\x07: no tensor \\x1b[2J\\xff\\x7f\\x0d\n.\n");
    errors_close(&errors);
    for (int internal = 0; internal < 2; internal++) {
        char told[1000];
        int ends[2], status;
        assert_int_equal(pipe(ends), 0);
        fflush(NULL);
        pid_t child = fork();
        if (child == 0) {
            dup2(ends[1], STDERR_FILENO);
            if (internal) REQUIRE(child > 0, "tensor %s", "\x1b[2J");
            DIE(EXIT_DATA, "tensor %s", "\x1b[2J");
        }
        close(ends[1]);
        size_t size = 0;
        for (ssize_t got; (got = read(ends[0], told + size, sizeof told - 1 - size)) > 0; size += (size_t)got) {}
        told[size] = 0;
        close(ends[0]);
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_int_equal(WEXITSTATUS(status), internal ? EXIT_INTERNAL : EXIT_DATA);
        assert_null(strchr(told, 0x1b));
        assert_non_null(strstr(told, "tensor \\x1b[2J\n"));
    }
}
