// Damaged checkpoints: found, named with the bytes, passed over by a resume; manifests of strangers are refused.
#include <unistd.h>

#include "runtime/fault.h"
#include "runtime/philox.h"
#include "tests/support_checkpoint.h"
#include "tests/test.h"

#define STATE_FILE test_checkpoint_files[1]

enum { BULK = 700000 }; // numbers: the state has three blocks

static void save_bulk(const char *run, int64_t step, char path[4096]) {
    Errors errors = {0};
    if (!test_checkpoint_save_as(run, (TestCheckpoint){.step = step, .bulk = BULK}, path, &errors))
        fail_msg("%s", text_string(&errors.text));
}

static File take_file(const char *path) {
    File file;
    Errors errors = {0};
    assert_true(file_read(&file, path, 1 << 24, EXIT_DATA, &errors));
    return file;
}

static void put_file(const char *path, const char *bytes, size_t size) {
    FILE *stream = fopen(path, "wb");
    assert_non_null(stream);
    assert_int_equal(fwrite(bytes, 1, size, stream), size);
    assert_int_equal(fclose(stream), 0);
}

static void must_tell(const Errors *errors, const char *what) {
    if (!strstr(text_string(&errors->text), what)) fail_msg("\"%s\" is not in: %s", what, text_string(&errors->text));
}

// The message tells a range of bytes, at most a block, that the byte is in.
static void must_hold(const Errors *errors, uint64_t byte) {
    const char *range = strstr(text_string(&errors->text), ": bytes ");
    unsigned long begin, end;
    if (!range || sscanf(range, ": bytes %lu..%lu of ", &begin, &end) != 2)
        fail_msg("no range in: %s", text_string(&errors->text));
    if (byte < begin || byte > end || end - begin >= FILE_BLOCK) fail_msg("byte %lu: %lu..%lu", byte, begin, end);
}

TEST(every_damage_is_found_named_and_passed_over) {
    enum { TIMES = 200 };
    const char *run = test_folder("damage");
    char path[4096], good[4096], file[4096], found[4096];
    save_bulk(run, 10, good);
    save_bulk(run, 20, path);
    for (uint64_t i = 0; i < 2 * TIMES; i++) {
        bool cut = i % 2, manifest = i / 2 % (CHECKPOINT_FILES + 1) == CHECKPOINT_FILES;
        const char *name = manifest ? "manifest.json" : test_checkpoint_files[i / 2 % (CHECKPOINT_FILES + 1)];
        Errors errors = {0}, damage = {0};
        path_join(file, path, name);
        File whole = take_file(file);
        uint64_t at = philox_u64(1, STREAM_TEST, 5, i) % whole.size;
        test_damage(file, at, cut);
        assert_false(checkpoint_verify(path, &errors));
        assert_int_equal(errors.exit_code, EXIT_CHECKPOINT);
        must_tell(&errors, name);
        must_tell(&errors, "the one before it is");
        if (!manifest && !cut) must_hold(&errors, at);
        errors_close(&errors);
        assert_true(checkpoint_find_valid(run, false, found, &damage, &errors));
        assert_string_equal(found, good);
        must_tell(&damage, name);
        must_tell(&damage, "the 10 steps up to 20 again");
        errors_close(&damage);
        put_file(file, whole.bytes, whole.size);
        file_close(&whole);
    }
    Errors errors = {0};
    assert_true(checkpoint_verify(path, &errors));
}

TEST(damage_is_told_by_ranges_and_tensors) {
    const char *run = test_folder("damage_ranges");
    char path[4096], file[4096], expected[128];
    Errors errors = {0};
    uint64_t size;
    save_bulk(run, 10, path);
    path_join(file, path, STATE_FILE);
    assert_true(path_size(file, &size));
    test_damage(file, FILE_BLOCK + 5, false);
    test_damage(file, FILE_BLOCK + 6, false);
    test_damage(file, size - 200, false);
    assert_false(checkpoint_check(path, &errors));
    snprintf(expected, sizeof expected, "%s: bytes 1048576..%lu of %lu are damaged; they belong to m.bulk, m.vector, "
             "z.matrix\n", STATE_FILE, size - 1, size);
    must_tell(&errors, expected);
    errors_close(&errors);
    test_damage(file, FILE_BLOCK + 5, false); // as it was
    test_damage(file, FILE_BLOCK + 6, false);
    File whole = take_file(file);
    uint64_t name = (uint64_t)(strstr(whole.bytes + 8, "m.bulk") + 2 - whole.bytes);
    file_close(&whole);
    test_damage(file, name % 8 < 6 ? name : name + 2, false); // the header tells another name, and is not believed
    assert_false(checkpoint_check(path, &errors));
    snprintf(expected, sizeof expected, "bytes 0..1048575, 2097152..%lu of %lu are damaged\n", size - 1, size);
    must_tell(&errors, expected);
    errors_close(&errors);
    assert_int_equal(truncate(file, (off_t)size - 7), 0);
    assert_false(checkpoint_check(path, &errors));
    snprintf(expected, sizeof expected, "the last 7, from byte %lu on, are missing", size - 7);
    must_tell(&errors, expected);
    errors_close(&errors);
    assert_int_equal(truncate(file, (off_t)size + 3), 0);
    assert_false(checkpoint_check(path, &errors));
    snprintf(expected, sizeof expected, "the last 3, from byte %lu on, are too many", size);
    must_tell(&errors, expected);
    errors_close(&errors);
    assert_int_equal(unlink(file), 0);
    assert_false(checkpoint_check(path, &errors));
    must_tell(&errors, "the file is missing");
    errors_close(&errors);
}

