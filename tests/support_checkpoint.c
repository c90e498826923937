#include "tests/support_checkpoint.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "runtime/philox.h"
#include "tests/reference/reference.h"
#include "tests/support.h"

enum { ROWS = 5, COLUMNS = 7, TENSORS = 4 };

const char *const test_checkpoint_files[CHECKPOINT_FILES] = {"model.safetensors", "state-00001-of-00001.safetensors",
                                                             "run.json", "config.json"};

typedef struct {
    float values[ROWS * COLUMNS], vector[COLUMNS], *bulk;
    NamedTensor named[TENSORS]; // the last one only where there is bulk
    int64_t count;
} State;

static void fill(State *state, int64_t step, int64_t bulk) {
    philox_normal(state->values, ROWS * COLUMNS, 1, 1, STREAM_TEST, (uint32_t)step, 0);
    philox_normal(state->vector, COLUMNS, 1, 2, STREAM_TEST, (uint32_t)step, 0);
    Tensor matrix = tensor_2d(state->values, DTYPE_F32, ROWS, COLUMNS);
    state->named[0] = (NamedTensor){.name = "z.matrix", .tensor = matrix};
    state->named[1] = (NamedTensor){.name = "a.turned", .tensor = matrix, .transposed = true};
    state->named[2] = (NamedTensor){.name = "m.vector", .tensor = tensor_1d(state->vector, DTYPE_F32, COLUMNS)};
    state->count = 3;
    state->bulk = bulk ? test_take((size_t)bulk * sizeof(float)) : NULL;
    if (bulk)
        state->named[state->count++] =
            (NamedTensor){.name = "m.bulk", .tensor = tensor_1d(state->bulk, DTYPE_F32, bulk)};
}

// Calls `use` with the content of a step.
typedef bool Use(const CheckpointContent *content, const void *context);
static bool with_content(TestCheckpoint what, Use *use, const void *context) {
    State state;
    fill(&state, what.step, what.bulk);
    CheckpointTensors tensors[] = {{test_checkpoint_files[0], state.named, 3, DTYPE_F32},
                                   {test_checkpoint_files[1], state.named, state.count, DTYPE_F32}};
    CheckpointText texts[] = {{test_checkpoint_files[2], "{\"step\": 1}\n"}, {test_checkpoint_files[3], "{}\n"}};
    CheckpointContent content = {
        .step = what.step, .tensors = tensors, .tensor_files = 2, .texts = texts, .text_files = 2};
    bool good = use(&content, context);
    free(state.bulk);
    return good;
}

// ---- saving ----

typedef struct {
    const char *run;
    const Kernels *kernels;
    char *path;
    Errors *errors;
} Saving;

static bool save(const CheckpointContent *content, const void *context) {
    const Saving *saving = context;
    return checkpoint_save(saving->run, saving->kernels, content, saving->path, saving->errors);
}

bool test_checkpoint_save_as(const char *run, TestCheckpoint what, char *path, Errors *errors) {
    return with_content(what, save, &(Saving){run, what.kernels, path, errors});
}

bool test_checkpoint_save(const char *run, int64_t step, char *path, Errors *errors) {
    return test_checkpoint_save_as(run, (TestCheckpoint){.step = step, .kernels = &reference_kernels}, path, errors);
}

void test_checkpoint_must_save(const char *run, int64_t step) {
    Errors errors = {0};
    if (!test_checkpoint_save(run, step, NULL, &errors)) fail_msg("%s", text_string(&errors.text));
    errors_close(&errors);
}

typedef struct {
    const char *run;
    const Retention *retention;
    FreeBytes *free_bytes;
    Errors *errors;
} Room;

static bool look_for_room(const CheckpointContent *content, const void *context) {
    const Room *room = context;
    return checkpoint_room(room->run, content->step, checkpoint_bytes(content), room->retention, room->free_bytes,
                           room->errors);
}

bool test_checkpoint_room(const char *run, int64_t step, const Retention *retention, FreeBytes *free_bytes,
                          Errors *errors) {
    return with_content((TestCheckpoint){.step = step}, look_for_room, &(Room){run, retention, free_bytes, errors});
}

// ---- looking ----

static void check_tensors(const char *file, int64_t step) {
    State expected, found;
    Errors errors = {0};
    fill(&expected, step, 0);
    fill(&found, step + 1, 0);
    Safetensors *st = safetensors_open(file, EXIT_CHECKPOINT, &errors);
    if (!st || !safetensors_read(st, &reference_kernels, found.named, 3, &errors))
        fail_msg("%s", text_string(&errors.text));
    assert_memory_equal(found.values, expected.values, sizeof found.values);
    assert_memory_equal(found.vector, expected.vector, sizeof found.vector);
    safetensors_close(st);
}

void test_checkpoint_check(const char *path, int64_t step, bool full) {
    char file[4096];
    Errors errors = {0};
    if (!checkpoint_verify(path, &errors)) fail_msg("%s", text_string(&errors.text));
    assert_int_equal(checkpoint_holds_state(path), full);
    for (int i = 0; i < 1 + full; i++) {
        path_join(file, path, test_checkpoint_files[i]);
        check_tensors(file, step);
    }
    path_join(file, path, test_checkpoint_files[1]);
    assert_int_equal(path_exists(file), full);
}

const char *test_checkpoint_names(const char *run) {
    static char all[2048];
    char folder[4096], path[4096];
    Errors errors = {0};
    TextList names = {0};
    path_join(folder, run, "checkpoints");
    assert_true(directory_list(&names, folder, &errors));
    all[0] = 0;
    for (int64_t i = 0; i < names.count; i++) {
        path_join(path, folder, names.items[i]);
        bool model = checkpoint_check(path, &errors) && !checkpoint_holds_state(path);
        snprintf(all + strlen(all), sizeof all - strlen(all), "%s%s ", names.items[i], model ? "(model)" : "");
    }
    text_list_close(&names);
    errors_close(&errors);
    return all;
}

void test_damage(const char *file, uint64_t at, bool cut) {
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
