// The record of a sweep: written, torn, damaged, read back; and what is made of it.
#include <math.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include "data/sweep_log.h"
#include "runtime/fault.h"
#include "runtime/file.h"
#include "runtime/json.h"
#include "sweep/follow.h"
#include "sweep/journal.h"
#include "tests/test.h"

#define A "aaaaaaaaaaaa"
#define B "bbbbbbbbbbbb"
#define C "cccccccccccc"
#define PLAN "{\"v\":1,\"time\":1,\"event\":\"plan\",\"name\":\"s\",\"metric\":\"val_loss\",\"goal\":\"min\"," \
    "\"at\":\"last\",\"runs\":[{\"id\":\"" A "\",\"arm\":\"x, \\\"y\\\"\",\"settings\":{\"optim.lr\":0.1," \
    "\"run.seed\":1,\"model.bias\":true},\"steps\":20,\"step_tokens\":64},{\"id\":\"" B "\"," \
    "\"arm\":\"x, \\\"y\\\"\",\"settings\":{\"optim.lr\":0.1,\"run.seed\":2,\"model.bias\":true},\"steps\":20}," \
    "{\"id\":\"" C "\",\"settings\":{\"optim.lr\":\"1e-3\"}}]}\n"
#define STARTED(id, until) "{\"v\":1,\"event\":\"started\",\"run\":\"" id "\",\"host\":\"h\"," \
    "\"slot\":\"cpu 1\",\"until\":" until "}\n"
#define ENDED(id, status, rest) \
    "{\"v\":1,\"event\":\"ended\",\"run\":\"" id "\",\"status\":\"" status "\"" rest "}\n"

static const char *dir_with(const char *text) {
    static char path[4096];
    const char *folder = test_folder("sweep_log");
    test_write(path, folder, "state.jsonl", text);
    return folder;
}

static SweepHistory history_of(const char *text) {
    SweepHistory history;
    Errors errors = {0};
    if (!sweep_history_read(&history, dir_with(text), &errors)) fail_msg("%s", text_string(&errors.text));
    return history;
}

static SweepStatus status_after(const char *lines) {
    Text text = {0};
    text_add(&text, PLAN);
    text_add(&text, lines);
    SweepHistory history = history_of(text_string(&text));
    SweepStatus status = history.records[0].status;
    sweep_history_close(&history);
    text_close(&text);
    return status;
}

TEST(a_plan_is_read_back) {
    SweepHistory h = history_of(PLAN);
    assert_int_equal(h.count, 3);
    assert_string_equal(h.name, "s");
    assert_string_equal(h.metric, "val_loss");
    assert_true(!h.maximise && !h.at_best);
    assert_int_equal(h.key_count, 3);
    const SweepRecord *a = &h.records[0];
    assert_string_equal(a->arm, "x, \"y\"");
    assert_string_equal(a->settings[0].value, "0.1");
    CHECK_CLOSE(a->settings[0].number, 0.1, 0);
    assert_string_equal(a->settings[2].value, "true");
    assert_true(isnan(a->settings[2].number));
    assert_true(a->steps == 20 && a->step_tokens == 64 && a->planned && a->status == SWEEP_PLANNED);
    CHECK_CLOSE(h.records[2].settings[0].number, 1e-3, 0); // of a text that is a number
    sweep_history_close(&h);
}

TEST(the_newest_plan_says_which_runs_are_planned) {
    SweepHistory h = history_of(PLAN "{\"v\":1,\"event\":\"plan\",\"goal\":\"max\",\"runs\":[{\"id\":\"" B "\"}]}\n");
    assert_int_equal(h.count, 3);
    assert_true(!h.records[0].planned && h.records[1].planned && h.maximise);
    sweep_history_close(&h);
}

static void add_plan(Text *out, int first, int last) { // of runs with those numbers
    text_add(out, "{\"v\":1,\"event\":\"plan\",\"runs\":[");
    for (int i = first; i < last; i++) text_printf(out, "%s{\"id\":\"%012x\"}", i > first ? "," : "", i);
    text_add(out, "]}\n");
}

TEST(each_of_many_runs_is_found_by_its_id) {
    Text text = {0};
    add_plan(&text, 0, 1000);
    add_plan(&text, 700, 1300);
    SweepHistory h = history_of(text_string(&text));
    assert_int_equal(h.count, 1300);
    for (int i = 0; i < 1300; i++) {
        char id[SWEEP_ID];
        snprintf(id, sizeof id, "%012x", i);
        assert_true(sweep_record(&h, id) == &h.records[i]);
    }
    sweep_history_keep_planned(&h);
    assert_int_equal(h.count, 600);
    assert_true(sweep_record(&h, "000000000514") == NULL && sweep_record(&h, "0000000002bb") == NULL);
    assert_true(sweep_record(&h, "0000000002bc") == &h.records[0]);
    sweep_history_close(&h);
    assert_null(sweep_record(&h, A));
    text_close(&text);
}

