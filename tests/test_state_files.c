// A state that several ranks wrote: any number of ranks reads it, bit for bit; what is missing, twice there, damaged or
// nonsense is refused by name; and a save in stages leaves the old checkpoint wherever it fails.
#include <math.h>
#include <sys/wait.h>
#include <unistd.h>

#include "data/state_files.h"
#include "runtime/fault.h"
#include "runtime/philox.h"
#include "tests/reference/reference.h"
#include "tests/support.h"
#include "tests/support_checkpoint.h"
#include "tests/test.h"

enum { TENSORS = 6, MOST = 4, LARGEST = 1200000, WHOLES = 2 };

// The last WHOLES of them are never cut.
static const struct {
    const char *name;
    int64_t rows, columns; // columns 0: a vector
} rows[TENSORS] = {{"z.h.0.a_w.q", 7, 11}, {"m.b", 13, 0}, {"z.one", 1, 0}, {"v.large", LARGEST, 0},
                   {"L0.h.0.a_w.q", 5, 5}, {"m.h.1.a_w", 3, 17}};

static int64_t elements(int t) { return rows[t].rows * (rows[t].columns ? rows[t].columns : 1); }

static Tensor tensor_at(int t, float *values) {
    return rows[t].columns ? tensor_2d(values, DTYPE_F32, rows[t].rows, rows[t].columns)
                           : tensor_1d(values, DTYPE_F32, rows[t].rows);
}

// All tensors, one behind the other.
static float *take_values(bool filled) {
    int64_t count = 0, at = 0;
    for (int t = 0; t < TENSORS; t++) count += elements(t);
    float *values = test_take((size_t)count * sizeof *values);
    for (int64_t i = 0; i < count; i++) values[i] = NAN;
    for (int t = 0; filled && t < TENSORS; at += elements(t++))
        philox_normal(values + at, elements(t), 1, (uint64_t)t, STREAM_TEST, 77, 0);
    return values;
}

// Where rank's part of a tensor begins: odd places, and for some ranks nothing.
static int64_t cut(int t, int rank, int ranks) {
    int64_t count = elements(t);
    if (rank == 0) return 0;
    if (rank == ranks) return count;
    if (t == 1 && rank == 1) return 0;
    return count * rank / ranks + (count > 8 ? (t + rank) % 3 - 1 : 0);
}

// What a rank owns of the values.
static NamedTensors list(float *values, int rank, int ranks) {
    NamedTensors out = {0};
    for (int t = 0; t < TENSORS; values += elements(t++)) {
        int64_t begin = cut(t, rank, ranks), end = cut(t, rank + 1, ranks);
        bool whole = t >= TENSORS - WHOLES;
        if (whole ? t % ranks != rank : begin == end) continue;
        if (whole || end - begin == elements(t)) {
            named_tensors_add(&out, tensor_at(t, values), "%s", rows[t].name);
            continue;
        }
        NamedTensor *part = named_tensors_add(&out, tensor_1d(values + begin, DTYPE_F32, end - begin), "%s",
                                              rows[t].name);
        part->begin = begin;
        part->whole = elements(t);
    }
    return out;
}

// ---- saving in stages ----

static bool write_part(const char *run, int64_t step, const NamedTensors *state, int rank, int ranks, Text *part,
                       Errors *errors) {
    char name[STATE_FILE_NAME];
    state_file_name(name, rank + 1, ranks);
    CheckpointTensors tensors = {name, state->items, state->count, DTYPE_F32};
    CheckpointText text = {"run.json", "{}\n"};
    CheckpointContent content = {.step = step, .tensors = &tensors, .tensor_files = 1, .texts = &text,
                                 .text_files = rank == 0};
    return checkpoint_write(run, rank % 2 ? NULL : &reference_kernels, &content, part, errors);
}

