// Checkpoints: whole or absent, whatever fails and wherever; damage is found and named, and a resume falls back.
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "data/metrics.h"
#include "runtime/fault.h"
#include "runtime/philox.h"
#include "tests/reference/reference.h"
#include "tests/support_checkpoint.h"
#include "tests/test.h"

#define STATE_FILE test_checkpoint_files[1]

TEST(a_checkpoint_comes_back) {
    const char *run = test_folder("checkpoint");
    char path[4096], found[4096];
    Errors errors = {0};
    assert_true(test_checkpoint_save(run, 10, path, &errors));
    test_checkpoint_check(path, 10, true);
    test_checkpoint_must_save(run, 20);
    assert_true(checkpoint_find(run, found, &errors));
    assert_non_null(strstr(found, "step_00000020"));
    assert_true(checkpoint_find(path, found, &errors)); // by its own name
    test_checkpoint_check(found, 10, true);
    test_checkpoint_must_save(run, 20); // over itself
    assert_true(checkpoint_find(run, found, &errors));
    test_checkpoint_check(found, 20, true);
}

TEST(equal_state_gives_equal_bytes) {
    const char *run = test_folder("checkpoint_bytes");
    char path[4096], file[4096], first[HASH_HEX], second[HASH_HEX];
    uint64_t size;
    Errors errors = {0};
    for (int i = 0; i < 2; i++) {
        assert_true(test_checkpoint_save(run, 10, path, &errors));
        path_join(file, path, STATE_FILE);
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

TEST(later_checkpoints_are_set_aside) {
    const char *run = test_folder("checkpoint_aside");
    char path[4096];
    int64_t count;
    Errors errors = {0};
    for (int round = 0; round < 2; round++) {
        for (int64_t step = 1; step <= 3; step++) test_checkpoint_must_save(run, step);
        assert_true(checkpoint_set_aside(run, 1, &count, &errors));
        assert_int_equal(count, 2);
        assert_true(checkpoint_find(run, path, &errors));
        assert_non_null(strstr(path, "step_00000001"));
    }
    assert_true(checkpoint_set_aside(run, 1, &count, &errors));
    assert_int_equal(count, 0);
    assert_string_equal(test_checkpoint_names(run), "step_00000001 step_00000002.orphan-1 step_00000002.orphan-2 "
                                                    "step_00000003.orphan-1 step_00000003.orphan-2 ");
    path_join(path, run, "checkpoints/step_00000003.orphan-1");
    test_checkpoint_check(path, 3, true);
}

TEST(the_run_of_a_checkpoint_is_found) {
    const char *run = test_folder("checkpoint_run");
    char path[4096], dir[4096], here[4096], real[4096];
    Errors errors = {0};
    assert_true(test_checkpoint_save(run, 7, path, &errors));
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
    assert_true(path_rename("best", "step_00000007", &errors));
    assert_int_equal(chdir(here), 0);
    char elsewhere[4096];
    path_join(elsewhere, run, "elsewhere"); // on another disk, say
    assert_int_equal(rename(path, elsewhere), 0);
    assert_int_equal(symlink("elsewhere", path), 0);
    path_join(path, run, "checkpoints/step_00000007");
    assert_true(checkpoint_run(path, dir, &errors));
    assert_string_equal(dir, run);
}

// Whatever operation fails, the older checkpoint stays whole, the new one is whole or absent, and nothing else is left.
static bool survives(const char *run, const char *rule) {
    char path[4096], folder[4096];
    Errors errors = {0};
    fault_set(rule);
    bool saved = test_checkpoint_save(run, 20, NULL, &errors);
    bool struck = fault_operations() >= atoi(rule);
    fault_set(NULL);
    if (!saved) assert_true(errors.count > 0 && errors.exit_code == EXIT_CANNOT_WRITE);
    errors_close(&errors);
    assert_true(checkpoint_find(run, path, &errors));
    test_checkpoint_check(path, strstr(path, "step_00000020") ? 20 : 10, true);
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
    test_checkpoint_must_save(run, 10);
    for (int kind = 0; kind < 3; kind++) {
        int operations = 0;
        char rule[32];
        do snprintf(rule, sizeof rule, "%d:%s", ++operations, kinds[kind]);
        while (survives(run, rule));
        assert_in_range(operations, 15, 200);
    }
}

// The same where the process dies: then what is half done is cleared by the next save.
static bool dies(const char *run, int operation) {
    char rule[32], path[4096];
    Errors errors = {0};
    snprintf(rule, sizeof rule, "%d:kill", operation);
    pid_t child = fork();
    if (child == 0) {
        fault_set(rule);
        test_checkpoint_save(run, 20, NULL, &errors);
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(checkpoint_find(run, path, &errors));
    test_checkpoint_check(path, strstr(path, "step_00000020") ? 20 : 10, true);
    test_checkpoint_must_save(run, 30);
    if (strstr(test_checkpoint_names(run), ".tmp")) fail_msg("%s leaves %s", rule, test_checkpoint_names(run));
    for (int step = 20; step <= 30; step += 10) {
        snprintf(path, sizeof path, "%s/checkpoints/step_%08d", run, step);
        assert_true(directory_remove(path, &errors));
    }
    return WIFSIGNALED(status);
}

TEST(a_save_that_dies_leaves_the_old_checkpoint) {
    const char *run = test_folder("checkpoint_kill");
    int operations = 0;
    test_checkpoint_must_save(run, 10);
    while (dies(run, ++operations)) {}
    assert_in_range(operations, 15, 200);
}

// Where the file system cannot exchange two names, a death may come between the renames.
TEST(an_exchange_that_was_cut_short_is_undone) {
    const char *run = test_folder("checkpoint_exchange");
    Errors errors = {0};
    char path[4096], aside[4096];
    for (int step = 10; step <= 20; step += 10) {
        assert_true(test_checkpoint_save(run, step, path, &errors));
        snprintf(aside, sizeof aside, "%.4000s.exchange", path);
        assert_true(path_rename(path, aside, &errors));
    }
    path_join(path, run, "checkpoints/notes.tmp"); // no save made that
    assert_true(directory_make(path, &errors));
    test_checkpoint_must_save(run, 20); // the new one is in place
    assert_true(path_exists(path));
    assert_true(directory_remove(path, &errors));
    assert_string_equal(test_checkpoint_names(run), "step_00000010 step_00000020 ");
}

TEST(host_memory_is_saved_as_it_is) {
    const char *run = test_folder("checkpoint_host");
    char path[4096], file[4096], hashes[2][HASH_HEX];
    uint64_t size;
    Errors errors = {0};
    for (int i = 0; i < 2; i++) {
        TestCheckpoint what = {.step = 10, .bulk = 1 << 21, .kernels = i ? NULL : &reference_kernels};
        assert_true(test_checkpoint_save_as(run, what, path, &errors));
        path_join(file, path, STATE_FILE);
        assert_true(file_hash(file, hashes[i], &size, EXIT_DATA, &errors));
    }
    assert_string_equal(hashes[0], hashes[1]);
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
    Metrics metrics = {.file.descriptor = -1};
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
    Metrics metrics = {.file.descriptor = -1};
    Errors errors = {0};
    write_lines(run, 0, 0, 2);
    assert_true(metrics_open(&metrics, run, 1000, 3, &errors));
    assert_non_null(strstr(text_string(&errors.text), "metrics.jsonl: 22 bytes"));
    assert_int_equal(metrics.file.size, 22);
    errors_close(&errors);
    metrics_close(&metrics);
}

TEST(metrics_that_were_removed_go_back_all_the_same) {
    const char *run = test_folder("metrics_back");
    char path[4096];
    for (int replaced = 0; replaced < 2; replaced++) {
        Metrics metrics = {.file.descriptor = -1};
        Errors errors = {0};
        assert_true(metrics_open(&metrics, run, 0, 0, &errors));
        for (int i = 1; i < 4; i++) assert_true(metrics_write(&metrics, (char[]){(char)('0' + i), 0}, &errors));
        path_join(path, run, "metrics.jsonl");
        assert_true(file_remove(path, &errors));
        if (replaced) assert_true(file_replace(path, "another\n", 8, &errors));
        assert_true(metrics_go_back(&metrics, run, 2, 1, &errors));
        assert_true(metrics_write(&metrics, "4", &errors));
        metrics_close(&metrics);
        assert_int_equal(errors.count, 0);
        assert_file(path, "1\n4\n");
        path_join(path, run, replaced ? "metrics.1.orphan-2.jsonl" : "metrics.1.orphan.jsonl");
        assert_file(path, "2\n3\n");
    }
}

TEST(a_line_that_cannot_be_written_waits_and_leaves_no_half) {
    const char *run = test_folder("metrics_torn");
    Metrics metrics = {.file.descriptor = -1};
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
    assert_int_equal(metrics.file.size, 11);
    assert_string_equal(text_string(&metrics.unwritten), "{\"step\":2}\n");
    assert_int_equal(errors.count, 2);
    assert_false(metrics_write(&metrics, "{\"step\":3}", &errors));
    assert_int_equal(errors.count, 2); // told once
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    errors_close(&errors);
    path_join(path, run, "metrics.jsonl");
    assert_file(path, "{\"step\":1}\n");
    assert_true(metrics_write(&metrics, "{\"step\":4}", &errors));
    assert_true(growing_sync(&metrics.file, &errors));
    assert_int_equal(metrics.file.size, 44);
    metrics_close(&metrics);
    assert_file(path, "{\"step\":1}\n{\"step\":2}\n{\"step\":3}\n{\"step\":4}\n");
}

TEST(a_half_line_that_cannot_be_cut_off_is_cut_off_later) {
    static const char *const rules[] = {"1:EIO", "1+:EIO", "2:EIO", "3:EIO", "1:short"};
    char path[4096];
    for (int i = 0; i < 5; i++) {
        const char *run = test_folder("metrics_uncut");
        Metrics metrics = {.file.descriptor = -1};
        Errors errors = {0};
        assert_true(metrics_open(&metrics, run, 0, 0, &errors));
        assert_true(metrics_write(&metrics, "1", &errors));
        metrics.file.torn = i == 2 || i == 3; // as if a cut had failed
        if (metrics.file.torn) assert_true(file_append(metrics.file.descriptor, metrics.file.path, "half", 4, &errors));
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
    Metrics metrics = {.file.descriptor = -1};
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
    assert_file(metrics.file.path, "of a checkpoint\nnext\n");
    metrics_close(&metrics);
}
