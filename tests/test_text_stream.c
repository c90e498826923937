// Text streams: plain, gzip and zstd, by name and by what the bytes are, members and frames behind each other, every
// place where a file may be cut, damage, what follows, windows, and standard input.
#include <fcntl.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include "data/text_stream.h"
#include "runtime/file.h"
#include "runtime/philox.h"
#include "tests/test.h"

enum { TEXT_BYTES = 300000 }; // more than a block

static const char *place(const char *name) {
    static char folder[4096], path[4096];
    if (!folder[0]) snprintf(folder, sizeof folder, "%s", test_folder("text_stream"));
    path_join(path, folder, name);
    return path;
}

static const char *write_file(const char *name, const Text *bytes) {
    FILE *file = fopen(place(name), "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(text_string(bytes), 1, bytes->size, file), bytes->size);
    fclose(file);
    return place(name);
}

static Text make_text(void) {
    Text text = {0};
    for (uint64_t i = 0; text.size < TEXT_BYTES; i++)
        text_printf(&text, "%u words\n", philox_at(9, STREAM_TEST, 0, i).word[0] % 100000);
    return text;
}

// ---- compressed ----

static void add_gzip(Text *out, const char *bytes, size_t size) {
    z_stream z = {0};
    static unsigned char block[2 * TEXT_BYTES];
    assert_int_equal(deflateInit2(&z, 6, Z_DEFLATED, 16 + MAX_WBITS, 8, Z_DEFAULT_STRATEGY), Z_OK);
    z.next_in = (unsigned char *)bytes;
    z.avail_in = (unsigned)size;
    z.next_out = block;
    z.avail_out = sizeof block;
    assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
    text_append(out, block, sizeof block - z.avail_out);
    deflateEnd(&z);
}

static void add_zstd_window(Text *out, const char *bytes, size_t size, int window_log) {
    static char block[2 * TEXT_BYTES];
    ZSTD_CCtx *context = ZSTD_createCCtx();
    ZSTD_CCtx_setParameter(context, ZSTD_c_checksumFlag, 1);
    ZSTD_CCtx_setParameter(context, ZSTD_c_windowLog, window_log); // 0: as the level has it
    ZSTD_inBuffer in = {bytes, size, 0};
    ZSTD_outBuffer flushed = {block, sizeof block, 0}; // in two steps, so that the size is not known
    assert_false(ZSTD_isError(ZSTD_compressStream2(context, &flushed, &in, ZSTD_e_flush)));
    assert_int_equal(ZSTD_compressStream2(context, &flushed, &in, ZSTD_e_end), 0);
    text_append(out, block, flushed.pos);
    ZSTD_freeCCtx(context);
}

static void add_zstd(Text *out, const char *bytes, size_t size) { add_zstd_window(out, bytes, size, 0); }

static const struct {
    const char *name;
    void (*add)(Text *out, const char *bytes, size_t size);
    const char *damaged; // what is said of a wrong checksum
} formats[] = {
    {"gzip", add_gzip, "incorrect data check"},
    {"zstd", add_zstd, "checksum"},
};
enum { FORMATS = 2 };

// ---- reading ----

// All of it, `step` bytes at a time.
static bool read_all(const char *path, size_t step, Text *out, Errors *errors) {
    TextStream *stream = text_stream_open(path, errors);
    bool good = stream != NULL;
    while (good && !text_stream_ended(stream)) {
        size_t before = out->size;
        good = text_stream_read(stream, out, step, errors);
        if (good && out->size - before < step) assert_true(text_stream_ended(stream));
    }
    if (good) {
        uint64_t size = 0;
        if (path_size(path, &size)) assert_int_equal(text_stream_taken(stream), size);
    }
    text_stream_close(stream);
    return good;
}

static void check_reads(const char *path, const Text *expected, size_t step) {
    Text text = {0};
    Errors errors = {0};
    if (!read_all(path, step, &text, &errors)) fail_msg("%s", text_string(&errors.text));
    assert_int_equal(text.size, expected->size);
    assert_memory_equal(text_string(&text), text_string(expected), expected->size);
    text_close(&text);
}

static void check_refused(const char *path, int64_t byte, const char *words) {
    Text text = {0};
    Errors errors = {0};
    char place_words[64];
    assert_false(read_all(path, 4096, &text, &errors));
    assert_int_equal(errors.exit_code, EXIT_DATA);
    assert_non_null(strstr(text_string(&errors.text), path));
    if (!strstr(text_string(&errors.text), words)) fail_msg("no \"%s\" in %s", words, text_string(&errors.text));
    snprintf(place_words, sizeof place_words, ": byte %ld of the ", byte);
    if (byte >= 0 && !strstr(text_string(&errors.text), place_words))
        fail_msg("not at byte %ld: %s", byte, text_string(&errors.text));
    errors_close(&errors);
    text_close(&text);
}

TEST(texts_come_back) {
    Text text = make_text(), none = {0};
    static const size_t steps[] = {1 << 20, 128 << 10, 777};
    for (int i = 0; i < FORMATS; i++) {
        Text packed = {0}, twice = {0}, expected = {0};
        formats[i].add(&packed, text.data, text.size);
        for (size_t s = 0; s < 3; s++)
            check_reads(write_file(i ? "text.txt.zst" : "text.txt.gz", &packed), &text, steps[s]);
        check_reads(write_file("text.txt", &packed), &text, 4096); // whatever the name
        for (int part = 0; part < 3; part++) formats[i].add(&twice, text.data + part, part * 100);
        text_append(&twice, packed.data, packed.size);
        text_append(&expected, text.data + 1, 100);
        text_append(&expected, text.data + 2, 200);
        text_append(&expected, text.data, text.size);
        check_reads(write_file("several", &twice), &expected, 4096);
        text_close(&packed);
        text_close(&twice);
        text_close(&expected);
    }
    check_reads(write_file("plain.txt", &text), &text, 4096);
    check_reads(write_file("plain.txt", &text), &text, text.size);
    check_reads(write_file("empty.gz", &none), &none, 4096);
    check_reads(write_file("empty", &none), &none, 4096);
    text_close(&text);
}

TEST(skippable_frames_of_zstd) {
    Text text = make_text(), packed = {0};
    static const char frame[] = "\x50\x2A\x4D\x18\x03\0\0\0abc";
    text_append(&packed, frame, sizeof frame - 1);
    add_zstd(&packed, text.data, text.size);
    text_append(&packed, frame, sizeof frame - 1);
    check_reads(write_file("skippable.zst", &packed), &text, 4096);
    text_close(&packed);
    text_close(&text);
}

TEST(files_that_are_cut_short) {
    Text text = make_text();
    for (int i = 0; i < FORMATS; i++) {
        Text packed = {0};
        formats[i].add(&packed, text.data, 300);
        size_t first = packed.size;
        formats[i].add(&packed, text.data, 300);
        for (size_t size = 4; size < packed.size; size++) {
            if (size == first) continue; // whole members are whole
            Text part = {0};
            text_append(&part, packed.data, size);
            check_refused(write_file("cut", &part), (int64_t)size, "the file ends in the middle");
            text_close(&part);
        }
        text_close(&packed);
    }
    text_close(&text);
}

// Each byte changed: refused, or of no matter to the text (as the time in a gzip header).
TEST(files_with_a_changed_byte) {
    Text text = make_text();
    for (int i = 0; i < FORMATS; i++) {
        Text packed = {0}, read = {0};
        formats[i].add(&packed, text.data, 2000);
        int refused = 0;
        for (size_t at = 4; at < packed.size; at++) {
            Errors errors = {0};
            packed.data[at] ^= 0x10;
            text_clear(&read);
            bool good = read_all(write_file("changed", &packed), 4096, &read, &errors);
            if (good) assert_true(read.size == 2000 && memcmp(read.data, text.data, 2000) == 0);
            else assert_int_equal(errors.exit_code, EXIT_DATA);
            refused += !good;
            errors_close(&errors);
            packed.data[at] ^= 0x10;
        }
        assert_true(refused >= (int)packed.size - 20);
        packed.data[packed.size - (i ? 1 : 5)] ^= 1; // of the checksum
        check_refused(write_file("changed", &packed), -1, formats[i].damaged);
        text_close(&packed);
        text_close(&read);
    }
    text_close(&text);
}

TEST(what_follows_is_not_taken_for_text) {
    Text text = make_text();
    static const char *const behind[] = {"x",        "more text",        "\x1F",
                                         "\x1F\x8C", "\x28\xB5\x2F\xFE", "\x01\x02\x03\x04\x05"};
    for (int i = 0; i < FORMATS; i++)
        for (size_t b = 0; b < sizeof behind / sizeof behind[0]; b++) {
            Text packed = {0};
            formats[i].add(&packed, text.data, text.size);
            int64_t size = (int64_t)packed.size;
            text_add(&packed, behind[b]);
            bool begun = strlen(behind[b]) < (i ? 4 : 2); // too little to tell
            check_refused(write_file("followed", &packed), begun ? -1 : size,
                          begun ? "" : "something else follows the compressed data");
            text_close(&packed);
        }
    check_refused(write_file("text.gz", &text), 0, "no gzip data");
    check_refused(write_file("text.zst", &text), 0, "no zstd data");
    text_close(&text);
}

TEST(windows_are_limited) {
    Text text = make_text(), packed = {0};
    add_zstd_window(&packed, text.data, text.size, 27);
    check_reads(write_file("window.zst", &packed), &text, 4096);
    text_clear(&packed);
    add_zstd_window(&packed, text.data, text.size, 28);
    check_refused(write_file("window.zst", &packed), 0, "a window above 128 MiB");
    text_close(&packed);
    text_close(&text);
}

TEST(a_bomb_only_streams) {
    enum { ZEROS = 64 << 20, STEP = 1 << 20 };
    char *zeros = calloc(ZEROS, 1);
    Text packed = {0}, block = {0};
    Errors errors = {0};
    add_gzip(&packed, zeros, ZEROS);
    free(zeros);
    assert_true(packed.size < ZEROS / 500);
    TextStream *stream = text_stream_open(write_file("bomb.gz", &packed), &errors);
    int64_t size = 0;
    for (; !text_stream_ended(stream); size += (int64_t)block.size) {
        text_clear(&block);
        assert_true(text_stream_read(stream, &block, STEP, &errors));
    }
    assert_int_equal(size, ZEROS);
    assert_true(block.capacity <= 2 * STEP);
    text_stream_close(stream);
    text_close(&block);
    text_close(&packed);
}

// ---- names and places ----

TEST(names_of_json_lines) {
    static const char *const lines[] = {"a.jsonl", "a.jsonl.gz", "a.jsonl.zst", "x/y.jsonl.gz", "-"};
    static const char *const texts[] = {"a.txt",          "a.txt.gz",    "jsonl", ".jsonl",
                                        "a.jsonl.gz.txt", "a.jsonl.bz2", ".gz",   ""};
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) assert_true(text_stream_is_lines(lines[i]));
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) assert_false(text_stream_is_lines(texts[i]));
}

TEST(standard_input_is_read) {
    Text text = make_text(), packed = {0};
    add_zstd(&packed, text.data, text.size);
    const Text *given[] = {&text, &packed};
    int before = dup(STDIN_FILENO);
    for (int i = 0; i < 2; i++) {
        int file = open(write_file("input", given[i]), O_RDONLY);
        dup2(file, STDIN_FILENO);
        close(file);
        check_reads("-", &text, 4096);
    }
    dup2(before, STDIN_FILENO);
    close(before);
    text_close(&text);
    text_close(&packed);
}

TEST(sizes_that_are_known) {
    Text text = make_text(), packed = {0};
    Errors errors = {0};
    add_gzip(&packed, text.data, text.size);
    TextStream *plain = text_stream_open(write_file("sized.txt", &text), &errors);
    assert_int_equal(text_stream_size(plain), text.size);
    text_stream_close(plain);
    TextStream *other = text_stream_open(write_file("sized.gz", &packed), &errors);
    assert_int_equal(text_stream_size(other), -1);
    text_stream_close(other);
    assert_null(text_stream_open(place("absent"), &errors));
    assert_int_equal(errors.exit_code, EXIT_NO_INPUT);
    errors_close(&errors);
    text_close(&text);
    text_close(&packed);
}
