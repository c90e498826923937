// Checkpoints: whole or absent, whatever fails and wherever; damage is found and named.
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include "data/checkpoint.h"
#include "data/metrics.h"
#include "runtime/fault.h"
#include "runtime/philox.h"
#include "tests/reference/reference.h"
#include "tests/test.h"

enum { ROWS = 5, COLUMNS = 7 };

typedef struct {
    float values[ROWS * COLUMNS], vector[COLUMNS];
    NamedTensor named[3];
} State;

static void fill(State *state, int64_t step) {
    philox_normal(state->values, ROWS * COLUMNS, 1, 1, STREAM_TEST, (uint32_t)step, 0);
    philox_normal(state->vector, COLUMNS, 1, 2, STREAM_TEST, (uint32_t)step, 0);
    Tensor matrix = tensor_2d(state->values, DTYPE_F32, ROWS, COLUMNS);
    state->named[0] = (NamedTensor){.name = "z.matrix", .tensor = matrix};
    state->named[1] = (NamedTensor){.name = "a.turned", .tensor = matrix, .transposed = true};
    state->named[2] = (NamedTensor){.name = "m.vector", .tensor = tensor_1d(state->vector, DTYPE_F32, COLUMNS)};
}

static bool save(const char *run, int64_t step, char *path, Errors *errors) {
    State state;
    fill(&state, step);
    CheckpointTensors tensors = {"state.safetensors", state.named, 3, DTYPE_F32};
    CheckpointText texts[] = {{"run.json", "{\"step\": 1}\n"}, {"config.json", "{}\n"}};
    CheckpointContent content = {
        .step = step, .tensors = &tensors, .tensor_files = 1, .texts = texts, .text_files = 2};
    return checkpoint_save(run, &reference_kernels, &content, path, errors);
}

static void check_loads(const char *path, int64_t step) {
    State expected, found;
    char file[4096];
    Errors errors = {0};
    fill(&expected, step);
    fill(&found, step + 1);
    path_join(file, path, "state.safetensors");
    if (!checkpoint_verify(path, &errors)) fail_msg("%s", text_string(&errors.text));
    Safetensors *st = safetensors_open(file, EXIT_CHECKPOINT, &errors);
    assert_non_null(st);
    if (!safetensors_read(st, &reference_kernels, found.named, 3, &errors)) fail_msg("%s", text_string(&errors.text));
    assert_memory_equal(found.values, expected.values, sizeof found.values);
    assert_memory_equal(found.vector, expected.vector, sizeof found.vector);
    safetensors_close(st);
}

static void must_save(const char *run, int64_t step) {
    Errors errors = {0};
    if (!save(run, step, NULL, &errors)) fail_msg("%s", text_string(&errors.text));
}

TEST(a_checkpoint_comes_back) {
    const char *run = test_folder("checkpoint");
    char path[4096], found[4096];
    Errors errors = {0};
    assert_true(save(run, 10, path, &errors));
    check_loads(path, 10);
    must_save(run, 20);
    assert_true(checkpoint_find(run, found, &errors));
    assert_non_null(strstr(found, "step_00000020"));
    assert_true(checkpoint_find(path, found, &errors)); // by its own name
    check_loads(found, 10);
    must_save(run, 20); // over itself
    assert_true(checkpoint_find(run, found, &errors));
    check_loads(found, 20);
}

TEST(equal_state_gives_equal_bytes) {
    const char *run = test_folder("checkpoint_bytes");
    char path[4096], file[4096], first[HASH_HEX], second[HASH_HEX];
    uint64_t size;
    Errors errors = {0};
    for (int i = 0; i < 2; i++) {
        assert_true(save(run, 10, path, &errors));
        path_join(file, path, "state.safetensors");
        assert_true(file_hash(file, i ? second : first, &size, EXIT_DATA, &errors));
    }
    assert_string_equal(first, second);
}

TEST(no_checkpoint_is_no_error) {
    const char *run = test_folder("checkpoint_none");
    char path[4096];
    Errors errors = {0};
    assert_true(checkpoint_find(run, path, &errors));
    assert_string_equal(path, "");
    path_join(path, run, "checkpoints");
    assert_true(file_replace(path, "", 0, &errors)); // no folder: cannot be read
    assert_false(checkpoint_find(run, path, &errors));
    assert_int_equal(errors.exit_code, EXIT_NO_INPUT);
    assert_non_null(strstr(text_string(&errors.text), run));
    errors_close(&errors);
}