// As ranks do it, the last one first.
static bool save(const char *run, int64_t step, float *values, int ranks, Errors *errors) {
    Text parts[MOST] = {0};
    bool good = checkpoint_begin(run, step, errors);
    for (int rank = ranks - 1; rank >= 0; rank--) {
        NamedTensors state = list(values, rank, ranks);
        good = good && write_part(run, step, &state, rank, ranks, &parts[rank], errors);
        named_tensors_close(&state);
    }
    good = good && checkpoint_commit(run, step, parts, ranks, errors);
    if (!good) checkpoint_drop(run, step);
    for (int rank = 0; rank < ranks; rank++) text_close(&parts[rank]);
    return good;
}

static void step_path(char path[4096], const char *run, int64_t step) {
    snprintf(path, 4096, "%s/checkpoints/step_%08ld", run, step);
}

static void must_save(const char *run, int64_t step, float *values, int ranks, char path[4096]) {
    Errors errors = {0};
    if (!save(run, step, values, ranks, &errors)) fail_msg("%s", text_string(&errors.text));
    step_path(path, run, step);
}

static bool read_all(const char *path, float *values, int ranks, Errors *errors) {
    Text used[MOST] = {0};
    bool good = true;
    for (int rank = 0; rank < ranks; rank++) {
        NamedTensors state = list(values, rank, ranks);
        StateFiles *files = state_open(path, errors);
        good = files && state_check(files, state.items, state.count, errors) && good;
        if (good) state_fill(files, &reference_kernels, state.items, state.count);
        if (files) state_used(files, &used[rank]);
        if (good && rank == ranks - 1) good = state_check_used(files, used, ranks, errors);
        state_close(files);
        named_tensors_close(&state);
    }
    for (int rank = 0; rank < ranks; rank++) text_close(&used[rank]);
    return good;
}

static void must_read(const char *path, const float *expected, int ranks) {
    int64_t count = 0;
    Errors errors = {0};
    float *found = take_values(false);
    if (!read_all(path, found, ranks, &errors)) fail_msg("%s", text_string(&errors.text));
    for (int t = 0; t < TENSORS; t++) count += elements(t);
    assert_memory_equal(found, expected, (size_t)count * sizeof *found);
    free(found);
}

TEST(any_ranks_read_what_any_ranks_wrote) {
    const char *run = test_folder("state");
    float *values = take_values(true);
    for (int writers = 1; writers <= MOST; writers++) {
        char path[4096];
        Errors errors = {0};
        must_save(run, writers, values, writers, path);
        if (!checkpoint_check(path, &errors)) fail_msg("%s", text_string(&errors.text));
        assert_true(checkpoint_holds_state(path));
        for (int readers = 1; readers <= MOST; readers++) must_read(path, values, readers);
    }
    free(values);
}

// Only what a rank asks for is written, wherever it is cut.
TEST(a_part_is_put_together_from_whatever_holds_it) {
    enum { COUNT = 77, EDGE = 4 };
    const char *run = test_folder("state_part");
    char path[4096];
    float *values = take_values(true), out[COUNT + 2 * EDGE];
    for (int writers = 1; writers <= MOST; writers++) {
        must_save(run, writers, values, writers, path);
        Errors errors = {0};
        StateFiles *files = state_open(path, &errors);
        assert_non_null(files);
        for (int64_t begin = 0; begin < COUNT; begin += 5) {
            for (int64_t count = 1; begin + count <= COUNT; count += 7) {
                for (int i = 0; i < COUNT + 2 * EDGE; i++) out[i] = -1;
                NamedTensor part = {.name = "z.h.0.a_w.q", .tensor = tensor_1d(out + EDGE, DTYPE_F32, count),
                                    .begin = begin, .whole = COUNT};
                assert_true(state_check(files, &part, 1, &errors));
                state_fill(files, &reference_kernels, &part, 1);
                assert_memory_equal(out + EDGE, values + begin, (size_t)count * sizeof *out);
                for (int i = 0; i < EDGE; i++) assert_true(out[i] == -1 && out[EDGE + count + i] == -1);
            }
        }
        state_close(files);
    }
    free(values);
}

