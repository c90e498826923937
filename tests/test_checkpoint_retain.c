// Which checkpoints stay: whole, as models, not at all; and room for the next one.
#include <limits.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/fault.h"
#include "tests/support_checkpoint.h"
#include "tests/test.h"

static const char *run_of(const char *name, int64_t count) {
    const char *run = test_folder(name);
    for (int64_t i = 1; i <= count; i++) test_checkpoint_must_save(run, i);
    return run;
}

static void must_retain(const char *run, int64_t newest, Retention retention) {
    Errors errors = {0};
    if (!checkpoint_retain(run, newest, &retention, &errors)) fail_msg("%s", text_string(&errors.text));
}

TEST(older_checkpoints_become_models) {
    static const int64_t always[] = {2, 77};
    const char *run = run_of("retain", 6);
    char path[4096];
    must_retain(run, 6, (Retention){.keep = 0, .keep_models = 0});
    assert_string_equal(test_checkpoint_names(run), "step_00000001 step_00000002 step_00000003 step_00000004 "
                                                    "step_00000005 step_00000006 ");
    must_retain(run, 5, (Retention){2, -1, always, .always_count = 2});
    assert_string_equal(test_checkpoint_names(run), "step_00000001(model) step_00000002 step_00000003(model) "
                                                    "step_00000004 step_00000005 step_00000006 ");
    for (int64_t step = 1; step <= 6; step++) {
        snprintf(path, sizeof path, "%s/checkpoints/step_%08ld", run, step);
        test_checkpoint_check(path, step, step != 1 && step != 3);
    }
    must_retain(run, 6, (Retention){1, 2, always, .always_count = 1});
    assert_string_equal(test_checkpoint_names(run), "step_00000002 step_00000004(model) step_00000005(model) "
                                                    "step_00000006 ");
    must_retain(run, 6, (Retention){.keep = 1});
    assert_string_equal(test_checkpoint_names(run), "step_00000006 ");
}

TEST(multiples_from_a_step_on_stay_whole) {
    const char *run = run_of("retain_multiples", 9);
    must_retain(run, 9, (Retention){.keep = 1, .every = 2, .since = 4});
    assert_string_equal(test_checkpoint_names(run), "step_00000004 step_00000006 step_00000008 step_00000009 ");
}

TEST(what_has_no_manifest_stays) {
    const char *run = run_of("retain_alien", 4);
    char path[4096];
    Errors errors = {0};
    path_join(path, run, "checkpoints/step_00000001/manifest.json");
    assert_true(file_remove(path, &errors));
    path_join(path, run, "checkpoints/step_00000002/manifest.json");
    test_damage(path, 30, false);
    path_join(path, run, "checkpoints/step_00000003/notes.txt");
    assert_true(file_replace(path, "mine", 4, &errors));
    must_retain(run, 4, (Retention){.keep = 1, .keep_models = -1});
    assert_string_equal(test_checkpoint_names(run), "step_00000001 step_00000002 step_00000003(model) step_00000004 ");
    assert_true(path_exists(path)); // the notes, too
}

// Whatever happens at operation n, the newest checkpoint stays whole, each older one stays whole or becomes a whole
// model or goes, and the next save and retention make of it what they should.
static bool survives(const char *original, int operation, const char *kind) {
    const char *run = test_folder("retain_faults");
    char rule[32], path[8300];
    snprintf(path, sizeof path, "cp -r %s/checkpoints %s", original, run);
    assert_int_equal(system(path), 0); // quicker than saving anew
    int status = 0;
    bool struck;
    snprintf(rule, sizeof rule, "%d:%s", operation, kind);
    Retention retention = {.keep = 1, .keep_models = 2};
    Errors errors = {0};
    if (strcmp(kind, "kill") == 0) {
        pid_t child = fork();
        if (child == 0) {
            fault_set(rule);
            checkpoint_retain(run, 4, &retention, &errors);
            _exit(0);
        }
        assert_int_equal(waitpid(child, &status, 0), child);
        struck = WIFSIGNALED(status);
    } else {
        fault_set(rule);
        bool good = checkpoint_retain(run, 4, &retention, &errors);
        struck = fault_operations() >= operation;
        fault_set(NULL);
        if (strcmp(kind, "EIO") == 0) assert_int_equal(good, !struck);
        if (!good) assert_int_equal(errors.exit_code, EXIT_CANNOT_WRITE);
        errors_close(&errors);
    }
    TextList names = {0}, others = {0};
    assert_true(checkpoint_names(run, &names, &others, &errors));
    for (int64_t i = 0; i < names.count; i++)
        if (!checkpoint_check(names.items[i], &errors)) fail_msg("%s: %s", rule, text_string(&errors.text));
    assert_true(names.count >= 3); // step 1 may be gone
    test_checkpoint_check(names.items[names.count - 1], 4, true);
    text_list_close(&names);
    text_list_close(&others);
    Errors damage = {0};
    assert_true(checkpoint_find_valid(run, false, path, &damage, &errors));
    assert_int_equal(damage.count, 0);
    test_checkpoint_must_save(run, 5);
    must_retain(run, 5, retention);
    assert_string_equal(test_checkpoint_names(run), "step_00000003(model) step_00000004(model) step_00000005 ");
    return struck;
}

