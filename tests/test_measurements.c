// What bench measured is kept from run to run: read back as it was, the newest first, in a file that may be damaged,
// none of ours, full, or written by several processes at once. And what is estimated from it.
#include <math.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "commands/estimate.h"
#include "commands/evaluation.h"
#include "runtime/file.h"
#include "tests/test.h"

static Measurements all;

static void begin(void) {
    char folder[4096];
    path_join(folder, test_folder("measurements"), "cache");
    Errors errors = {0};
    directory_remove(folder, &errors);
    assert_int_equal(errors.count, 0);
    setenv("THALWEG_DATA", folder, 1);
}

static Measurement some(int64_t parameters) {
    return (Measurement){.device = "a \"device\"", .precision = "f32", .optimizer = "adamw", .threads = 2,
                         .parameters = parameters, .sequence_length = 128, .micro_batch = 4, .micro_steps = 3,
                         .flops_per_token = 6.25e5 + (double)parameters, .step_seconds = 0.1, .product_flops = 1e11,
                         .micro_batch_seconds = 1.0 / 3, .optimizer_seconds = 0.25, .copy_bytes = 2e10, .time = 5};
}

static void add(const Measurement *m) {
    Errors errors = {0};
    if (!measurements_add(m, &errors)) fail_msg("%s", text_string(&errors.text));
}

// How many are there, and whether nothing was passed over.
static int count(bool whole) {
    Errors errors = {0};
    assert_int_equal(measurements_read(&all, &errors), whole);
    assert_int_equal(errors.count > 0, !whole);
    errors_close(&errors);
    return all.count;
}

static void write_file(const char *text) {
    char path[4096], folder[4096];
    Errors errors = {0};
    measurements_path(path);
    path_directory(folder, path);
    assert_true(directory_make(folder, &errors) && file_replace(path, text, strlen(text), &errors));
}

TEST(what_is_passed_over_is_told_in_two_lines) {
    Errors errors = {0};
    begin();
    write_file("{\"format\": \"thalweg-bench-1\", \"measurements\": [{}, 1, {\"device\": 2}, null]}");
    assert_false(measurements_read(&all, &errors));
    assert_int_equal(errors.count, 2);
    assert_non_null(strstr(text_string(&errors.text), "and 3 more"));
    errors_close(&errors);
}

TEST(they_are_read_back_as_they_were) {
    begin();
    assert_int_equal(count(true), 0); // there is no file
    Measurement first = some(7), second = some(8);
    add(&first);
    add(&second);
    assert_int_equal(count(true), 2);
    assert_memory_equal(&all.items[0], &second, sizeof second);
    assert_memory_equal(&all.items[1], &first, sizeof first);
}

TEST(the_newest_of_a_kind_takes_the_place_of_the_last) {
    begin();
    Measurement m = some(7), other = some(8);
    add(&m);
    add(&other);
    m.step_seconds = 0.2, m.micro_steps = 9, m.time = 6;
    add(&m);
    assert_int_equal(count(true), 2);
    assert_memory_equal(&all.items[0], &m, sizeof m);
    m.threads = 1; // another kind
    add(&m);
    assert_int_equal(count(true), 3);
}

TEST(the_oldest_is_forgotten) {
    begin();
    for (int i = 1; i <= MEASUREMENTS + 3; i++) {
        Measurement m = some(i);
        add(&m);
    }
    assert_int_equal(count(true), MEASUREMENTS);
    assert_int_equal(all.items[0].parameters, MEASUREMENTS + 3);
    assert_int_equal(all.items[MEASUREMENTS - 1].parameters, 4);
}

TEST(what_is_wrong_is_passed_over_and_written_anew) {
    static const char *const files[] = {
        "", "{", "[]", "\"text\"", "{\"format\":7,\"measurements\":[]}", "{\"format\":\"thalweg-bench-1\"}",
        "{\"format\":\"thalweg-bench-9\",\"measurements\":[]}", "{\"format\":\"thalweg-bench-1\",\"measurements\":{}}",
        "{\"format\":\"thalweg-bench-1\",\"measurements\":[7,[],{},null,{\"device\":\"x\"}]}", "\xff\xfe"};
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        begin();
        write_file(files[i]);
        assert_int_equal(count(false), 0);
        Measurement m = some(7);
        add(&m);
        assert_int_equal(count(true), 1);
    }
}

