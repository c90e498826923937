// Token shards: every format, files beyond 2 GiB, and a corpus of damaged files with what each message must say.
#include <fcntl.h>
#include <unistd.h>

#include "data/shards.h"
#include "runtime/file.h"
#include "tests/test.h"

static void path_in(char path[4096], const char *name) {
    static char folder[4096];
    if (!folder[0]) snprintf(folder, sizeof folder, "%s", test_folder("shards"));
    path_join(path, folder, name);
}

static void write_file(const char *path, const void *head, size_t head_size, const void *body, size_t body_size) {
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    if (head_size) assert_int_equal(fwrite(head, 1, head_size, file), head_size);
    if (body_size) assert_int_equal(fwrite(body, 1, body_size, file), body_size);
    assert_int_equal(fclose(file), 0);
}

static void write_shard(const char *path, int32_t magic, int32_t version, int32_t count, const void *ids, size_t size) {
    int32_t header[256] = {magic, version, count};
    write_file(path, header, sizeof header, ids, size);
}

static Shards *open_glob(const char *pattern, ShardFormat format, Errors *errors) {
    TextList globs = {0};
    text_list_add(&globs, pattern);
    Shards *shards = shards_open(&globs, format, errors);
    text_list_close(&globs);
    return shards;
}

static void check_counting(const char *pattern, ShardFormat format, int64_t tokens) {
    Errors errors = {0};
    Shards *shards = open_glob(pattern, format, &errors);
    assert_non_null(shards);
    assert_int_equal(shards_tokens(shards), tokens);
    assert_int_equal(shards_windows(shards, 4), (tokens - 1) / 4);
    for (int64_t window = 0; window < shards_windows(shards, 4); window++) {
        int32_t ids[5];
        assert_true(shards_read(shards, window, 4, 1000, ids, &errors));
        for (int i = 0; i < 5; i++) assert_int_equal(ids[i], 4 * window + i);
    }
    shards_close(shards);
}

TEST(every_format) {
    enum { N = 23 };
    uint16_t narrow[N];
    uint32_t wide[N];
    for (int i = 0; i < N; i++) narrow[i] = (uint16_t)i, wide[i] = (uint32_t)i;
    char path[4096];
    path_in(path, "v1.bin");
    write_shard(path, 20240520, 1, N, narrow, sizeof narrow);
    check_counting(path, SHARD_HEADER, N);
    path_in(path, "v7.bin");
    write_shard(path, 20240801, 7, N, wide, sizeof wide);
    check_counting(path, SHARD_HEADER, N);
    path_in(path, "raw16.bin");
    write_file(path, NULL, 0, narrow, sizeof narrow);
    check_counting(path, SHARD_RAW_U16, N);
    path_in(path, "raw32.bin");
    write_file(path, NULL, 0, wide, sizeof wide);
    check_counting(path, SHARD_RAW_U32, N);
}

TEST(unequal_shards_keep_windows_inside_files) {
    static const int sizes[] = {11, 1, 3, 9};
    char path[4096], name[32];
    uint16_t ids[11];
    for (int file = 0; file < 4; file++) {
        for (int i = 0; i < sizes[file]; i++) ids[i] = (uint16_t)(100 * file + i);
        snprintf(name, sizeof name, "unequal_%d.bin", file);
        path_in(path, name);
        write_shard(path, 20240520, 1, sizes[file], ids, (size_t)sizes[file] * 2);
    }
    Errors errors = {0};
    path_in(path, "unequal_*.bin");
    Shards *shards = open_glob(path, SHARD_HEADER, &errors);
    assert_non_null(shards);
    assert_non_null(strstr(shards_path(shards, 0), "unequal_0.bin"));
    assert_int_equal(shards_tokens(shards), 24);
    static const int first[] = {0, 2, 4, 6, 8, 200, 300, 302, 304, 306};
    assert_int_equal(shards_windows(shards, 2), 10);
    for (int window = 0; window < 10; window++) {
        int32_t out[3];
        assert_true(shards_read(shards, window, 2, 1000, out, &errors));
        for (int i = 0; i < 3; i++) assert_int_equal(out[i], first[window] + i);
    }
    shards_close(shards);
}

TEST(overlapping_globs_count_a_shard_once) {
    static const char *const names[] = {"once_a.bin", "once_b.bin", "once_c.bin", "once_[ab].bin"};
    static const char *const patterns[] = {"once_c*.bin", "once_[ab].bin", "once_?.bin", "once_c.bin"};
    char path[4096];
    TextList globs = {0};
    for (uint16_t file = 0; file < 4; file++) {
        uint16_t ids[2] = {file, file};
        path_in(path, names[file]);
        write_file(path, NULL, 0, ids, sizeof ids);
        path_in(path, patterns[file]);
        text_list_add(&globs, path);
    }
    Errors errors = {0};
    Shards *shards = shards_open(&globs, SHARD_RAW_U16, &errors);
    assert_non_null(shards);
    static const int32_t expected[] = {2, 3, 0, 1}; // [ab] is a file's name, ? is not
    assert_int_equal(shards_windows(shards, 1), 4);
    for (int window = 0; window < 4; window++) {
        int32_t ids[2];
        assert_true(shards_read(shards, window, 1, 10, ids, &errors));
        assert_int_equal(ids[0], expected[window]);
    }
    shards_close(shards);
    text_list_close(&globs);
}