TEST(one_rank_writes_what_it_always_wrote) {
    const char *run = test_folder("state_one");
    char paths[2][4096];
    float *values = take_values(true);
    Errors errors = {0};
    must_save(run, 1, values, 1, paths[0]);
    NamedTensors state = list(values, 0, 1);
    CheckpointTensors tensors = {"state-00001-of-00001.safetensors", state.items, state.count, DTYPE_F32};
    CheckpointText text = {"run.json", "{}\n"};
    CheckpointContent content = {.step = 1, .tensors = &tensors, .tensor_files = 1, .texts = &text, .text_files = 1};
    const char *other = test_folder("state_one_other");
    assert_true(checkpoint_save(other, NULL, &content, paths[1], &errors));
    for (int i = 0; i < 3; i++) {
        char file[4096], hashes[2][HASH_HEX];
        uint64_t size;
        for (int k = 0; k < 2; k++) {
            path_join(file, paths[k], i == 0 ? tensors.file : i == 1 ? text.file : "manifest.json");
            assert_true(file_hash(file, hashes[k], &size, EXIT_DATA, &errors));
        }
        assert_string_equal(hashes[0], hashes[1]);
    }
    named_tensors_close(&state);
    free(values);
}

// ---- damage ----

static void must_tell(const Errors *errors, const char *what) {
    if (!strstr(text_string(&errors->text), what)) fail_msg("\"%s\" is not in: %s", what, text_string(&errors->text));
}

TEST(damage_of_any_file_is_found_and_passed_over) {
    const char *run = test_folder("state_damage");
    char good[4096], path[4096], file[4096], name[STATE_FILE_NAME], found[4096];
    float *values = take_values(true);
    must_save(run, 1, values, 2, good);
    for (int rank = 0; rank < 3; rank++) {
        for (int kind = 0; kind < 3; kind++) {
            Errors errors = {0}, damage = {0};
            must_save(run, 2, values, 3, path);
            state_file_name(name, rank + 1, 3);
            path_join(file, path, name);
            if (kind < 2) test_damage(file, 1000, kind);
            else assert_int_equal(unlink(file), 0);
            assert_false(checkpoint_check(path, &errors));
            assert_int_equal(errors.exit_code, EXIT_CHECKPOINT);
            must_tell(&errors, name);
            assert_int_equal(errors.count, 1);
            assert_true(checkpoint_find_valid(run, false, found, &damage, &errors));
            assert_string_equal(found, good);
            must_tell(&damage, name);
            errors_close(&errors);
            errors_close(&damage);
        }
    }
    free(values);
}

TEST(a_model_keeps_the_state_of_no_rank) {
    const char *run = test_folder("state_retain");
    char path[4096], newest[4096], file[4096], name[STATE_FILE_NAME];
    float *values = take_values(true);
    Errors errors = {0};
    must_save(run, 1, values, 3, path);
    must_save(run, 2, values, 3, newest);
    assert_true(checkpoint_retain(run, 2, &(Retention){.keep = 1, .keep_models = -1}, &errors));
    assert_true(checkpoint_check(path, &errors));
    assert_false(checkpoint_holds_state(path));
    for (int rank = 0; rank < 3; rank++) {
        state_file_name(name, rank + 1, 3);
        path_join(file, path, name);
        assert_false(path_exists(file));
        path_join(file, newest, name);
        assert_true(path_exists(file));
    }
    assert_null(state_open(path, &errors));
    assert_int_equal(errors.exit_code, EXIT_NO_INPUT);
    must_tell(&errors, "a model alone");
    errors_close(&errors);
    must_read(newest, values, 2);
    free(values);
}

// ---- what is no state ----

typedef struct {
    const char *name;
    int64_t count, columns; // columns 0: flat
} Piece;