// ---- falling back ----

static void ruin(const char *run, int64_t step, const char *file) {
    char path[4096];
    snprintf(path, sizeof path, "%s/checkpoints/step_%08ld/%s", run, step, file);
    test_damage(path, 100, false);
}

TEST(damaged_checkpoints_are_set_aside) {
    const char *run = test_folder("fallback");
    char path[4096], expected[4200];
    Errors errors = {0}, damage = {0};
    for (int64_t step = 10; step <= 40; step += 10) test_checkpoint_must_save(run, step);
    ruin(run, 40, STATE_FILE);
    ruin(run, 30, "manifest.json");
    ruin(run, 10, STATE_FILE); // nobody looks
    assert_true(checkpoint_find_valid(run, true, path, &damage, &errors));
    assert_non_null(strstr(path, "step_00000020"));
    must_tell(&damage, "step_00000040: damaged; kept as step_00000040.damaged-1:");
    must_tell(&damage, "step_00000030: damaged; kept as step_00000030.damaged-1:");
    must_tell(&damage, "the 20 steps up to 40 again");
    errors_close(&damage);
    assert_string_equal(test_checkpoint_names(run), "step_00000010 step_00000020 step_00000030.damaged-1 "
                                                    "step_00000040.damaged-1 ");
    test_checkpoint_must_save(run, 30);
    snprintf(expected, sizeof expected, "%s/checkpoints/step_00000030/manifest.json", run);
    assert_int_equal(unlink(expected), 0);
    assert_true(checkpoint_find_valid(run, true, path, &damage, &errors));
    must_tell(&damage, "manifest.json: the manifest is missing");
    must_tell(&damage, "kept as step_00000030.damaged-2:");
    errors_close(&damage);
    assert_true(checkpoint_find_valid(run, true, path, &damage, &errors));
    assert_int_equal(damage.count, 0);
    assert_non_null(strstr(path, "step_00000020"));
}

TEST(where_all_are_damaged_none_is_moved) {
    const char *run = test_folder("fallback_none");
    char path[4096];
    Errors errors = {0}, damage = {0};
    assert_true(checkpoint_find_valid(run, true, path, &damage, &errors));
    assert_string_equal(path, "");
    for (int64_t step = 10; step <= 20; step += 10) test_checkpoint_must_save(run, step);
    ruin(run, 10, STATE_FILE);
    ruin(run, 20, STATE_FILE);
    assert_false(checkpoint_find_valid(run, true, path, &damage, &errors));
    assert_int_equal(errors.exit_code, EXIT_CHECKPOINT);
    must_tell(&errors, "step_00000010");
    must_tell(&errors, "step_00000020");
    must_tell(&errors, "2 damaged checkpoints, and none to go on from");
    errors_close(&errors);
    assert_int_equal(damage.count, 0);
    assert_string_equal(test_checkpoint_names(run), "step_00000010 step_00000020 ");
}