TEST(beyond_two_gib) {
    const int64_t count = INT64_C(1200000000);
    char path[4096];
    path_in(path, "large.bin");
    write_shard(path, 20240520, 1, (int32_t)count, NULL, 0);
    int file = open(path, O_WRONLY);
    const uint16_t last[3] = {7, 8, 9};
    assert_int_equal(ftruncate(file, 1024 + 2 * count), 0);
    assert_int_equal(pwrite(file, last, sizeof last, 1024 + 2 * (count - 3)), sizeof last);
    close(file);
    Errors errors = {0};
    Shards *shards = open_glob(path, SHARD_HEADER, &errors);
    assert_non_null(shards);
    assert_int_equal(shards_tokens(shards), count);
    int32_t ids[3];
    int64_t length = 2, windows = shards_windows(shards, length); // an even count leaves the last token out
    assert_true(shards_read(shards, windows - 1, length, 10, ids, &errors));
    const int32_t expected[3] = {0, 7, 8};
    assert_memory_equal(ids, expected, sizeof expected);
    assert_false(shards_read(shards, windows - 1, length, 8, ids, &errors));
    assert_non_null(strstr(text_string(&errors.text), "token 1199999998 (byte 2400001020) is 8, outside"));
    errors_close(&errors);
    shards_close(shards);
    unlink(path);
}

TEST(damaged_files) {
    static const uint16_t ids[4] = {1, 2, 3, 4};
    static const struct {
        int32_t magic, version, count;
        int size; // of the whole file
        ShardFormat format;
        int exit_code;
        const char *message;
    } cases[] = {
        {20240520, 1, 4, 0, SHARD_HEADER, EXIT_DATA, "0 bytes, shorter than the header"},
        {20240520, 1, 4, 1023, SHARD_HEADER, EXIT_DATA, "1023 bytes, shorter than the header"},
        {20240521, 1, 4, 1032, SHARD_HEADER, EXIT_DATA, "byte 0: expected the shard mark 20240520 or 20240801"},
        {20240520, 2, 4, 1032, SHARD_HEADER, EXIT_DATA, "byte 4: expected format version 1, found 2"},
        {20240801, 1, 2, 1032, SHARD_HEADER, EXIT_DATA, "byte 4: expected format version 7, found 1"},
        {20240520, 1, 5, 1032, SHARD_HEADER, EXIT_DATA, "byte 8: the header counts 5 tokens of 2 bytes"},
        {20240520, 1, 3, 1032, SHARD_HEADER, EXIT_DATA, "byte 8: the header counts 3 tokens"},
        {20240801, 7, 4, 1032, SHARD_HEADER, EXIT_DATA, "byte 8: the header counts 4 tokens of 4 bytes"},
        {20240520, 1, -4, 1016, SHARD_HEADER, EXIT_DATA, "shorter than the header"},
        {20240520, 1, -1, 1032, SHARD_HEADER, EXIT_DATA, "byte 8: the header counts -1 tokens"},
        {20240520, 1, 0, 1024, SHARD_HEADER, EXIT_DATA, "holds no tokens"},
        {20240520, 1, 4, 1024, SHARD_HEADER, EXIT_DATA, "byte 8: the header counts 4 tokens"},
        {20240520, 1, INT32_MIN, 1032, SHARD_HEADER, EXIT_DATA, "byte 8: the header counts -2147483648 tokens"},
        {20240520, 1, INT32_MAX, 1022, SHARD_HEADER, EXIT_DATA, "shorter than the header"},
        {20240520, 1, INT32_MAX, 1032, SHARD_HEADER, EXIT_DATA, "byte 8: the header counts 2147483647 tokens"},
        {20240801, 7, INT32_MAX, 1032, SHARD_HEADER, EXIT_DATA, "byte 8: the header counts 2147483647 tokens"},
        {20240801, 7, 1 << 30, 1024, SHARD_HEADER, EXIT_DATA, "byte 8: the header counts 1073741824 tokens"}, // 2^32
        {20240801, 7, -1, 1020, SHARD_HEADER, EXIT_DATA, "shorter than the header"},
        {20240801, 7, 0, 1024, SHARD_HEADER, EXIT_DATA, "holds no tokens"},
        {20240522, 1, 4, 1032, SHARD_HEADER, EXIT_DATA, "byte 0: expected the shard mark"}, // of an evaluation set
        {20240520, 1, 4, 1032, SHARD_RAW_U16, EXIT_DATA, "the shard has a header; set data.format=header"},
        {5, 1, 4, 7, SHARD_RAW_U16, EXIT_DATA, "7 bytes are no whole number of 2-byte ids"},
        {5, 1, 4, 10, SHARD_RAW_U32, EXIT_DATA, "10 bytes are no whole number of 4-byte ids"},
        {5, 1, 4, 0, SHARD_RAW_U16, EXIT_DATA, "holds no tokens"},
        {5, 1, 4, 0, SHARD_RAW_U32, EXIT_DATA, "holds no tokens"},
        {20240801, 7, 2, 1032, SHARD_RAW_U32, EXIT_DATA, "the shard has a header; set data.format=header"},
        {0x4D554E93, 0x00015950, 4, 1032, SHARD_RAW_U16, EXIT_DATA, "a NumPy file"},
        {0x4D554E93, 0x00015950, 4, 6, SHARD_RAW_U16, EXIT_DATA, "a NumPy file"},
        {0x4D554E93, 0x00015950, 4, 1032, SHARD_HEADER, EXIT_DATA, "a NumPy file"},
    };
    char path[4096];
    path_in(path, "damaged.bin");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        write_shard(path, cases[i].magic, cases[i].version, cases[i].count, ids, sizeof ids);
        assert_int_equal(truncate(path, cases[i].size), 0);
        Errors errors = {0};
        assert_null(open_glob(path, cases[i].format, &errors));
        if (!strstr(text_string(&errors.text), cases[i].message) || !strstr(text_string(&errors.text), path))
            fail_msg("case %zu: \"%s\" is not in: %s", i, cases[i].message, text_string(&errors.text));
        assert_int_equal(errors.exit_code, cases[i].exit_code);
        errors_close(&errors);
    }
}

