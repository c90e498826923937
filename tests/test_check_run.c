// check of a run: one line for each checkpoint, what is wrong with it, and the exit code.
#include <math.h>
#include <sys/wait.h>
#include <unistd.h>

#include "commands/command.h"
#include "tests/support_checkpoint.h"
#include "tests/test.h"

// What it prints; its exit code to `code`.
static const char *check_of(const char *path, int *code) {
    static char printed[1 << 14];
    char file[4096];
    Errors errors = {0};
    File output;
    path_join(file, test_folder("check_output"), "stdout");
    pid_t child = fork();
    if (child == 0) {
        if (!freopen(file, "w", stdout) || !freopen("/dev/null", "w", stderr)) _exit(99);
        int result = check_run(path);
        fflush(stdout);
        _exit(result);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    *code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    assert_true(file_read(&output, file, sizeof printed - 1, EXIT_DATA, &errors));
    snprintf(printed, sizeof printed, "%s", output.bytes);
    file_close(&output);
    return printed;
}

static void must_tell(const char *printed, const char *what) {
    if (!strstr(printed, what)) fail_msg("\"%s\" is not in: %s", what, printed);
}

TEST(every_checkpoint_has_a_line) {
    char run[4096], path[4096], aside[4096];
    int code;
    Errors errors = {0};
    snprintf(run, sizeof run, "%s", test_folder("check"));
    check_of(run, &code);
    assert_int_equal(code, EXIT_NO_INPUT);
    for (int64_t step = 1; step <= 4; step++) test_checkpoint_must_save(run, step);
    assert_true(checkpoint_retain(run, 4, &(Retention){.keep = 3, .keep_models = -1}, &errors));
    path_join(path, run, "checkpoints/step_00000004");
    path_join(aside, run, "checkpoints/step_00000004.orphan-1");
    assert_true(path_rename(path, aside, &errors));
    const char *printed = check_of(run, &code);
    assert_int_equal(code, 0);
    must_tell(printed, "step_00000001            model only");
    must_tell(printed, "step_00000003            full");
    must_tell(printed, "step_00000004.orphan-1   -");
    must_tell(printed, "goes on from step_00000003");
    path_join(path, run, "checkpoints/step_00000003/state-00001-of-00001.safetensors");
    test_damage(path, 4200, false);
    printed = check_of(run, &code);
    assert_int_equal(code, EXIT_CHECKPOINT);
    must_tell(printed, "  damaged\n    ");
    must_tell(printed, "bytes 0..4403 of 4404 are damaged");
    must_tell(printed, "goes on from step_00000002 by itself");
    path_join(path, run, "checkpoints/step_00000003");
    check_of(path, &code);
    assert_int_equal(code, EXIT_CHECKPOINT);
    path_join(path, run, "checkpoints/step_00000002");
    check_of(path, &code);
    assert_int_equal(code, 0);
    test_checkpoint_must_save(run, 5);
    printed = check_of(run, &code);
    assert_int_equal(code, EXIT_CHECKPOINT);
    must_tell(printed, "goes on from step_00000005; what is damaged is older");
}

TEST(numbers_that_are_not_finite_are_counted) {
    char run[4096];
    int code;
    Errors errors = {0};
    float values[] = {1, NAN, INFINITY, 4}, good[] = {1, 2};
    NamedTensor named[] = {{.name = "z.h.0.w", .tensor = tensor_1d(values, DTYPE_F32, 4)},
                           {.name = "z.h.0.b", .tensor = tensor_1d(good, DTYPE_F32, 2)}};
    CheckpointTensors tensors[] = {{"model.safetensors", named, 2, DTYPE_BF16},
                                   {"state-00001-of-00001.safetensors", named, 2, DTYPE_F64}};
    CheckpointContent content = {.step = 1, .tensors = tensors, .tensor_files = 2};
    snprintf(run, sizeof run, "%s", test_folder("check_finite"));
    assert_true(checkpoint_save(run, NULL, &content, NULL, &errors));
    const char *printed = check_of(run, &code);
    assert_int_equal(code, 0);
    must_tell(printed, "model.safetensors: z.h.0.w: 2 of 4 values are not finite");
    must_tell(printed, "state-00001-of-00001.safetensors: z.h.0.w: 2 of 4 values are not finite");
    assert_null(strstr(printed, "z.h.0.b"));
}