// Names in the checkpoints folder, with a blank after each.
static const char *folder_names(const char *run) {
    static char all[1024];
    char folder[4096];
    Errors errors = {0};
    TextList names = {0};
    path_join(folder, run, "checkpoints");
    assert_true(directory_list(&names, folder, &errors));
    all[0] = 0;
    for (int64_t i = 0; i < names.count; i++) {
        strcat(all, names.items[i]);
        strcat(all, " ");
    }
    text_list_close(&names);
    return all;
}

TEST(old_checkpoints_are_pruned) {
    const char *run = test_folder("checkpoint_prune");
    char path[4096];
    Errors errors = {0};
    for (int64_t step = 1; step <= 6; step++) must_save(run, step * 100);
    path_join(path, run, "checkpoints/step_00000100/manifest.json");
    assert_true(file_remove(path, &errors)); // no longer complete: stays
    assert_true(checkpoint_prune(run, 500, 2, &errors));
    assert_string_equal(folder_names(run), "step_00000100 step_00000400 step_00000500 step_00000600 ");
}

TEST(a_removal_that_dies_leaves_nothing_that_looks_like_a_checkpoint) {
    const char *run = test_folder("checkpoint_prune_fault");
    Errors errors = {0};
    for (int64_t step = 1; step <= 3; step++) must_save(run, step);
    fault_set("3:EIO");
    assert_false(checkpoint_prune(run, 3, 1, &errors));
    fault_set(NULL);
    errors_close(&errors);
    assert_string_equal(folder_names(run), "step_00000001.tmp step_00000002 step_00000003 ");
    must_save(run, 4); // cleans up
    assert_string_equal(folder_names(run), "step_00000002 step_00000003 step_00000004 ");
}

TEST(later_checkpoints_are_set_aside) {
    const char *run = test_folder("checkpoint_aside");
    char path[4096];
    int64_t count;
    Errors errors = {0};
    for (int round = 0; round < 2; round++) {
        for (int64_t step = 1; step <= 3; step++) must_save(run, step);
        assert_true(checkpoint_set_aside(run, 1, &count, &errors));
        assert_int_equal(count, 2);
        assert_true(checkpoint_find(run, path, &errors));
        assert_non_null(strstr(path, "step_00000001"));
    }
    assert_true(checkpoint_set_aside(run, 1, &count, &errors));
    assert_int_equal(count, 0);
    assert_string_equal(folder_names(run), "step_00000001 step_00000002.orphan-1 step_00000002.orphan-2 "
                                           "step_00000003.orphan-1 step_00000003.orphan-2 ");
    path_join(path, run, "checkpoints/step_00000003.orphan-1");
    check_loads(path, 3);
}

TEST(the_run_of_a_checkpoint_is_found) {
    const char *run = test_folder("checkpoint_run");
    char path[4096], dir[4096], here[4096], real[4096];
    Errors errors = {0};
    assert_true(save(run, 7, path, &errors));
    assert_true(checkpoint_run(path, dir, &errors));
    assert_string_equal(dir, run);
    assert_true(checkpoint_run(run, dir, &errors));
    assert_string_equal(dir, run);
    assert_non_null(getcwd(here, sizeof here));
    assert_non_null(realpath(run, real));
    path_join(path, run, "checkpoints");
    assert_int_equal(chdir(path), 0); // named from within
    assert_true(checkpoint_run("step_00000007", dir, &errors));
    assert_string_equal(dir, real);
    assert_true(path_rename("step_00000007", "best", &errors));
    assert_false(checkpoint_run("best", dir, &errors));
    assert_int_equal(errors.exit_code, EXIT_USAGE);
    errors_close(&errors);
    assert_int_equal(chdir(here), 0);
}

