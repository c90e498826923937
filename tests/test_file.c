// Files: replaced whole or not at all, failures named, faults struck where the rule says.
#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/fault.h"
#include "runtime/file.h"
#include "tests/test.h"

static bool holds(const char *path, const char *expected) {
    File file;
    Errors errors = {0};
    if (!file_read(&file, path, 1 << 20, EXIT_DATA, &errors)) {
        errors_close(&errors);
        return false;
    }
    bool same = strcmp(file.bytes, expected) == 0;
    file_close(&file);
    return same;
}

TEST(a_failed_replacement_leaves_the_old_file) {
    static const char *const kinds[] = {"EIO", "ENOSPC", "short"};
    char path[4096], rule[32];
    const char *folder = test_folder("file");
    path_join(path, folder, "value");
    for (int kind = 0; kind < 3; kind++) {
        bool struck = true;
        for (int n = 1; struck; n++) {
            Errors errors = {0};
            assert_true(file_replace(path, "old", 3, &errors));
            snprintf(rule, sizeof rule, "%d:%s", n, kinds[kind]);
            fault_set(rule);
            bool replaced = file_replace(path, "new", 3, &errors);
            struck = fault_operations() >= n;
            fault_set(NULL);
            assert_true(holds(path, "new") || (!replaced && holds(path, "old")));
            if (!replaced) assert_non_null(strstr(text_string(&errors.text), folder));
            errors_close(&errors);
            char beside[4200];
            snprintf(beside, sizeof beside, "%s.partial", path);
            assert_false(path_exists(beside));
        }
    }
}

TEST(a_full_device_is_reported_by_name) {
    if (access("/dev/full", W_OK) != 0) skip();
    FileWriter writer;
    Errors errors = {0};
    assert_true(file_create(&writer, "/dev/full", &errors));
    file_write(&writer, "x", 1);
    assert_false(file_finish(&writer, NULL, &errors));
    assert_int_equal(errors.exit_code, EXIT_CANNOT_WRITE);
    assert_non_null(strstr(text_string(&errors.text), "/dev/full"));
    assert_non_null(strstr(text_string(&errors.text), "No space left"));
    errors_close(&errors);
}

static bool create(const char *path, Errors *errors) {
    FileWriter writer;
    if (!file_create(&writer, path, errors)) return false;
    file_write(&writer, "new", 3);
    return file_finish(&writer, NULL, errors);
}

TEST(what_stands_under_a_name_is_not_written_through) {
    char kept[4096], name[4096];
    struct stat info;
    Errors errors = {0};
    const char *folder = test_folder("file_names");
    path_join(kept, folder, "kept");
    path_join(name, folder, "name");
    assert_true(file_replace(kept, "old", 3, &errors));

    assert_int_equal(link(kept, name), 0);
    mode_t before = umask(027);
    assert_true(create(name, &errors));
    umask(before);
    assert_true(holds(kept, "old") && holds(name, "new"));
    assert_int_equal(stat(name, &info), 0);
    assert_int_equal(info.st_mode & 0777, 0640);

    unlink(name);
    assert_int_equal(symlink("kept", name), 0);
    assert_false(create(name, &errors));
    assert_true(holds(kept, "old"));
    assert_non_null(strstr(text_string(&errors.text), "name: opening failed"));
    assert_non_null(strstr(text_string(&errors.text), "a link stands there; remove it"));
    char partial[4200];
    snprintf(partial, sizeof partial, "%s.partial", kept);
    assert_int_equal(rename(name, partial), 0);
    assert_false(file_replace(kept, "new", 3, &errors));
    assert_true(holds(kept, "old"));

    assert_int_equal(mkfifo(name, 0600), 0); // does not wait for a reader
    assert_false(create(name, &errors));
    assert_int_equal(errors.exit_code, EXIT_CANNOT_WRITE);
    errors_close(&errors);
}

TEST(hashes_agree_however_a_file_is_written) {
    enum { SIZE = 3000000 };
    char path[4096], whole[HASH_HEX], pieces[HASH_HEX], read[HASH_HEX], *bytes = malloc(SIZE);
    for (int i = 0; i < SIZE; i++) bytes[i] = (char)(i * 7 % 251);
    FileWriter writer;
    Errors errors = {0};
    uint64_t size;
    path_join(path, test_folder("file_hash"), "bytes");
    assert_true(file_create(&writer, path, &errors));
    for (int begin = 0; begin < SIZE; begin += 1234567)
        file_write(&writer, bytes + begin, (size_t)(SIZE - begin < 1234567 ? SIZE - begin : 1234567));
    assert_true(file_finish(&writer, pieces, &errors));
    bytes_hash(bytes, SIZE, whole);
    assert_true(file_hash(path, read, &size, EXIT_DATA, &errors));
    assert_string_equal(whole, pieces);
    assert_string_equal(whole, read);
    assert_int_equal(size, SIZE);
    free(bytes);
}