TEST(every_failure_leaves_the_old_or_the_new) {
    static const char *const kinds[] = {"EIO", "short", "kill"};
    char original[4096]; // longer than a name of test_folder lives
    snprintf(original, sizeof original, "%s", run_of("retain_original", 4));
    for (int kind = 0; kind < 3; kind++) {
        int operations = 0;
        while (survives(original, ++operations, kinds[kind])) {}
        assert_in_range(operations, 25, 200);
    }
}

TEST(a_removal_that_dies_leaves_nothing_that_looks_like_a_checkpoint) {
    const char *run = run_of("retain_removal", 3);
    Errors errors = {0};
    fault_set("3:EIO");
    assert_false(checkpoint_retain(run, 3, &(Retention){.keep = 1}, &errors));
    fault_set(NULL);
    errors_close(&errors);
    assert_string_equal(test_checkpoint_names(run), "step_00000001.tmp step_00000002 step_00000003 ");
    test_checkpoint_must_save(run, 4); // cleans up
    assert_string_equal(test_checkpoint_names(run), "step_00000002 step_00000003 step_00000004 ");
}

// ---- room ----

static uint64_t disk; // bytes of it, of which the checkpoints take some

static bool free_of_disk(const char *run, uint64_t *bytes) {
    uint64_t used = directory_bytes(run);
    *bytes = used < disk ? disk - used : 0;
    return true;
}

static bool none_but_elsewhere(const char *folder, uint64_t *bytes) {
    char real[PATH_MAX];
    *bytes = realpath(folder, real) && strstr(real, "elsewhere") ? 1 << 30 : 0;
    return true;
}

static bool unknown(const char *run, uint64_t *bytes) {
    (void)run, (void)bytes;
    return false;
}

enum { RESERVE = 8 << 20 };

TEST(room_is_made_for_a_checkpoint) {
    const char *run = run_of("room", 4);
    Retention retention = {.keep = 3, .keep_models = 0};
    Errors errors = {0};
    uint64_t one = directory_bytes(run) / 4;
    disk = RESERVE + 10 * one; // there is room
    assert_true(test_checkpoint_room(run, 5, &retention, free_of_disk, &errors));
    disk = 0;
    assert_true(test_checkpoint_room(run, 5, &retention, unknown, &errors));
    assert_string_equal(test_checkpoint_names(run), "step_00000001 step_00000002 step_00000003 step_00000004 ");
    disk = RESERVE + 5 * one; // retention makes enough: as if step 5 were the last of three
    assert_true(test_checkpoint_room(run, 5, &retention, free_of_disk, &errors));
    assert_string_equal(test_checkpoint_names(run), "step_00000003 step_00000004 ");
    retention.keep = 1; // the last one stays all the same
    disk = RESERVE + one;
    assert_false(test_checkpoint_room(run, 5, &retention, free_of_disk, &errors));
    assert_int_equal(errors.exit_code, EXIT_CANNOT_WRITE);
    errors_close(&errors);
    assert_string_equal(test_checkpoint_names(run), "step_00000004 ");
}

TEST(room_is_looked_for_where_the_folder_of_checkpoints_is) {
    const char *run = test_folder("room_link");
    char folder[4096], elsewhere[4096];
    Errors errors = {0};
    path_join(folder, run, "checkpoints");
    path_join(elsewhere, run, "elsewhere");
    assert_false(test_checkpoint_room(run, 1, NULL, none_but_elsewhere, &errors));
    errors_close(&errors);
    assert_true(directory_make(elsewhere, &errors));
    assert_int_equal(symlink("elsewhere", folder), 0);
    assert_true(test_checkpoint_room(run, 1, NULL, none_but_elsewhere, &errors));
}

TEST(the_last_valid_checkpoint_stays_however_little_room_there_is) {
    const char *run = run_of("room_last", 4);
    char path[4096];
    Errors errors = {0};
    disk = 0;
    assert_false(test_checkpoint_room(run, 5, NULL, free_of_disk, &errors)); // nothing may be removed
    errors_close(&errors);
    path_join(path, run, "checkpoints/step_00000004/state-00001-of-00001.safetensors");
    test_damage(path, 1000, false);
    path_join(path, run, "checkpoints/step_00000001");
    char orphan[4096];
    path_join(orphan, run, "checkpoints/step_00000001.orphan-1");
    assert_true(path_rename(path, orphan, &errors));
    assert_false(test_checkpoint_room(run, 5, &(Retention){.keep = 1, .keep_models = 0}, free_of_disk, &errors));
    const char *told = text_string(&errors.text);
    if (!strstr(told, "step_00000001.orphan-1 (") || !strstr(told, "checkpoint.keep")) fail_msg("%s", told);
    errors_close(&errors);
    assert_string_equal(test_checkpoint_names(run), "step_00000001.orphan-1 step_00000003 ");
}