// Whatever operation fails, the older checkpoint stays whole, the new one is whole or absent, and nothing else is left.
static bool survives(const char *run, const char *rule) {
    char path[4096], folder[4096];
    Errors errors = {0};
    fault_set(rule);
    bool saved = save(run, 20, NULL, &errors);
    bool struck = fault_operations() >= atoi(rule);
    fault_set(NULL);
    if (!saved) assert_true(errors.count > 0 && errors.exit_code == EXIT_CANNOT_WRITE);
    errors_close(&errors);
    assert_true(checkpoint_find(run, path, &errors));
    check_loads(path, strstr(path, "step_00000020") ? 20 : 10);
    TextList names = {0};
    path_join(folder, run, "checkpoints");
    directory_list(&names, folder, &errors);
    for (int64_t i = 0; i < names.count; i++)
        if (strstr(names.items[i], ".tmp")) fail_msg("%s leaves %s", rule, names.items[i]);
    text_list_close(&names);
    path_join(path, folder, "step_00000020");
    assert_true(directory_remove(path, &errors));
    return struck;
}

TEST(every_failure_leaves_the_old_checkpoint) {
    static const char *const kinds[] = {"EIO", "ENOSPC", "short"};
    const char *run = test_folder("checkpoint_faults");
    must_save(run, 10);
    for (int kind = 0; kind < 3; kind++) {
        int operations = 0;
        char rule[32];
        do snprintf(rule, sizeof rule, "%d:%s", ++operations, kinds[kind]);
        while (survives(run, rule));
        assert_in_range(operations, 15, 200);
    }
}

// ---- damage ----

static void damage(const char *file, uint64_t at, bool cut) {
    if (cut) {
        assert_int_equal(truncate(file, (off_t)at), 0);
        return;
    }
    FILE *stream = fopen(file, "r+b");
    assert_non_null(stream);
    fseek(stream, (long)at, SEEK_SET);
    int byte = fgetc(stream);
    fseek(stream, (long)at, SEEK_SET);
    fputc(byte ^ (1 << at % 8), stream);
    fclose(stream);
}

TEST(every_damage_is_found_and_named) {
    static const char *const files[] = {"state.safetensors", "run.json", "config.json", "manifest.json"};
    enum { TIMES = 40 };
    const char *run = test_folder("checkpoint_damage");
    char path[4096], file[4096];
    for (uint64_t i = 0; i < 4 * TIMES; i++) {
        const char *name = files[i % 4];
        uint64_t size;
        Errors errors = {0};
        assert_true(save(run, 10, path, &errors));
        path_join(file, path, name);
        assert_true(path_size(file, &size));
        damage(file, philox_u64(1, STREAM_TEST, 5, i) % size, i / 4 % 2);
        assert_false(checkpoint_verify(path, &errors));
        assert_int_equal(errors.exit_code, EXIT_CHECKPOINT);
        if (!strstr(text_string(&errors.text), name)) fail_msg("%s is not in: %s", name, text_string(&errors.text));
        errors_close(&errors);
    }
}

// ---- metrics ----

static void assert_file(const char *path, const char *expected) {
    File file;
    Errors errors = {0};
    assert_true(file_read(&file, path, 1000, EXIT_DATA, &errors));
    assert_string_equal(file.bytes, expected);
    file_close(&file);
}

static void write_lines(const char *run, int64_t keep, int64_t step, int lines) {
    Metrics metrics = {.descriptor = -1};
    Errors errors = {0};
    assert_true(metrics_open(&metrics, run, keep, step, &errors));
    for (int i = 0; i < lines; i++) assert_true(metrics_write(&metrics, "{\"step\":1}", &errors));
    metrics_close(&metrics);
}

TEST(metrics_are_cut_and_their_tail_is_kept) {
    const char *run = test_folder("metrics");
    char path[4096];
    write_lines(run, 0, 0, 5);
    write_lines(run, 22, 2, 1); // two lines stay
    path_join(path, run, "metrics.jsonl");
    assert_file(path, "{\"step\":1}\n{\"step\":1}\n{\"step\":1}\n");
    path_join(path, run, "metrics.2.orphan.jsonl");
    assert_file(path, "{\"step\":1}\n{\"step\":1}\n{\"step\":1}\n");
    write_lines(run, 22, 2, 0); // again from the same step: the first tail stays
    path_join(path, run, "metrics.2.orphan-2.jsonl");
    assert_file(path, "{\"step\":1}\n");
}