// Writes files of tensors under these very names and opens them. File by file; a piece without a name ends one.
static StateFiles *open_pieces(const Piece *pieces, int files, Errors *errors) {
    static float zeros[1000];
    const char *run = test_folder("state_pieces");
    char path[4096];
    Text parts[MOST] = {0};
    assert_true(checkpoint_begin(run, 5, errors));
    for (int rank = 0; rank < files; rank++, pieces++) {
        NamedTensors state = {0};
        for (; pieces->name; pieces++) {
            Tensor flat = tensor_1d(zeros, DTYPE_F32, pieces->count);
            int64_t columns = pieces->columns;
            named_tensors_add(&state, columns ? tensor_reshape(flat, pieces->count / columns, columns, 0, 0) : flat,
                              "%s", pieces->name);
        }
        assert_true(write_part(run, 5, &state, rank, files, &parts[rank], errors));
        named_tensors_close(&state);
    }
    assert_true(checkpoint_commit(run, 5, parts, files, errors));
    for (int rank = 0; rank < files; rank++) text_close(&parts[rank]);
    step_path(path, run, 5);
    return state_open(path, errors);
}

TEST(nonsense_is_refused) {
    static const struct {
        Piece pieces[8];
        int files;
        const char *says; // NULL: good
    } cases[] = {
        {{{"t", 10, 5}}, 1, NULL},
        {{{0}, {"t", 10, 0}}, 2, NULL},
        {{{"t[0:4]", 4, 0}, {0}, {"t[4:10]", 6, 0}}, 2, NULL},
        {{{"t[4:10]", 6, 0}, {0}, {"t[0:4]", 4, 0}}, 2, NULL},
        {{{"t[0:10]", 10, 0}, {"u", 3, 0}}, 1, NULL},
        {{{"t[0:4]", 4, 0}, {0}, {"t[5:10]", 5, 0}}, 2, "step_00000005: t: no state file has element 4\n"},
        {{{"t[2:10]", 8, 0}, {0}}, 2, "t: no state file has elements 0..1\n"},
        {{{"t[0:6]", 6, 0}, {0}, {"t[4:10]", 6, 0}}, 2,
         "state-00002-of-00002.safetensors: t: elements 4..5 once more, after "},
        {{{"t[0:10]", 10, 0}, {0}, {"t[2:5]", 3, 0}}, 2, "t: elements 2..4 once more, after "},
        {{{"t", 10, 5}, {0}, {"t", 10, 5}}, 2, "t: elements 0..9 once more, after "},
        {{{"t", 10, 5}, {0}, {"t[3:4]", 1, 0}}, 2, "t: element 3 once more, after "},
        {{{"t[0:4]", 5, 0}}, 1, "t[0:4]: expected a list of its 4 elements"},
        {{{"t[0:4]", 4, 2}}, 1, "t[0:4]: expected a list of its 4 elements"},
        {{{"t[0:999999999999999999]", 4, 0}}, 1, "expected a list of its 999999999999999999 elements"},
        {{{"t[0:99999999999999999999999]", 4, 0}}, 1, "expected a name, or NAME[BEGIN:END]"},
        {{{"t[4:4]", 4, 0}}, 1, "expected a name, or NAME[BEGIN:END]"},
        {{{"t[4:0]", 4, 0}}, 1, "expected a name, or NAME[BEGIN:END]"},
        {{{"t[-4:0]", 4, 0}}, 1, "expected a name, or NAME[BEGIN:END]"},
        {{{"t[00:4]", 4, 0}}, 1, "expected a name, or NAME[BEGIN:END]"},
        {{{"t[0:4", 4, 0}}, 1, "expected a name, or NAME[BEGIN:END]"},
        {{{"t[0:4]x", 4, 0}}, 1, "expected a name, or NAME[BEGIN:END]"},
        {{{"t[0]", 4, 0}}, 1, "expected a name, or NAME[BEGIN:END]"},
        {{{"t[]", 4, 0}}, 1, "expected a name, or NAME[BEGIN:END]"},
        {{{"t]", 4, 0}}, 1, "expected a name, or NAME[BEGIN:END]"},
        {{{"[0:4]", 4, 0}}, 1, "expected a name, or NAME[BEGIN:END]"},
        {{{"t[0:2][0:4]", 4, 0}}, 1, "expected a name, or NAME[BEGIN:END]"},
        {{{"t[0: 4]", 4, 0}}, 1, "expected a name, or NAME[BEGIN:END]"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        Errors errors = {0};
        StateFiles *files = open_pieces(cases[i].pieces, cases[i].files, &errors);
        if (!files != !!cases[i].says) fail_msg("case %zu: %s", i, text_string(&errors.text));
        if (!files) {
            must_tell(&errors, cases[i].says);
            assert_int_equal(errors.exit_code, EXIT_CHECKPOINT);
        }
        state_close(files);
        errors_close(&errors);
    }
}

TEST(what_is_asked_for_must_be_there_and_all_that_is_there_asked_for) {
    static const Piece pieces[] = {{"cut[0:4]", 4, 0}, {"more", 2, 0}, {"whole", 6, 3}, {0}, {"cut[4:10]", 6, 0}, {0}};
    float out[100];
    const struct {
        NamedTensor wanted;
        const char *says; // NULL: good
    } cases[] = {
        {{.name = "cut", .tensor = tensor_2d(out, DTYPE_F32, 5, 2)}, NULL},
        {{.name = "cut", .tensor = tensor_1d(out, DTYPE_F32, 3), .begin = 7, .whole = 10}, NULL},
        {{.name = "whole", .tensor = tensor_2d(out, DTYPE_F32, 2, 3)}, NULL},
        {{.name = "whole", .tensor = tensor_1d(out, DTYPE_F32, 1), .begin = 5, .whole = 6}, NULL},
        {{.name = "whole", .tensor = tensor_2d(out, DTYPE_F32, 3, 2)}, "whole has shape (2, 3), expected (3, 2)"},
        {{.name = "whole", .tensor = tensor_1d(out, DTYPE_F32, 1), .begin = 5, .whole = 7},
         "state-00001-of-00002.safetensors: whole has 6 elements, expected 7"},
        {{.name = "cut", .tensor = tensor_1d(out, DTYPE_F32, 9)},
         "state-00002-of-00002.safetensors: cut has 10 elements, expected 9"},
        {{.name = "cut", .tensor = tensor_1d(out, DTYPE_F32, 3), .begin = 7, .whole = 11}, "cut has 10 elements, exp"},
        {{.name = "cat", .tensor = tensor_1d(out, DTYPE_F32, 10)}, "step_00000005: there is no tensor cat"},
    };
    Errors errors = {0};
    StateFiles *files = open_pieces(pieces, 2, &errors);
    assert_non_null(files);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        if (state_check(files, &cases[i].wanted, 1, &errors) != !cases[i].says)
            fail_msg("case %zu: %s", i, text_string(&errors.text));
        if (cases[i].says) must_tell(&errors, cases[i].says);
        errors_close(&errors);
    }
    Text used[2] = {0};
    state_used(files, &used[0]);
    assert_string_equal(text_string(&used[0]), "101"); // by name: cut, more, whole
    text_add(&used[1], "000");
    assert_false(state_check_used(files, used, 2, &errors));
    must_tell(&errors, "state-00001-of-00002.safetensors: nothing here is called more\n");
    assert_int_equal(errors.count, 1);
    errors_close(&errors);
    used[1].data[1] = '1';
    assert_true(state_check_used(files, used, 2, &errors));
    text_add(&used[1], "0");
    assert_false(state_check_used(files, used, 2, &errors));
    must_tell(&errors, "rank 1 finds 4 tensors");
    errors_close(&errors);
    for (int i = 0; i < 2; i++) text_close(&used[i]);
    state_close(files);
}