TEST(models_alone_are_nothing_to_resume_from) {
    const char *run = test_folder("fallback_models");
    char path[4096];
    Errors errors = {0}, damage = {0};
    for (int64_t step = 10; step <= 20; step += 10) test_checkpoint_must_save(run, step);
    assert_true(checkpoint_retain(run, 20, &(Retention){.keep = 1, .keep_models = -1}, &errors));
    snprintf(path, sizeof path, "%s/checkpoints/step_00000010", run);
    assert_false(checkpoint_check_state(path, &errors));
    assert_int_equal(errors.exit_code, EXIT_NO_INPUT);
    must_tell(&errors, "step_00000010: a model alone");
    must_tell(&errors, "still has it is");
    must_tell(&errors, "step_00000020");
    errors_close(&errors);
    snprintf(path, sizeof path, "%s/checkpoints/step_00000020", run);
    assert_true(checkpoint_check_state(path, &errors));
    ruin(run, 20, STATE_FILE);
    assert_false(checkpoint_find_valid(run, true, path, &damage, &errors));
    assert_int_equal(errors.exit_code, EXIT_CHECKPOINT);
    must_tell(&errors, "`eval` and `sample` still read the model in");
    errors_close(&errors);
    snprintf(path, sizeof path, "%s/checkpoints/step_00000020", run);
    assert_true(directory_remove(path, &errors));
    assert_false(checkpoint_find_valid(run, true, path, &damage, &errors));
    assert_int_equal(errors.exit_code, EXIT_NO_INPUT);
    errors_close(&errors);
}

TEST(every_failure_while_falling_back_leaves_the_valid_one) {
    char path[4096], rule[32];
    bool struck = true;
    for (int n = 1; struck; n++) {
        const char *run = test_folder("fallback_faults");
        Errors errors = {0}, damage = {0};
        for (int64_t step = 10; step <= 30; step += 10) test_checkpoint_must_save(run, step);
        ruin(run, 20, STATE_FILE);
        ruin(run, 30, STATE_FILE);
        snprintf(rule, sizeof rule, "%d:EIO", n);
        fault_set(rule);
        bool found = checkpoint_find_valid(run, true, path, &damage, &errors);
        struck = fault_operations() >= n;
        fault_set(NULL);
        assert_int_equal(found, !struck);
        if (!found) assert_int_equal(errors.exit_code, EXIT_CANNOT_WRITE);
        errors_close(&errors);
        errors_close(&damage);
        assert_true(checkpoint_find_valid(run, true, path, &damage, &errors));
        assert_non_null(strstr(path, "step_00000010"));
        errors_close(&damage);
        if (!struck) assert_int_equal(n, 4); // two renames and the sync of the folder
    }
}

// ---- manifests ----

// As the first manifests were: without hashes of blocks.
static void take_blocks_out(const char *manifest) {
    char hash[HASH_HEX];
    Text text = {0};
    File file = take_file(manifest);
    for (const char *at = file.bytes, *line = at; *line; at = line) {
        line = at + strcspn(at, "\n");
        line += *line == '\n';
        if (strstr(at, "\n  \"xxh3\"") == line - 1) break;
        bool first = strncmp(at, "  \"block_bytes\"", 15) == 0, other = strncmp(at, "      \"blocks\"", 14) == 0;
        if (other) text.data[text.size -= 2] = 0; // the comma before it
        if (other) text_add(&text, "\n");
        if (!first && !other) text_append(&text, at, (size_t)(line - at));
    }
    text_add(&text, "    }]");
    bytes_hash(text.data, text.size, hash);
    text_printf(&text, ",\n  \"xxh3\": \"%s\"\n}\n", hash);
    put_file(manifest, text.data, text.size);
    file_close(&file);
    text_close(&text);
}

TEST(manifests_without_blocks_are_read) {
    const char *run = test_folder("manifest_old");
    char path[4096], file[4096], first[4096];
    Errors errors = {0};
    test_checkpoint_must_save(run, 30);
    for (int64_t step = 10; step <= 20; step += 10) {
        assert_true(test_checkpoint_save(run, step, path, &errors));
        path_join(file, path, "manifest.json");
        take_blocks_out(file);
        test_checkpoint_check(path, step, true);
    }
    assert_true(checkpoint_retain(run, 30, &(Retention){.keep = 2, .keep_models = -1}, &errors));
    path_join(first, run, "checkpoints/step_00000010");
    test_checkpoint_check(first, 10, false);
    ruin(run, 20, STATE_FILE);
    assert_false(checkpoint_check(path, &errors));
    must_tell(&errors, ": the file is damaged: its checksum is");
    errors_close(&errors);
}

// Of strangers:

#define HEX "0123456789abcdef"
#define ROOT(version, step, block) \
    "{\"version\": " version ", \"step\": " step ", \"block_bytes\": " block ", \"files\": "
#define ENTRY(name, size, blocks) \
    "{\"name\": " name ", \"size\": " size ", \"xxh3\": \"" HEX HEX "\", \"blocks\": " blocks "}"
#define FILES(entries) ROOT("1", "10", "1048576") "[" entries "]"
#define GOOD ENTRY("\"a\"", "5", "\"" HEX "\"")
#define STATE(place) ENTRY("\"state-0000" place ".safetensors\"", "5", "\"" HEX "\"")

