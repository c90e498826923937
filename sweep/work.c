// Which run is begun next.
#include "sweep/work.h"

#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "commands/console.h"
#include "runtime/file.h"
#include "runtime/process.h"
#include "sweep/board.h"
#include "sweep/work_lines.h"

static const double tick_seconds = 0.25, busy_seconds = 1, waiting_seconds = 5, pruning_seconds = 1;

// What hinders run after run is told once.
static void tell(Work *work, Errors *errors) {
    if (errors->count && work->trouble == 0) work->trouble = errors->exit_code;
    bool told = strcmp(text_string(&errors->text), text_string(&work->told)) == 0;
    if (told) {
        errors_close(errors);
        return;
    }
    board_wipe();
    text_clear(&work->told);
    text_add(&work->told, text_string(&errors->text));
    console_errors(errors);
}

static void stop(Work *work, const char *why) {
    board_wipe();
    console_note("stopping: the runs at work write a checkpoint%s", why);
    work->stopping = true;
    pool_signal(&work->pool, SIGTERM);
}

static const SearchRun *search_run(const Work *work, int64_t run) { return &work->search->runs[run]; }

void work_run_dir(const Work *work, int64_t run, char out[4096]) {
    char name[64];
    snprintf(name, sizeof name, "runs/%s", search_run(work, run)->id);
    path_join(out, work->search->dir, name);
}

// ---- what is known ----

static void find_moves(Work *work) {
    const Search *search = work->search;
    for (int64_t i = 0; i < search->count; i++) {
        const SweepRecord *record = work->runs[i].record;
        work->moves[i] = (HalvingMove){.go = !sweep_status_is_result(record->status)};
        if (work->halving) work->halving[i].record = record;
    }
    if (!work->halving) return;
    Halving halving = {search->min_steps, search->eta, search->maximise};
    halving_moves(&halving, work->halving, search->count, work->moves);
}

static void find_records(Work *work) {
    static const SweepRecord unknown = {.arm = "", .reason = "", .host = "", .slot = "", .metric = NAN, .best = NAN,
                                        .tokens_per_second = NAN, .energy = NAN};
    for (int64_t i = 0; i < work->search->count; i++) {
        const SweepRecord *record = sweep_record(&work->history, search_run(work, i)->id);
        work->runs[i].record = record ? record : &unknown;
    }
}

void work_look(Work *work) {
    Errors errors = {0};
    if (!journal_grown(&work->journal)) return;
    sweep_history_read_on(&work->history, work->search->dir, &errors);
    find_records(work);
    find_moves(work);
    work->stale = true;
    if (errors.count && !work->stopping) stop(work, ": its record cannot be relied on"); // which is told now
    tell(work, &errors);
}

// A failure of an earlier call is tried again, one of this call where it may pass.
static bool may_be_tried(const Work *work, const WorkRun *run) {
    const SweepRecord *record = run->record;
    int64_t failures = record->failures - run->failures;
    if (record->status == SWEEP_INTERRUPTED) return !run->left;
    if (!sweep_status_is_failure(record->status) || failures == 0) return true;
    return failures <= work->search->retries && verdict_may_pass(record->exit_code, record->signal);
}

bool work_is_open(const Work *work, int64_t run) {
    const WorkRun *r = &work->runs[run];
    bool free_now = r->ours && !r->given_up && r->claim.descriptor < 0;
    return free_now && !sweep_status_is_result(r->record->status) && may_be_tried(work, r);
}

// ---- to begin a run ----

// A process that was killed with its sweep may need a moment to be gone: it holds the lock of the run directory.
static bool directory_is_free(const Work *work, int64_t run) {
    char dir[4096], path[4096];
    work_run_dir(work, run, dir);
    path_join(path, dir, "lock");
    int lock = open(path, O_RDWR | O_CLOEXEC);
    if (lock < 0) return true;
    bool free_now = flock(lock, LOCK_EX | LOCK_NB) == 0;
    close(lock);
    return free_now;
}

static void log_path(const Work *work, int64_t run, char out[4096]) {
    char name[64];
    snprintf(name, sizeof name, "logs/%s.log", search_run(work, run)->id);
    path_join(out, work->search->dir, name);
}

static void add_number(TextList *arguments, const char *key, int64_t number) {
    Text text = {0};
    text_printf(&text, "%s=%ld", key, number);
    text_list_add(arguments, text_string(&text));
    text_close(&text);
}

static void list_arguments(const Work *work, int64_t run, TextList *out) {
    char config[4096], dir[4096], name[64];
    Text text = {0};
    snprintf(name, sizeof name, "configs/%s.json", search_run(work, run)->id);
    path_join(config, work->search->dir, name);
    work_run_dir(work, run, dir);
    text_printf(&text, "run.dir=%s", dir);
    const char *const words[] = {"train_gpt", "train", config, text_string(&text), "--resume"};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) text_list_add(out, words[i]);
    text_close(&text);
    if (!work->has_threads) add_number(out, "threads", pool_threads(&work->pool, work->runs[run].host));
    if (work->runs[run].until > 0) add_number(out, "train.stop_at", work->runs[run].until);
}