// ---- whatever fails ----

static bool survives(const char *run, float *values, const char *rule) {
    char path[4096];
    Errors errors = {0};
    fault_set(rule);
    bool saved = save(run, 20, values, 3, &errors);
    bool struck = fault_operations() >= atoi(rule);
    fault_set(NULL);
    if (!saved) assert_true(errors.count > 0 && errors.exit_code == EXIT_CANNOT_WRITE);
    errors_close(&errors);
    assert_true(checkpoint_find(run, path, &errors));
    if (!checkpoint_check(path, &errors)) fail_msg("%s: %s", rule, text_string(&errors.text));
    bool there = strstr(path, "step_00000020");
    assert_true(there || (!saved && strstr(path, "step_00000010")));
    step_path(path, run, 20);
    assert_int_equal(there, path_exists(path));
    if (strstr(test_checkpoint_names(run), ".tmp")) fail_msg("%s leaves %s", rule, test_checkpoint_names(run));
    assert_true(directory_remove(path, &errors));
    return struck;
}

TEST(every_failure_of_a_stage_leaves_the_old_checkpoint) {
    static const char *const kinds[] = {"EIO", "ENOSPC", "short"};
    const char *run = test_folder("state_faults");
    char path[4096], rule[32];
    float *values = take_values(true);
    must_save(run, 10, values, 2, path);
    for (int kind = 0; kind < 3; kind++) {
        int operations = 0;
        do snprintf(rule, sizeof rule, "%d:%s", ++operations, kinds[kind]);
        while (survives(run, values, rule));
        assert_in_range(operations, 20, 200);
    }
    free(values);
}