static bool check_manifest(const char *body, Errors *errors) {
    char hash[HASH_HEX];
    Text text = {0};
    bytes_hash(body, strlen(body), hash);
    text_printf(&text, "%s,\n  \"xxh3\": \"%s\"\n}\n", body, hash);
    bool good = checkpoint_manifest_check("m.json", text_string(&text), text.size, errors);
    text_close(&text);
    return good;
}

TEST(manifests_are_read_strictly) {
    static const struct {
        const char *body, *problem; // NULL: good
    } rows[] = {
        {FILES(GOOD), NULL},
        {FILES(GOOD ", " ENTRY("\"b\"", "0", "\"\"")), NULL},
        {FILES(ENTRY("\"a\"", "1048577", "\"" HEX HEX "\"")), NULL},
        {"{\"version\": 1, \"step\": 0, \"files\": [{\"name\": \"a\", \"size\": 5, \"xxh3\": \"" HEX HEX "\"}]", NULL},
        {ROOT("2", "10", "1048576") "[" GOOD "]", "version 2, this program reads version 1"},
        {ROOT("\"1\"", "10", "1048576") "[" GOOD "]", "\"version\" must be a number"},
        {ROOT("1", "-1", "1048576") "[" GOOD "]", "\"step\" must be a count"},
        {ROOT("1", "1.5", "1048576") "[" GOOD "]", "\"step\" must be a count"},
        {ROOT("1", "10", "1048575") "[" GOOD "]", "\"block_bytes\" must be 1048576"},
        {ROOT("1", "10", "0") "[" GOOD "]", "\"block_bytes\" must be 1048576"},
        {FILES(""), "must list 1 to 8192 files"},
        {ROOT("1", "10", "1048576") "{}", "must list 1 to 8192 files"},
        {FILES(GOOD) ", \"more\": 1", "expected version, step, block_bytes, files and xxh3"},
        {FILES("5"), "expected name, size, xxh3 and blocks"},
        {FILES("{\"name\": \"a\", \"size\": 5, \"xxh3\": \"" HEX HEX "\"}"), "\"blocks\" must be"},
        {"{\"version\": 1, \"step\": 0, \"files\": [" GOOD "]", "\"blocks\" must be"},
        {FILES(ENTRY("\"../a\"", "5", "\"" HEX "\"")), "the name of another file"},
        {FILES(ENTRY("\"\"", "5", "\"" HEX "\"")), "the name of another file"},
        {FILES(ENTRY("\"..\"", "5", "\"" HEX "\"")), "the name of another file"},
        {FILES(ENTRY("\"a\\u001b[2J\"", "5", "\"" HEX "\"")), "the name of another file"},
        {FILES(ENTRY("\"manifest.json\"", "5", "\"" HEX "\"")), "the name of another file"},
        {FILES(ENTRY("7", "5", "\"" HEX "\"")), "the name of another file"},
        {FILES(GOOD ", " GOOD), "a: is listed twice"},
        {FILES(STATE("1-of-00001")), NULL},
        {FILES(STATE("2-of-00002") ", " GOOD ", " STATE("1-of-00002")), NULL},
        {FILES(STATE("1-of-00002")), "state-00002-of-00002.safetensors: this part of the state is not listed"},
        {FILES(STATE("2-of-00003") ", " STATE("3-of-00003")), "state-00001-of-00003.safetensors: this part"},
        {FILES(STATE("1-of-99999")), "state-00002-of-99999.safetensors: this part of the state is not listed"},
        {FILES(STATE("1-of-00002") ", " STATE("2-of-00003")), "state-00002-of-00003.safetensors: it is of another"},
        {FILES(STATE("1-of-00001") ", " STATE("1-of-00001")), "is listed twice"},
        {FILES(STATE("3-of-00002") ", " STATE("1-of-00002")), "state-00003-of-00002.safetensors: the state is in"},
        {FILES(STATE("0-of-00001")), "the state is in files state-00001-of-0000N.safetensors"},
        {FILES(STATE("1-of-00000")), "the state is in files"},
        {FILES(STATE("1-of-1")), "the state is in files"},
        {FILES(STATE("1-of--0001")), "the state is in files"},
        {FILES(STATE("01-of-00001")), "the state is in files"},
        {FILES(STATE("1-of-999999999999999999999")), "the state is in files"},
        {FILES(ENTRY("\"state-\"", "5", "\"" HEX "\"")), "state-: the state is in files"},
        {FILES(ENTRY("\"state-00001-of-00001.safetensors2\"", "5", "\"" HEX "\"")), "the state is in files"},
        {FILES(ENTRY("\"a\"", "-5", "\"" HEX "\"")), "\"size\" must be a count"},
        {FILES(ENTRY("\"a\"", "1e300", "\"" HEX "\"")), "\"size\" must be a count"},
        {FILES(ENTRY("\"a\"", "9007199254740991", "\"" HEX "\"")), "\"blocks\" must be"},
        {FILES(ENTRY("\"a\"", "1048577", "\"" HEX "\"")), "\"blocks\" must be"},
        {FILES(ENTRY("\"a\"", "5", "\"0123456789abcdeF\"")), "\"blocks\" must be"},
        {FILES("{\"name\": \"a\", \"size\": 5, \"xxh3\": \"" HEX "\", \"blocks\": \"" HEX "\"}"), "32 hex digits"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        Errors errors = {0};
        if (check_manifest(rows[i].body, &errors) != !rows[i].problem)
            fail_msg("row %zu: %s: %s", i, rows[i].body, text_string(&errors.text));
        if (rows[i].problem) {
            must_tell(&errors, rows[i].problem);
            bool foreign = strstr(rows[i].problem, "this program reads version");
            assert_int_equal(errors.exit_code, foreign ? EXIT_USAGE : EXIT_CHECKPOINT);
            assert_int_equal(errors.count, 1);
        }
        errors_close(&errors);
    }
}

TEST(a_manifest_ends_with_its_own_checksum) {
    static const char *const endings[] = {"", ",\n  \"xxh3\": \"" HEX HEX "\"\n}\n", "}", ", \"xxh3\": 5}"};
    for (size_t i = 0; i < sizeof endings / sizeof endings[0]; i++) {
        char text[1000];
        Errors errors = {0};
        snprintf(text, sizeof text, "%s%s", FILES(GOOD), endings[i]);
        assert_false(checkpoint_manifest_check("m.json", text, strlen(text), &errors));
        must_tell(&errors, i ? "its own checksum does not match" : "m.json:");
        errors_close(&errors);
    }
}

TEST(a_manifest_belongs_to_its_directory) {
    const char *run = test_folder("manifest_step");
    char path[4096], other[4096];
    Errors errors = {0};
    assert_true(test_checkpoint_save(run, 10, path, &errors));
    snprintf(other, sizeof other, "%s/checkpoints/step_00000030", run);
    assert_true(path_rename(path, other, &errors));
    assert_false(checkpoint_check(other, &errors));
    must_tell(&errors, "it is of step 10, the directory of step 30");
    errors_close(&errors);
    snprintf(path, sizeof path, "%s/checkpoints/best", run);
    assert_true(path_rename(other, path, &errors));
    assert_true(checkpoint_check(path, &errors));
}

TEST(what_a_manifest_does_not_list_is_not_read) {
    const char *run = test_folder("manifest_lists");
    char path[4096], added[4096];
    Errors errors = {0};
    assert_true(test_checkpoint_save(run, 10, path, &errors));
    path_join(added, path, "tokenizer.json");
    assert_true(file_replace(added, "{}", 2, &errors));
    assert_true(checkpoint_check(path, &errors));
    assert_true(checkpoint_lists(path, "run.json"));
    assert_false(checkpoint_lists(path, "tokenizer.json"));
}

TEST(a_checkpoint_of_another_version_is_not_damaged) {
    const char *run = test_folder("manifest_version");
    char path[4096], file[4096], hash[HASH_HEX], *version;
    Errors errors = {0}, damage = {0};
    Text text = {0};
    assert_true(test_checkpoint_save(run, 10, path, &errors));
    assert_true(test_checkpoint_save(run, 20, path, &errors));
    path_join(file, path, "manifest.json");
    File whole = take_file(file);
    text_append(&text, whole.bytes, whole.size);
    file_close(&whole);
    version = strstr(text.data, "\"version\": 1");
    version[strlen("\"version\": ")] = '2';
    size_t body = (size_t)(strstr(text.data, ",\n  \"xxh3\"") - text.data);
    bytes_hash(text.data, body, hash);
    memcpy(text.data + body + strlen(",\n  \"xxh3\": \""), hash, HASH_HEX - 1);
    assert_true(file_replace(file, text.data, text.size, &errors));
    assert_false(checkpoint_find_valid(run, true, path, &damage, &errors));
    assert_int_equal(errors.exit_code, EXIT_USAGE);
    must_tell(&errors, "use the program that wrote it");
    assert_int_equal(damage.count, 0);
    assert_true(path_exists(file)); // under its own name
    errors_close(&errors);
    text_close(&text);
}