// One number of a good file becomes another word.
TEST(values_out_of_range_are_passed_over_one_by_one) {
    static const char *const changes[][2] = {
        {"\"threads\": 2", "\"threads\": -1"}, {"\"threads\": 2", "\"threads\": 1.5"},
        {"\"parameters\": 7", "\"parameters\": 0"}, {"\"parameters\": 7", "\"parameters\": \"7\""},
        {"\"micro_batch\": 4", "\"micro_batch\": 0"}, {"\"step_seconds\": 0.1", "\"step_seconds\": 0"},
        {"\"product_flops\": 1", "\"product_flops\": null,\"x\": 1"}, {"\"f32\"", "\"a precision of far too many letters\""},
        {"\"optimizer_seconds\": ", "\"optimizer_seconds\": -"}};
    for (size_t i = 0; i < sizeof changes / sizeof changes[0]; i++) {
        char path[4096];
        Errors errors = {0};
        File file;
        Text text = {0};
        begin();
        Measurement bad = some(7), good = some(8);
        add(&bad);
        add(&good);
        measurements_path(path);
        assert_true(file_read(&file, path, 1 << 20, EXIT_DATA, &errors));
        const char *at = file.bytes, *next;
        while ((next = strstr(at, changes[i][0]))) at = next + 1; // that of the older one, which comes last
        at--;
        text_append(&text, file.bytes, (size_t)(at - file.bytes));
        text_add(&text, changes[i][1]);
        text_add(&text, at + strlen(changes[i][0]));
        write_file(text_string(&text));
        if (count(false) != 1) fail_msg("%s is taken", changes[i][1]);
        assert_int_equal(all.items[0].parameters, 8);
        file_close(&file);
        text_close(&text);
    }
}

TEST(processes_that_write_at_once_lose_nothing) {
    enum { PROCESSES = 4, EACH = 5 };
    begin();
    for (int p = 0; p < PROCESSES; p++)
        if (fork() == 0) {
            bool good = true;
            for (int i = 0; i < EACH; i++) {
                Errors errors = {0};
                Measurement m = some(1 + p * EACH + i);
                good = measurements_add(&m, &errors) && good;
            }
            _exit(!good);
        }
    for (int p = 0; p < PROCESSES; p++) {
        int status = -1;
        wait(&status);
        assert_int_equal(status, 0);
    }
    assert_int_equal(count(true), PROCESSES * EACH);
}

TEST(a_place_that_cannot_be_written_is_told) {
    Errors errors = {0};
    Measurement m = some(7);
    setenv("THALWEG_DATA", "/proc/nothing", 1);
    assert_false(measurements_add(&m, &errors));
    assert_int_equal(errors.exit_code, EXIT_CANNOT_WRITE);
    errors_close(&errors);
}

// ---- estimates ----

static void plan(Run *run, const char *last) {
    Errors errors = {0};
    char *const overrides[] = {"device=cpu", "threads=1", "model.depth=1", "model.width=32", "model.heads=2",
                               "model.vocab=100", "train.sequence_length=16", "train.micro_batch=2",
                               "train.batch_tokens=64", "train.steps=10", (char *)(last ? last : "eval.every=0")};
    *run = RUN_CLOSED;
    if (!config_load(&run->config, NULL, overrides, 11, &errors) || !run_plan(run, RUN_TRAINING, &errors))
        fail_msg("%s", text_string(&errors.text));
}

static Estimate estimate(const char *last) {
    Run run;
    Estimate e;
    plan(&run, last);
    estimate_run(&run, &e);
    run_close(&run);
    return e;
}

// Of the plan above, with times that are easy to see.
static void keep(double micro_batch, double optimizer) {
    Run run;
    Measurement m;
    plan(&run, NULL);
    estimate_describe(&run, &m);
    run_close(&run);
    m.micro_batch_seconds = micro_batch, m.optimizer_seconds = optimizer;
    m.step_seconds = 2 * micro_batch + optimizer, m.product_flops = 1e9, m.copy_bytes = 1e9, m.time = 86400;
    add(&m);
}

TEST(without_measurements_it_is_the_rule) {
    begin();
    Estimate e = estimate(NULL);
    assert_int_equal(e.how, ESTIMATE_RULE);
    assert_true(e.product_flops > 0 && e.step_seconds > 0);
    CHECK_CLOSE(e.training_seconds, 10 * e.step_seconds, 1e-9);
    CHECK_CLOSE(e.evaluation_seconds, 0, 0);
}

TEST(what_was_measured_is_what_comes_of_it) {
    begin();
    keep(0.5, 0.125);
    Estimate e = estimate(NULL);
    assert_int_equal(e.how, ESTIMATE_MEASURED);
    CHECK_CLOSE(e.step_seconds, 1.125, 1e-12);
    CHECK_CLOSE(e.training_seconds, 11.25, 1e-12);
    e = estimate("train.batch_tokens=160"); // more micro-batches are the same kind
    assert_int_equal(e.how, ESTIMATE_MEASURED);
    CHECK_CLOSE(e.step_seconds, 2.625, 1e-12);
}

