// A sweep at work beside others: what it does with a run that it has just taken.
#include "runtime/file.h"
#include "sweep/work.h"
#include "tests/test.h"

#define A "aaaaaaaaaaaa"
#define B "bbbbbbbbbbbb"
enum { RUNS = 2 };

// Two runs, of which one is paused at the rung that both had to reach, and is worse: it is to be pruned.
static const char record[] =
    "{\"v\":1,\"event\":\"plan\",\"metric\":\"val_loss\",\"runs\":[{\"id\":\"" A "\"},{\"id\":\"" B "\"}]}\n"
    "{\"v\":1,\"event\":\"ended\",\"run\":\"" A "\",\"status\":\"paused\",\"step\":10,\"metric\":2}\n"
    "{\"v\":1,\"event\":\"ended\",\"run\":\"" B "\",\"status\":\"paused\",\"step\":10,\"metric\":1}\n";

static const char *dir;

static void write_record(const char *more) {
    char path[4096];
    Text text = {0};
    text_printf(&text, "%s%s", record, more);
    test_write(path, dir, "state.jsonl", text_string(&text));
    text_close(&text);
}

static Forecast forecasts[RUNS] = {{.good = true, .host = true, .steps = 100, .seconds = 1},
                                   {.good = true, .host = true, .steps = 100, .seconds = 1}};

static Work work_on(Search *search) {
    Work work;
    Pool pool;
    Errors errors = {0};
    SearchRun *runs = test_take(RUNS * sizeof *runs);
    for (int i = 0; i < RUNS; i++) {
        runs[i].arm = -1;
        memcpy(runs[i].id, i ? B : A, SWEEP_ID);
        text_add(&runs[i].config, "{\"eval\":{\"every\":5}}");
    }
    *search = (Search){.name = "s", .metric = "val_loss", .min_steps = 10, .eta = 2, .runs = runs, .count = RUNS};
    dir = test_folder("sweep_work");
    snprintf(search->dir, sizeof search->dir, "%s", dir);
    write_record("");
    assert_true(pool_open(&pool, &(PoolSetup){.jobs = 1, .gpus_per_run = 1, .runs = RUNS}, &errors));
    WorkSetup setup = {.search = search, .forecasts = forecasts, .shards = 1};
    if (!work_open(&work, &setup, &pool, &errors)) fail_msg("%s", text_string(&errors.text));
    work_look(&work);
    assert_true(work.moves[0].prune && !work.moves[0].go && work.moves[1].go);
    return work;
}

static void close_all(Work *work, Search *search) {
    work_close(work);
    search_close(search);
}

static int64_t pruned(const Work *work) {
    SweepHistory history;
    Errors errors = {0};
    int64_t count = 0;
    assert_true(sweep_history_read(&history, work->search->dir, &errors));
    for (int64_t i = 0; i < history.count; i++) count += history.records[i].status == SWEEP_PRUNED;
    sweep_history_close(&history);
    return count;
}

static void append(const char *line) {
    char path[4096];
    Errors errors = {0};
    path_join(path, dir, "state.jsonl");
    int file = file_open_append(path, &errors);
    assert_true(file >= 0 && file_append(file, path, line, strlen(line), &errors));
    assert_true(file_close_append(file, path, &errors));
}

TEST(what_is_still_to_be_done_with_a_run_is_done) {
    Search search;
    Errors errors = {0};
    Work work = work_on(&search);
    assert_true(work_take(&work, 0, true, &errors));
    assert_int_equal(pruned(&work), 1);
    assert_true(work.runs[0].claim.descriptor < 0); // nobody waits for it
    assert_false(work_take(&work, 0, true, &errors));
    assert_int_equal(errors.count, 0);
    close_all(&work, &search);
}

// It wrote so in the moment between our reading and our taking.
TEST(a_run_that_another_process_finished_meanwhile_is_let_be) {
    Search search;
    Errors errors = {0};
    Work work = work_on(&search);
    append("{\"v\":1,\"event\":\"ended\",\"run\":\"" A "\",\"status\":\"finished\",\"step\":100,\"metric\":2}\n"
           "{\"v\":1,\"event\":\"ended\",\"run\":\"" B "\",\"status\":\"finished\",\"step\":100,\"metric\":1}\n");
    assert_false(work_take(&work, 0, true, &errors));
    assert_false(work_take(&work, 1, false, &errors));
    assert_int_equal(work.pool.count, 0);
    assert_int_equal(pruned(&work), 0);
    assert_true(work.runs[0].claim.descriptor < 0 && work.runs[1].claim.descriptor < 0);
    assert_int_equal(errors.count, 0);
    close_all(&work, &search);
}

TEST(a_run_that_another_process_sent_on_meanwhile_is_not_pruned) {
    Search search;
    Errors errors = {0};
    Work work = work_on(&search);
    append("{\"v\":1,\"event\":\"started\",\"run\":\"" A "\",\"until\":20}\n");
    assert_false(work_take(&work, 0, true, &errors));
    assert_int_equal(pruned(&work), 0);
    close_all(&work, &search);
}

TEST(a_run_that_failed_elsewhere_meanwhile_is_not_begun_again) {
    Search search;
    Errors errors = {0};
    Work work = work_on(&search);
    append("{\"v\":1,\"event\":\"ended\",\"run\":\"" B "\",\"status\":\"refused\",\"exit\":2,\"step\":10}\n");
    assert_false(work_take(&work, 1, false, &errors));
    assert_int_equal(work.pool.count, 0);
    close_all(&work, &search);
}