TEST(what_came_since_is_read_on_and_a_file_that_became_shorter_is_damaged) {
    Errors errors = {0};
    SweepHistory h = history_of(PLAN STARTED(A, "0") "{\"v\":1,\"event\":\"star");
    dir_with(PLAN STARTED(A, "0") STARTED(B, "0") ENDED(A, "finished", ""));
    for (int i = 0; i < 2; i++) assert_true(sweep_history_read_on(&h, "build/tmp/sweep_log", &errors));
    assert_true(h.records[0].attempts == 1 && h.records[1].attempts == 1 && h.records[0].status == SWEEP_FINISHED);
    assert_int_equal(h.lines, 4);
    assert_int_equal(h.bytes, strlen(PLAN STARTED(A, "0") STARTED(B, "0") ENDED(A, "finished", "")));
    dir_with(PLAN);
    assert_false(sweep_history_read_on(&h, "build/tmp/sweep_log", &errors));
    assert_int_equal(errors.exit_code, EXIT_DATA);
    assert_non_null(strstr(text_string(&errors.text), "became shorter"));
    errors_close(&errors);
    sweep_history_close(&h);
}

// They may differ in what their plan set for all: nobody can tell from their settings.
TEST(runs_of_an_older_plan_are_not_compared_with_those_of_the_newest) {
    SweepHistory h = history_of(PLAN ENDED(A, "finished", ",\"metric\":2") ENDED(B, "finished", ",\"metric\":4")
                                "{\"v\":1,\"event\":\"plan\",\"runs\":[{\"id\":\"" B "\",\"arm\":\"x, \\\"y\\\"\","
                                "\"settings\":{\"optim.lr\":0.1,\"run.seed\":2,\"model.bias\":true}}]}\n");
    SweepGroup *groups;
    int64_t of[3];
    assert_string_equal(sweep_best(&h)->id, B);
    assert_int_equal(sweep_groups(&h, &groups, of), 3);
    assert_true(groups[of[0]].seeds == 0 && groups[of[1]].seeds == 1 && groups[of[1]].mean == 4);
    free(groups);
    sweep_history_keep_planned(&h);
    assert_int_equal(h.count, 1);
    assert_string_equal(h.records[0].id, B);
    sweep_history_close(&h);
}

TEST(statuses_follow_from_the_lines) {
    assert_int_equal(status_after(""), SWEEP_PLANNED);
    assert_int_equal(status_after(STARTED(A, "0")), SWEEP_RUNNING);
    assert_int_equal(status_after(STARTED(A, "0") ENDED(A, "finished", "")), SWEEP_FINISHED);
    assert_int_equal(status_after(ENDED(A, "failed", ",\"exit\":70") STARTED(A, "0")), SWEEP_RUNNING);
    assert_int_equal(status_after(ENDED(A, "paused", "") "{\"v\":1,\"event\":\"pruned\",\"run\":\"" A "\"}\n"),
                     SWEEP_PRUNED);
    for (int s = SWEEP_PAUSED; s < SWEEP_STATUSES; s++) {
        char line[200];
        snprintf(line, sizeof line, "{\"v\":1,\"event\":\"ended\",\"run\":\"" A "\",\"status\":\"%s\"}\n",
                 sweep_status_tag((SweepStatus)s));
        if (s != SWEEP_PRUNED) assert_int_equal(status_after(line), s);
        assert_false(sweep_status_is_result((SweepStatus)s) && sweep_status_is_failure((SweepStatus)s));
    }
}

TEST(attempts_and_rungs_add_up) {
    SweepHistory h = history_of(
        PLAN STARTED(A, "5") ENDED(A, "paused", ",\"step\":5,\"metric\":3,\"seconds\":2,\"wall\":4")
        STARTED(A, "10") ENDED(A, "failed", ",\"signal\":9,\"reason\":\"r\",\"step\":7,\"wall\":1")
        STARTED(A, "10") ENDED(A, "paused", ",\"step\":10,\"metric\":2,\"best\":1.5,\"seconds\":5,\"wall\":4"));
    const SweepRecord *a = &h.records[0];
    assert_true(a->attempts == 3 && a->failures == 1 && a->rung_count == 2 && a->until == 10 && a->step == 10);
    assert_true(a->rungs[0].step == 5 && a->rungs[1].step == 10 && a->signal == 0);
    CHECK_CLOSE(a->rungs[0].metric, 3, 0);
    CHECK_CLOSE(a->best, 1.5, 0);
    CHECK_CLOSE(a->seconds, 5, 0);
    CHECK_CLOSE(a->wall, 9, 0);
    assert_string_equal(a->slot, "cpu 1");
    assert_true(isnan(sweep_result(&h, a))); // it is not at its end
    sweep_history_close(&h);
}