TEST(metrics_that_are_missing_are_told_and_do_not_stop_a_run) {
    const char *run = test_folder("metrics_short");
    Metrics metrics = {.descriptor = -1};
    Errors errors = {0};
    write_lines(run, 0, 0, 2);
    assert_true(metrics_open(&metrics, run, 1000, 3, &errors));
    assert_non_null(strstr(text_string(&errors.text), "metrics.jsonl: 22 bytes"));
    assert_int_equal(metrics.size, 22);
    errors_close(&errors);
    metrics_close(&metrics);
}

TEST(a_line_that_cannot_be_written_waits_and_leaves_no_half) {
    const char *run = test_folder("metrics_torn");
    Metrics metrics = {.descriptor = -1};
    Errors errors = {0};
    char path[4096];
    assert_true(metrics_open(&metrics, run, 0, 0, &errors));
    struct rlimit before, limit;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    limit = before;
    limit.rlim_cur = 17; // one line of 11 bytes and a half
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
    assert_true(metrics_write(&metrics, "{\"step\":1}", &errors));
    assert_false(metrics_write(&metrics, "{\"step\":2}", &errors));
    assert_int_equal(metrics.size, 11);
    assert_string_equal(text_string(&metrics.unwritten), "{\"step\":2}\n");
    assert_int_equal(errors.count, 2);
    assert_false(metrics_write(&metrics, "{\"step\":3}", &errors));
    assert_int_equal(errors.count, 2); // told once
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    errors_close(&errors);
    path_join(path, run, "metrics.jsonl");
    assert_file(path, "{\"step\":1}\n");
    assert_true(metrics_write(&metrics, "{\"step\":4}", &errors));
    assert_true(metrics_sync(&metrics, &errors));
    assert_int_equal(metrics.size, 44);
    metrics_close(&metrics);
    assert_file(path, "{\"step\":1}\n{\"step\":2}\n{\"step\":3}\n{\"step\":4}\n");
}

TEST(a_half_line_that_cannot_be_cut_off_is_cut_off_later) {
    static const char *const rules[] = {"1:EIO", "1+:EIO", "2:EIO", "3:EIO", "1:short"};
    char path[4096];
    for (int i = 0; i < 5; i++) {
        const char *run = test_folder("metrics_uncut");
        Metrics metrics = {.descriptor = -1};
        Errors errors = {0};
        assert_true(metrics_open(&metrics, run, 0, 0, &errors));
        assert_true(metrics_write(&metrics, "1", &errors));
        metrics.torn = i == 2 || i == 3; // as if a cut had failed
        if (metrics.torn) assert_true(file_append(metrics.descriptor, metrics.path, "half", 4, &errors));
        fault_set(rules[i]);
        for (int line = 2; line < 5; line++) metrics_write(&metrics, (char[]){(char)('0' + line), 0}, &errors);
        fault_set(NULL);
        assert_true(metrics_flush(&metrics, &errors));
        metrics_close(&metrics);
        errors_close(&errors);
        path_join(path, run, "metrics.jsonl");
        assert_file(path, "1\n2\n3\n4\n");
    }
}

TEST(lines_that_wait_are_bounded_and_taken_over) {
    enum { LINES = 20 };
    static char line[100000];
    const char *run = test_folder("metrics_many");
    Metrics metrics = {.descriptor = -1};
    Errors errors = {0};
    memset(line, 'x', sizeof line - 1);
    assert_true(metrics_open(&metrics, run, 0, 0, &errors));
    fault_set("1+:ENOSPC");
    for (int i = 0; i < LINES; i++) assert_false(metrics_write(&metrics, line, &errors));
    fault_set(NULL);
    assert_int_equal(metrics.unwritten.size, 10 * sizeof line);
    assert_int_equal(errors.count, 2 + LINES - 10);
    metrics_close(&metrics);
    errors_close(&errors);
    text_add(&metrics.unwritten, "of a checkpoint\n");
    assert_true(metrics_open(&metrics, run, 0, 0, &errors));
    assert_true(metrics_write(&metrics, "next", &errors));
    assert_file(metrics.path, "of a checkpoint\nnext\n");
    metrics_close(&metrics);
}