TEST(what_cannot_be_read_is_named) {
    File file;
    Errors errors = {0};
    const char *folder = test_folder("file_read");
    assert_false(file_read(&file, "no/such/file", 10, EXIT_DATA, &errors));
    assert_int_equal(errors.exit_code, EXIT_NO_INPUT);
    assert_false(file_map(&file, folder, EXIT_DATA, &errors));
    assert_non_null(strstr(text_string(&errors.text), "not a regular file"));
    char path[4096];
    path_join(path, folder, "large");
    assert_true(file_replace(path, "0123456789", 10, &errors));
    assert_false(file_read(&file, path, 9, EXIT_DATA, &errors));
    assert_true(file_map(&file, path, EXIT_DATA, &errors));
    file_close(&file);
    assert_true(file_replace(path, "", 0, &errors));
    assert_true(file_map(&file, path, EXIT_DATA, &errors));
    assert_int_equal(file.size, 0);
    file_close(&file);
    errors_close(&errors);
}

TEST(a_name_stands_in_a_directory) {
    static const char *const rows[][2] = {{"/x.bin", "/"}, {"x.bin", "."}, {"a/b", "a"}, {"/a/b/c", "/a/b"},
                                          {"./x", "."},    {"", "."},      {"/", "/"}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char directory[4096];
        path_directory(directory, rows[i][0]);
        assert_string_equal(directory, rows[i][1]);
    }
}

TEST(removing_a_directory_does_not_follow_links) {
    char inner[4096], outside[4096], link[4096];
    Errors errors = {0};
    const char *folder = test_folder("directory");
    path_join(inner, folder, "a/b/c");
    path_join(outside, folder, "outside");
    assert_true(directory_make(inner, &errors));
    assert_true(file_replace(outside, "kept", 4, &errors));
    path_join(link, inner, "link");
    assert_int_equal(symlink("../../../outside", link), 0);
    path_join(inner, folder, "a");
    assert_true(directory_remove(inner, &errors));
    assert_false(path_exists(inner));
    assert_true(holds(outside, "kept"));
    assert_false(directory_make("/dev/null/x", &errors));
    assert_non_null(strstr(text_string(&errors.text), "/dev/null"));
    errors_close(&errors);
}

TEST(names_are_exchanged) {
    char a[4096], b[4096];
    Errors errors = {0};
    const char *folder = test_folder("exchange");
    path_join(a, folder, "a");
    path_join(b, folder, "b");
    assert_true(file_replace(a, "first", 5, &errors) && file_replace(b, "second", 6, &errors));
    assert_true(path_exchange(a, b, &errors));
    assert_true(holds(a, "second") && holds(b, "first"));
}

TEST(blocks_are_hashed_as_they_are_written) {
    enum { SIZE = 2 * FILE_BLOCK + 77 };
    char path[4096], hash[HASH_HEX], *bytes = test_take(SIZE);
    FileWriter writer;
    Text written = {0}, read = {0};
    Errors errors = {0};
    for (int i = 0; i < SIZE; i++) bytes[i] = (char)(i * 7 % 251);
    path_join(path, test_folder("file_blocks"), "bytes");
    assert_true(file_create(&writer, path, &errors));
    writer.blocks = &written;
    file_write(&writer, bytes, 1000);
    file_write(&writer, bytes + 1000, SIZE - 1000);
    assert_true(file_finish(&writer, NULL, &errors));
    assert_true(file_hash_blocks(path, hash, &read, EXIT_DATA, &errors));
    assert_int_equal(read.size, 3 * BLOCK_HEX);
    assert_string_equal(read.data, written.data);
    assert_true(memcmp(read.data, read.data + BLOCK_HEX, BLOCK_HEX) != 0);
    text_close(&written);
    text_close(&read);
    free(bytes);
}

TEST(a_link_becomes_a_copy_where_there_are_none) {
    const char *places[] = {test_folder("file_link"), "/dev/shm"}; // another file system, mostly
    char from[4096], to[4096], name[64];
    Errors errors = {0};
    if (access(places[1], W_OK) != 0) skip();
    snprintf(name, sizeof name, "thalweg-test-%d", (int)getpid());
    path_join(from, places[0], "from");
    assert_true(file_replace(from, "abc", 3, &errors));
    for (int i = 0; i < 2; i++) {
        path_join(to, places[i], name);
        assert_true(file_link(from, to, &errors));
        assert_true(holds(to, "abc"));
        assert_true(file_remove(to, &errors));
    }
}