TEST(torn_lines_are_passed_over_and_others_are_damage) {
    static const char *const bad[] = {"x\n", "{}\n", "[]\n", "\n", "{\"v\":2,\"event\":\"plan\",\"runs\":[]}\n",
                                      "{\"v\":1,\"event\":\"other\"}\n", STARTED("aaaaaaaaaaa", "0"),
                                      STARTED("AAAAAAAAAAAA", "0"), STARTED(A, "-1"), ENDED(A, "pruned", ""),
                                      ENDED(A, "finished", ",\"step\":\"1\""), ENDED(A, "failed", ",\"exit\":256"),
                                      "{\"v\":1,\"event\":\"plan\",\"runs\":[{\"id\":\"" A
                                      "\",\"settings\":{\"a\":[]}}]}\n",
                                      "{\"v\":1,\"event\":\"plan\",\"goal\":\"best\",\"runs\":[]}\n"};
    SweepHistory h = history_of(PLAN STARTED(A, "0") "{\"v\":1,\"event\":\"ended\",\"run\":\"" A "\",\"st");
    assert_int_equal(h.records[0].status, SWEEP_RUNNING);
    sweep_history_close(&h);
    h = history_of(PLAN "{\"v\":1,\"ev" SWEEP_TORN "\n" STARTED(A, "0"));
    assert_int_equal(h.records[0].status, SWEEP_RUNNING);
    sweep_history_close(&h);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        Text text = {0};
        Errors errors = {0};
        text_printf(&text, "%s%s", PLAN, bad[i]);
        if (sweep_history_read(&h, dir_with(text_string(&text)), &errors)) fail_msg("believed: %s", bad[i]);
        assert_int_equal(errors.exit_code, EXIT_DATA);
        assert_non_null(strstr(text_string(&errors.text), "state.jsonl:2:"));
        errors_close(&errors);
        text_close(&text);
    }
    Errors errors = {0};
    assert_false(sweep_history_read(&h, "build/tmp/nowhere", &errors));
    assert_int_equal(errors.exit_code, EXIT_NO_INPUT);
    errors_close(&errors);
}

TEST(groups_differ_in_more_than_the_seed) {
    SweepHistory h = history_of(PLAN ENDED(A, "finished", ",\"metric\":2,\"step\":20")
                                ENDED(B, "finished", ",\"metric\":4") ENDED(C, "diverged", ",\"metric\":9"));
    SweepGroup *groups;
    assert_int_equal(sweep_groups(&h, &groups, NULL), 2);
    assert_int_equal(groups[0].seeds, 2);
    CHECK_CLOSE(groups[0].mean, 3, 1e-15);
    CHECK_CLOSE(groups[0].error, 1, 1e-15); // deviation sqrt(2) over sqrt(2)
    assert_true(groups[1].seeds == 0 && isnan(groups[1].mean) && isnan(groups[1].error));
    assert_string_equal(sweep_best(&h)->id, A);
    free(groups);
    sweep_history_close(&h);
}

static void holds(const char *dir, const char *name, const char *expected) {
    char path[4096];
    File file;
    Errors errors = {0};
    path_join(path, dir, name);
    assert_true(file_read(&file, path, 1 << 20, EXIT_DATA, &errors));
    if (!strstr(file.bytes, expected)) fail_msg("%s lacks: %s\n%s", name, expected, file.bytes);
    file_close(&file);
}

TEST(summaries_quote_what_must_be_quoted) {
    Errors errors = {0};
    SweepHistory h = history_of(PLAN ENDED(A, "finished", ",\"metric\":2,\"step\":20")
                                ENDED(B, "failed", ",\"exit\":70,\"reason\":\"a,\\\"b\\\"\""));
    const char *dir = dir_with(PLAN);
    assert_true(sweep_summary_write(&h, dir, &errors));
    holds(dir, "summary.csv", "run,arm,optim.lr,run.seed,model.bias,status,result,metric,");
    holds(dir, "summary.csv", "\n" A ",\"x, \"\"y\"\"\",0.1,1,true,finished,2,2,,20,20,1280,");
    holds(dir, "summary.csv", ",runs/" B ",\"a,\"\"b\"\"\"\n");
    holds(dir, "summary.json", "\"best_run\": \"" A "\"");
    Json *json;
    char path[4096];
    path_join(path, dir, "summary.json");
    assert_non_null(json = json_open(path, 1 << 20, EXIT_DATA, &errors));
    assert_int_equal(cJSON_GetArraySize(json_member(json_root(json), "runs")), 3);
    json_close(json);
    sweep_history_close(&h);
}

// ---- the journal ----