// Of a run that is ours alone now. False: not now.
static bool begin(Work *work, int64_t run, Errors *errors) {
    WorkRun *r = &work->runs[run];
    char log[4096], dir[4096];
    uint64_t size = 0;
    TextList arguments = {0};
    r->until = work->moves[run].until;
    r->follow = follow_begin(work->search->metric, work->search->maximise);
    work_run_dir(work, run, dir);
    follow_read(&r->follow, dir);
    r->step_before = r->follow.step;
    log_path(work, run, log);
    r->log_from = path_size(log, &size) ? (int64_t)size : 0;
    list_arguments(work, run, &arguments);
    PoolTask task = {run, r->host, work->forecasts[run].bytes, &arguments, log};
    const PoolRun *begun = pool_start(&work->pool, &task, errors);
    text_list_close(&arguments);
    if (begun) work_line_started(work, begun, errors);
    if (begun) board_begun(work, begun);
    return begun != NULL;
}

bool work_take(Work *work, int64_t run, bool prune, Errors *errors) {
    WorkRun *r = &work->runs[run];
    r->try_at = clock_seconds() + busy_seconds;
    ClaimResult result = claim_take(&r->claim, work->search->dir, search_run(work, run)->id, clock_unix(), errors);
    r->given_up = result == CLAIM_IMPOSSIBLE;
    if (result != CLAIM_TAKEN) return false;
    Claim claim = r->claim;
    r->claim.descriptor = -1; // so that it is open as it was before
    work_look(work); // it may be through since
    bool still = work_is_open(work, run) && (prune ? work->moves[run].prune : work->moves[run].go);
    r->claim = claim;
    bool good = still && prune;
    if (good) work_line_pruned(work, run, errors);
    else if (still && directory_is_free(work, run)) good = begin(work, run, errors);
    if (!good || prune) claim_release(&r->claim);
    return good;
}

static bool can_begin(const Work *work, int64_t run) {
    return work->moves[run].go && work_is_open(work, run) && clock_seconds() >= work->runs[run].try_at &&
           pool_has_room(&work->pool, work->runs[run].host, work->forecasts[run].bytes);
}

// The top rung first, then the longest; -1: none.
static int64_t choose(const Work *work) {
    int64_t chosen = -1;
    for (int64_t k = 0; k < work->search->count; k++) {
        int64_t run = work->order[k];
        if (!can_begin(work, run)) continue;
        if (chosen < 0 || work->moves[run].rung > work->moves[chosen].rung) chosen = run;
    }
    return chosen;
}

// Of what is not in the record nobody knows: the same run would be begun again and again.
static bool is_recorded(Work *work) {
    Errors told = {0}; // when it began
    bool good = journal_flush(&work->journal, &told);
    errors_close(&told);
    return good;
}

static void begin_all(Work *work) {
    Errors errors = {0};
    double until = clock_seconds() + pruning_seconds; // of thousands the rest comes when signals were heeded
    for (int64_t i = 0; i < work->search->count && clock_seconds() < until && is_recorded(work); i++)
        if (work->moves[i].prune && work_is_open(work, i) && clock_seconds() >= work->runs[i].try_at)
            work_take(work, i, true, &errors);
    for (int64_t run; is_recorded(work) && (run = choose(work)) >= 0;) work_take(work, run, false, &errors);
    if (work->pool.count == 0 && !is_recorded(work)) work->stopping = true; // nothing frees a place on the disk
    tell(work, &errors);
}

// ---- to end ----

static void end_one(Work *work, const PoolRun *ended, int status, double seconds) {
    WorkRun *r = &work->runs[ended->run];
    char dir[4096], log[4096];
    Errors errors = {0};
    Verdict verdict;
    work_run_dir(work, ended->run, dir);
    log_path(work, ended->run, log);
    r->follow = follow_begin(r->follow.metric, r->follow.maximise); // from its beginning: it may have gone back
    follow_read(&r->follow, dir);
    Ending ending = {status, work->stopping || ended->killed, r->until, &work->forecasts[ended->run], &r->follow, log,
                     r->log_from};
    verdict_find(&ending, &verdict);
    r->left = verdict.status == SWEEP_INTERRUPTED && !ending.asked;
    work_line_ended(work, ended, &verdict, seconds, &errors);
    board_ended(work, ended->run, &verdict);
    claim_release(&r->claim);
    text_close(&verdict.reason);
    tell(work, &errors);
}

static void end_those_that_ended(Work *work) {
    PoolRun ended;
    int status;
    double seconds;
    while (pool_reap(&work->pool, &ended, &status, &seconds)) end_one(work, &ended, status, seconds);
}