// Of the same plan, at `step`.
static void check_told(const char *last, int64_t step, double max_seconds, const char *expected) {
    Run run;
    Estimate e;
    Text text = {0};
    plan(&run, last);
    run.state.step = step;
    run.config.train.max_seconds = max_seconds;
    estimate_run(&run, &e);
    CHECK_CLOSE(e.training_seconds, 1.125 * (double)(10 - step), 1e-12); // whatever ends this process
    estimate_print(&e, NULL, &text);
    const char *behind = strchr(text_string(&text), '\n');
    assert_string_equal(behind ? behind + 1 : "", expected);
    text_close(&text);
    run_close(&run);
}

static void check_evaluations(int64_t step, int64_t end, int64_t expected) {
    Run run;
    plan(&run, "eval.every=4");
    run.state.step = step;
    assert_int_equal(evaluations_left(&run, end), expected);
    run_close(&run);
}

TEST(evaluations_up_to_a_step_are_counted) {
    check_evaluations(0, 10, 4);
    check_evaluations(0, 9, 3); // step 10 has one because it is the last
    check_evaluations(0, 3, 1);
    check_evaluations(1, 8, 2);
    check_evaluations(9, 10, 1);
    check_evaluations(9, 8, 0);
    check_evaluations(8, 8, 1);
}

TEST(what_ends_the_process_before_the_run_is_told) {
    begin();
    keep(0.5, 0.125);
    check_told(NULL, 0, 12, "");
    check_told(NULL, 0, 11, "        train.max_seconds ends it after 11s: about 1 resume to step 10");
    check_told(NULL, 4, 2, "        train.max_seconds ends it after 2.0s: about 3 resumes to step 10");
    check_told(NULL, 0, 1, "        train.max_seconds has no time for a step: it takes about 1.1s, the "
                           "checkpoint 0.0s");
    check_told(NULL, 10, 1, "");
    check_told("train.stop_at=8", 0, 0, "        train.stop_at ends it at step 8, after about 9.0s");
    check_told("train.stop_at=8", 4, 5, "        train.stop_at ends it at step 8, after about 4.5s");
    check_told("train.stop_at=8", 0, 2, "        train.max_seconds ends it after 2.0s: about 4 resumes to step 8");
    check_told("train.stop_at=8", 9, 0, "");
    check_told("train.stop_at=10", 0, 0, "");
}

TEST(another_size_goes_by_its_flops) {
    begin();
    keep(0.5, 0);
    Run run;
    plan(&run, "model.depth=2");
    double larger = gpt_flops_per_token(&run.shape, 16);
    run_close(&run);
    plan(&run, NULL);
    double ratio = larger / gpt_flops_per_token(&run.shape, 16);
    run_close(&run);
    Estimate e = estimate("model.depth=2");
    assert_int_equal(e.how, ESTIMATE_SCALED);
    CHECK_CLOSE(e.step_seconds, ratio, 1e-12);
    assert_true(ratio > 1.2);
    assert_int_equal(estimate("model.width=512").how, ESTIMATE_RULE); // too far away
    e = estimate("train.recompute=2"); // a forward pass more
    CHECK_CLOSE(e.step_seconds, 4.0 / 3, 1e-12);
}

TEST(other_threads_go_by_what_they_multiply) {
    begin();
    keep(0.5, 0.25);
    Estimate e = estimate("threads=2");
    assert_int_equal(e.how, ESTIMATE_SCALED);
    CHECK_CLOSE(e.step_seconds, 1.25 * 1e9 / e.product_flops, 1e-9);
}

TEST(the_nearest_measurement_is_taken) {
    begin();
    keep(0.5, 0);
    count(true);
    Measurement other = all.items[0];
    other.optimizer[0] = 'x'; // the same but for its optimizer, and slower
    other.micro_batch_seconds = 9;
    add(&other);
    CHECK_CLOSE(estimate(NULL).step_seconds, 1, 1e-12);
    strcpy(other.device, "another");
    other.optimizer[0] = 'a';
    add(&other);
    CHECK_CLOSE(estimate(NULL).step_seconds, 1, 1e-12);
    strcpy(all.items[0].device, "another");
    begin();
    add(&all.items[0]);
    assert_int_equal(estimate(NULL).how, ESTIMATE_RULE);
}