TEST(nothing_matches) {
    char path[4096];
    path_in(path, "absent_*.bin");
    Errors errors = {0};
    assert_null(open_glob(path, SHARD_HEADER, &errors));
    assert_int_equal(errors.exit_code, EXIT_NO_INPUT);
    assert_non_null(strstr(text_string(&errors.text), "train_gpt prepare"));
    errors_close(&errors);
}

TEST(ids_are_checked_against_the_vocabulary) {
    static const uint32_t ids[4] = {1, 2, 0xFFFFFFFFu, 4};
    char path[4096];
    path_in(path, "ids.bin");
    write_shard(path, 20240801, 7, 4, ids, sizeof ids);
    Errors errors = {0};
    Shards *shards = open_glob(path, SHARD_HEADER, &errors);
    int32_t out[4];
    assert_true(shards_read(shards, 0, 1, 3, out, &errors));
    assert_false(shards_read(shards, 1, 1, INT32_MAX, out, &errors));
    assert_non_null(strstr(text_string(&errors.text), "token 2 (byte 1032) is 4294967295"));
    assert_int_equal(errors.exit_code, EXIT_DATA);
    errors_close(&errors);
    shards_close(shards);
}

TEST(all_ids_are_checked_on_demand) {
    const char *folder = test_folder("shards_ids");
    static const uint16_t ids[] = {1, 2, 299, 3, 300};
    char pattern[4096], first[4096], second[4096];
    Errors errors = {0};
    path_join(first, folder, "a.bin");
    path_join(second, folder, "b.bin");
    path_join(pattern, folder, "*.bin");
    assert_true(file_replace(first, ids, sizeof ids, &errors));
    assert_true(file_replace(second, ids, sizeof ids - 2, &errors));
    TextList globs = {0};
    text_list_add(&globs, pattern);
    Shards *shards = shards_open(&globs, SHARD_RAW_U16, &errors);
    assert_non_null(shards);
    assert_true(shards_check_ids(shards, 301, &errors));
    assert_false(shards_check_ids(shards, 300, &errors));
    assert_int_equal(errors.count, 1);
    assert_non_null(strstr(text_string(&errors.text), "a.bin: token 4 (byte 8) is 300"));
    errors_close(&errors);
    assert_false(shards_check_ids(shards, 299, &errors));
    assert_int_equal(errors.count, 2); // one a file
    errors_close(&errors);
    text_list_close(&globs);
    shards_close(shards);
}

TEST(fingerprint_sees_names_and_bytes) {
    static const char *const names[] = {"print_a.bin", "print_a.bin", "print_b.bin", "print_a.bin"};
    static const uint16_t first_ids[] = {1, 1, 1, 2};
    char hex[4][33], path[4096];
    for (int i = 0; i < 4; i++) {
        uint16_t ids[2] = {first_ids[i], 5};
        path_in(path, names[i]);
        write_file(path, NULL, 0, ids, sizeof ids);
        Errors errors = {0};
        Shards *shards = open_glob(path, SHARD_RAW_U16, &errors);
        shards_fingerprint(shards, hex[i]);
        shards_close(shards);
    }
    assert_int_equal(strlen(hex[0]), 32);
    assert_string_equal(hex[0], hex[1]);
    assert_string_not_equal(hex[0], hex[2]);
    assert_string_not_equal(hex[0], hex[3]);
}