static void heed(Work *work, int number) {
    if (number == 0 || number == SIGCHLD) return;
    if (number == SIGTSTP) {
        pool_rest(&work->pool);
    } else if (number == SIGUSR2) {
        pool_signal(&work->pool, SIGUSR2); // a checkpoint now
    } else if (number == SIGINT && work->interrupted) {
        pool_signal(&work->pool, SIGKILL);
    } else {
        work->interrupted = work->interrupted || number == SIGINT;
        if (!work->stopping) stop(work, number == SIGINT ? "; Ctrl-C again ends them at once" : "");
    }
}

static void renew_claims(Work *work) {
    double now = clock_unix();
    for (int64_t i = 0; i < work->pool.count; i++) claim_renew(&work->runs[work->pool.runs[i].run].claim, now);
}

// ---- all of it ----

static bool is_held(const Work *work, int64_t run) {
    Claim claim;
    Errors ignored = {0};
    bool held = claim_take(&claim, work->search->dir, search_run(work, run)->id, clock_unix(), &ignored) == CLAIM_BUSY;
    claim_release(&claim);
    errors_close(&ignored);
    return held;
}

// Whether a run that this one waits for is at work elsewhere: those first of which the record says so.
static bool others_work(const Work *work) {
    for (int pass = 0; pass < 2; pass++)
        for (int64_t i = 0; i < work->search->count; i++) {
            SweepStatus status = work->runs[i].record->status;
            bool now = (status == SWEEP_RUNNING) == (pass == 0);
            if (now && !sweep_status_is_result(status) && is_held(work, i)) return true;
        }
    return false;
}

// Whether nothing is left to do, now that nothing is at work here and nothing can be begun.
static bool is_done(const Work *work) {
    bool waits = false;
    for (int64_t i = 0; i < work->search->count; i++) {
        if (!work_is_open(work, i)) continue;
        if (work->moves[i].go || work->moves[i].prune) return false; // soon: another process has it
        waits = true;
    }
    return !waits || !others_work(work);
}

// Of this process's runs: 0 where each has a result, else what the first one without ended with.
static int exit_code_of(const Work *work) {
    int stopped = 0;
    for (int64_t i = 0; i < work->search->count; i++) {
        const SweepRecord *record = work->runs[i].record;
        if (!work->runs[i].ours || sweep_status_is_result(record->status)) continue;
        if (!sweep_status_is_failure(record->status)) stopped = EXIT_STOPPED;
        else if (record->signal) return EXIT_COMM;
        else return record->exit_code ? record->exit_code : EXIT_INTERNAL;
    }
    return stopped && work->trouble ? work->trouble : stopped;
}

static bool is_late(const Work *work) {
    double most = work->search->max_seconds;
    return most > 0 && clock_seconds() - work->begun >= most;
}

static void tell_how_to_go_on(void) {
    const TextList *words = process_command();
    Text command = {0};
    for (int64_t i = 0; i < words->count; i++) {
        if (i > 0) text_add(&command, " ");
        text_add_shell(&command, words->items[i]);
    }
    console_note("stopped; go on with: %s", text_string(&command));
    text_close(&command);
}

// Whoever called may wonder why nothing happens.
static void tell_of_waiting(Work *work) {
    if (work->pool.count > 0 || work->stopping) work->idle_since = clock_seconds();
    if (work->told_of_waiting || clock_seconds() - work->idle_since < waiting_seconds) return;
    work->told_of_waiting = true;
    board_wipe();
    console_note("waiting for runs that other processes have; %s/locks tells which", work->search->dir);
}

int work_run(Work *work) {
    bool killed = false;
    work->idle_since = clock_seconds();
    pool_take_signals(&work->pool);
    work_look(work);
    while (true) {
        if (is_late(work) && !work->stopping) stop(work, "; budget.max_hours is over");
        if (!work->stopping) begin_all(work);
        if (work->pool.count == 0 && (work->stopping || is_done(work))) break;
        heed(work, pool_wait(&work->pool, tick_seconds));
        for (int64_t i = 0; i < work->pool.count; i++) killed = killed || work->pool.runs[i].killed;
        end_those_that_ended(work);
        renew_claims(work);
        work_look(work);
        work_sum_up(work, false);
        tell_of_waiting(work);
        board_tick(work);
    }
    work_sum_up(work, true);
    board_end(work);
    if (work->stopping) tell_how_to_go_on();
    return killed ? EXIT_INTERRUPTED : exit_code_of(work);
}

void work_close(Work *work) {
    Errors errors = {0};
    journal_close(&work->journal, &errors);
    console_errors(&errors);
    sweep_history_close(&work->history);
    pool_close(&work->pool);
    text_close(&work->told);
    free(work->order), free(work->runs), free(work->moves), free(work->halving);
}
