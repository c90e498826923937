#include "sweep/work_lines.h"

#include <math.h>
#include <sys/wait.h>
#include <unistd.h>

#include "commands/console.h"
#include "report/report.h"
#include "runtime/file.h"
#include "runtime/process.h"
#include "sweep/board.h"

static const double between_summaries = 2, between_reports = 30; // seconds
static const double summary_share = 0.05;                        // of the time, at most

static const char *id_of(const Work *work, int64_t run) { return work->search->runs[run].id; }

static void number(JsonWriter *w, const char *key, double value) {
    if (isfinite(value)) json_number(w, key, value);
}

// ---- plan ----

static void add_planned_run(const Work *work, int64_t run, JsonWriter *w) {
    const Search *search = work->search;
    const SearchRun *planned = &search->runs[run];
    const Forecast *forecast = &work->forecasts[run];
    json_begin(w, NULL, '{');
    json_string(w, "id", planned->id);
    if (planned->arm >= 0) json_string(w, "arm", search->arms.items[planned->arm]);
    json_begin(w, "settings", '{');
    search_settings_json(planned, w);
    json_end(w, '}');
    if (forecast->steps > 0) json_integer(w, "steps", forecast->steps);
    if (forecast->step_tokens > 0) json_integer(w, "step_tokens", forecast->step_tokens);
    json_end(w, '}');
}

bool work_line_plan(Work *work, Errors *errors) {
    const Search *search = work->search;
    JsonWriter w;
    Text line = {0};
    journal_begin(&w, &line, "plan");
    json_string(&w, "name", search->name);
    json_string(&w, "metric", search->metric);
    json_string(&w, "goal", search->maximise ? "max" : "min");
    json_string(&w, "at", search->at_best ? "best" : "last");
    json_begin(&w, "runs", '[');
    for (int64_t i = 0; i < search->count; i++) add_planned_run(work, i, &w);
    json_end(&w, ']');
    text_add(&line, "}"); // as the line will be
    bool same = sweep_plan_hash(text_string(&line)) == work->history.plan;
    line.data[--line.size] = 0;
    if (!same) return journal_end(&work->journal, &w, true, errors);
    text_close(&line);
    return true;
}

// ---- what becomes of a run ----

void work_line_started(Work *work, const PoolRun *begun, Errors *errors) {
    JsonWriter w;
    Text line = {0};
    const WorkRun *r = &work->runs[begun->run];
    journal_begin(&w, &line, "started");
    json_string(&w, "run", id_of(work, begun->run));
    json_integer(&w, "attempt", r->record->attempts + 1);
    json_string(&w, "host", claim_host());
    json_integer(&w, "pid", begun->pid);
    json_string(&w, "slot", begun->slot);
    json_integer(&w, "until", r->until);
    journal_end(&work->journal, &w, false, errors);
}

void work_line_ended(Work *work, const PoolRun *ended, const Verdict *verdict, double seconds, Errors *errors) {
    JsonWriter w;
    Text line = {0};
    const Follow *at = &work->runs[ended->run].follow;
    journal_begin(&w, &line, "ended");
    json_string(&w, "run", id_of(work, ended->run));
    json_string(&w, "status", sweep_status_tag(verdict->status));
    json_integer(&w, verdict->signal ? "signal" : "exit", verdict->signal ? verdict->signal : verdict->exit_code);
    json_string(&w, "reason", text_string(&verdict->reason));
    json_integer(&w, "step", at->step);
    number(&w, "metric", at->value);
    number(&w, "best", at->best);
    number(&w, "seconds", at->seconds);
    number(&w, "wall", round(seconds * 1e3) * 1e-3);
    number(&w, "tokens_per_second", at->tokens_per_second);
    number(&w, "energy", fmax(at->energy, work->runs[ended->run].record->energy)); // lines of it may be gone
    journal_end(&work->journal, &w, true, errors);
}

void work_line_pruned(Work *work, int64_t run, Errors *errors) {
    JsonWriter w;
    Text line = {0};
    journal_begin(&w, &line, "pruned");
    json_string(&w, "run", id_of(work, run));
    json_integer(&w, "rung", work->runs[run].record->step);
    journal_end(&work->journal, &w, false, errors); // it follows from the lines before
}

// ---- what is made of them ----

enum { REPORT_WAITS = 50 }; // tenths of a second, for another process that makes one

static int make_report(const char *dir, bool now) {
    char path[4096];
    Claim claim;
    Errors errors = {0};
    TextList dirs = {0};
    ClaimResult result;
    for (int i = 0; (result = claim_take(&claim, dir, "report", clock_unix(), &errors)) == CLAIM_BUSY; i++) {
        if (!now || i == REPORT_WAITS) return 0;
        usleep(100000);
    }
    if (result != CLAIM_TAKEN) return errors.exit_code;
    text_list_add(&dirs, dir);
    path_join(path, dir, "report.html");
    report_write(&dirs, path, &errors);
    claim_release(&claim);
    return errors.count ? errors.exit_code : 0;
}

static void heed_report(Work *work, int status) {
    work->reporter = 0;
    if (status == 0 || work->report_failed) return;
    work->report_failed = true;
    board_wipe();
    console_note("%s/report.html is not up to date: `train_gpt report %s` tells why", work->search->dir,
                 work->search->dir);
}

// In a process of its own: it takes a while, and the sweep goes on whatever becomes of it.
static void report(Work *work, bool now) {
    int status = 0;
    pid_t parent = getpid();
    if (work->reporter > 0 && waitpid(work->reporter, &status, now ? 0 : WNOHANG) != 0) heed_report(work, status);
    if (work->reporter > 0 || !work->report_due) return;
    if (!now && clock_seconds() - work->reported < between_reports) return;
    work->report_due = false;
    work->reported = clock_seconds();
    fflush(NULL);
    work->reporter = fork();
    if (work->reporter == 0) {
        process_begin_child(parent, &work->pool.before);
        _exit(make_report(work->search->dir, now));
    }
    if (now && work->reporter > 0 && waitpid(work->reporter, &status, 0) > 0) heed_report(work, status);
}

static void sum_up(Work *work, bool now) {
    Errors errors = {0};
    double begun = clock_seconds();
    if (!work->stale || (!now && begun < work->summary_at)) return;
    work->stale = false;
    work->report_due = true;
    journal_flush(&work->journal, &errors);
    errors_close(&errors); // told when it began
    journal_lock(&work->journal); // another process would write the same files
    sweep_summary_write(&work->history, work->search->dir, &errors);
    journal_unlock(&work->journal);
    double ended = clock_seconds();
    work->summary_at = ended + fmax(between_summaries, (ended - begun) / summary_share);
    if (errors.count) board_wipe();
    console_errors(&errors);
}

void work_sum_up(Work *work, bool now) {
    sum_up(work, now);
    report(work, now);
}