static bool dies(const char *run, float *values, int operation) {
    char rule[32], path[4096];
    int status;
    Errors errors = {0};
    snprintf(rule, sizeof rule, "%d:kill", operation);
    pid_t child = fork();
    if (child == 0) {
        fault_set(rule);
        save(run, 20, values, 3, &errors);
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(checkpoint_find(run, path, &errors));
    if (!checkpoint_check(path, &errors)) fail_msg("%s: %s", rule, text_string(&errors.text));
    must_save(run, 30, values, 1, path);
    if (strstr(test_checkpoint_names(run), ".tmp")) fail_msg("%s leaves %s", rule, test_checkpoint_names(run));
    for (int64_t step = 20; step <= 30; step += 10) {
        step_path(path, run, step);
        assert_true(directory_remove(path, &errors));
    }
    return WIFSIGNALED(status);
}

TEST(a_death_in_any_stage_leaves_the_old_checkpoint) {
    const char *run = test_folder("state_kill");
    char path[4096];
    int operations = 0;
    float *values = take_values(true);
    must_save(run, 10, values, 2, path);
    while (dies(run, values, ++operations)) {}
    assert_in_range(operations, 20, 200);
    free(values);
}

TEST(parts_that_are_elsewhere_are_told) {
    const char *run = test_folder("state_elsewhere");
    char path[4096];
    float *values = take_values(true);
    NamedTensors state = list(values, 0, 1);
    Text part = {0};
    Errors errors = {0};
    assert_false(write_part(run, 7, &state, 0, 1, &part, &errors)); // rank 0 began on another disk
    must_tell(&errors, "step_00000007.tmp: the directory is not here");
    must_tell(&errors, "a file system that all ranks share");
    assert_int_equal(errors.exit_code, EXIT_CANNOT_WRITE);
    errors_close(&errors);
    for (int there = 0; there < 2; there++) { // a rank wrote on another disk, or rank 0 sees less of it
        text_clear(&part);
        assert_true(checkpoint_begin(run, 7, &errors));
        assert_true(write_part(run, 7, &state, 0, 1, &part, &errors));
        path_join(path, run, "checkpoints/step_00000007.tmp/state-00001-of-00001.safetensors");
        assert_int_equal(there ? truncate(path, 10) : unlink(path), 0);
        assert_false(checkpoint_commit(run, 7, &part, 1, &errors));
        must_tell(&errors, there ? "state-00001-of-00001.safetensors: 10 bytes" : "safetensors: 0 bytes, where");
        errors_close(&errors);
        checkpoint_drop(run, 7);
        assert_string_equal(test_checkpoint_names(run), "");
    }
    text_close(&part);
    named_tensors_close(&state);
    free(values);
}