static bool append(Journal *journal, const char *id, Errors *errors) {
    JsonWriter w;
    Text line = {0};
    journal_begin(&w, &line, "started");
    json_string(&w, "run", id);
    return journal_end(journal, &w, true, errors);
}

static int64_t attempts_of(const char *dir, const char *id) {
    SweepHistory h;
    Errors errors = {0};
    if (!sweep_history_read(&h, dir, &errors)) fail_msg("%s", text_string(&errors.text));
    const SweepRecord *record = sweep_record(&h, id);
    int64_t attempts = record ? record->attempts : 0;
    sweep_history_close(&h);
    return attempts;
}

TEST(a_line_behind_a_torn_one_is_read) {
    Journal journal;
    Errors errors = {0};
    const char *dir = dir_with(PLAN "{\"v\":1,\"event\":\"sta");
    assert_true(journal_open(&journal, dir, &errors));
    assert_true(journal_grown(&journal) && !journal_grown(&journal));
    assert_true(append(&journal, B, &errors));
    assert_true(journal_grown(&journal));
    journal_close(&journal, &errors);
    assert_int_equal(attempts_of(dir, B), 1);
    assert_int_equal(errors.count, 0);
}

TEST(lines_wait_where_they_cannot_be_written_and_none_comes_twice) {
    static const char *const kinds[] = {"ENOSPC", "short"};
    for (int kind = 0; kind < 2; kind++) {
        bool struck = true;
        for (int n = 1; struck; n++) {
            char rule[32];
            Journal journal;
            Errors errors = {0};
            const char *dir = dir_with(PLAN);
            assert_true(journal_open(&journal, dir, &errors));
            snprintf(rule, sizeof rule, "%d:%s", n, kinds[kind]);
            fault_set(rule);
            bool written = append(&journal, A, &errors);
            struck = fault_operations() >= n;
            fault_set(NULL);
            assert_true(written || errors.count > 0 || kind == 1);
            errors_close(&errors);
            assert_true(append(&journal, B, &errors));
            journal_close(&journal, &errors);
            assert_int_equal(errors.count, 0);
            assert_int_equal(attempts_of(dir, A), 1);
            assert_int_equal(attempts_of(dir, B), 1);
        }
    }
}

// Files may grow by so many bytes; -1: as they like.
static void limit_growth(const Journal *journal, int64_t bytes) {
    uint64_t size;
    struct rlimit limit;
    assert_true(path_size(journal->path, &size));
    getrlimit(RLIMIT_FSIZE, &limit);
    limit.rlim_cur = bytes < 0 ? limit.rlim_max : size + (uint64_t)bytes;
    setrlimit(RLIMIT_FSIZE, &limit);
}

TEST(half_of_what_waits_is_taken_back) {
    Journal journal;
    Errors errors = {0};
    const char *dir = dir_with(PLAN);
    signal(SIGXFSZ, SIG_IGN);
    assert_true(journal_open(&journal, dir, &errors));
    limit_growth(&journal, 0);
    assert_false(append(&journal, A, &errors));
    assert_int_equal(errors.exit_code, EXIT_CANNOT_WRITE);
    errors_close(&errors);
    limit_growth(&journal, (int64_t)journal.unwritten.size + 20); // all of this line, and a part of the next
    assert_false(append(&journal, B, &errors));
    assert_int_equal(errors.count, 0); // it was told before
    limit_growth(&journal, -1);
    assert_int_equal(attempts_of(dir, A), 0);
    assert_true(append(&journal, C, &errors));
    journal_close(&journal, &errors);
    assert_true(attempts_of(dir, A) == 1 && attempts_of(dir, B) == 1 && attempts_of(dir, C) == 1);
}

// ---- a run that is followed ----

TEST(what_a_run_spent_stays_though_its_lines_are_cut_off) {
    static const struct {
        const char *lines;
        int64_t step;
        double energy;
    } rows[] = {
        {"{\"step\":1,\"loss\":3}\n", 1, NAN},
        {"{\"step\":1,\"loss\":3}\n{\"step\":2,\"gpu_energy\":100}\n{\"step\":3,\"gpu_energy\":null}\n", 3, 100},
        {"{\"step\":1,\"loss\":3}\n", 1, 100},
        {"{\"step\":1,\"loss\":3}\n{\"step\":2,\"gpu_energy\":150}\n", 2, 150},
    };
    char path[4096];
    const char *folder = test_folder("sweep_log");
    Follow follow = follow_begin("val_loss", false);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        test_write(path, folder, "metrics.jsonl", rows[i].lines);
        follow_read(&follow, folder);
        assert_int_equal(follow.step, rows[i].step);
        assert_true(isnan(rows[i].energy) ? isnan(follow.energy) : follow.energy == rows[i].energy);
    }
}
