#include "sweep/board.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "commands/console.h"
#include "runtime/terminal.h"
#include "sweep/standings.h"

static const double between_frames = 0.25, between_lines = 60; // seconds

static int lines_there; // of the table that stands on the terminal
static double shown;    // when something was

// ---- how long it takes ----

// Of so many steps of a run; 0: not known.
static double expected_of(const Work *work, int64_t run, int64_t steps) {
    const Forecast *forecast = &work->forecasts[run];
    bool known = forecast->seconds > 0 && forecast->steps > 0;
    return known ? forecast->seconds * fmin(1, (double)steps / (double)forecast->steps) : 0;
}

// Seconds that a forecast second took, by all steps of which it is known how long they took.
static double pace_of(const Work *work) {
    double took = 0, expected = 0;
    for (int64_t i = 0; i < work->search->count; i++) {
        const SweepRecord *record = work->runs[i].record;
        double steps = record->wall > 0 ? expected_of(work, i, record->step) : 0;
        if (steps > 0) took += record->wall;
        expected += steps;
    }
    for (int64_t i = 0; i < work->pool.count; i++) {
        const PoolRun *at_work = &work->pool.runs[i];
        const WorkRun *run = &work->runs[at_work->run];
        double steps = expected_of(work, at_work->run, run->follow.step - run->step_before);
        if (steps > 0) took += clock_seconds() - at_work->began;
        expected += fmax(0, steps);
    }
    return expected > 0 ? took / expected : 1;
}

// Of all that this process has to do, by forecasts and what was made of them so far; NaN: not known. Runs that will be
// pruned count as a whole.
static double seconds_left(const Work *work) {
    double seconds = 0, longest = 0, pace = pace_of(work);
    int64_t left = 0;
    bool host = false;
    for (int64_t i = 0; i < work->search->count; i++) {
        const WorkRun *run = &work->runs[i];
        const Forecast *forecast = &work->forecasts[i];
        bool at_work = run->claim.descriptor >= 0;
        if (!at_work && !work_is_open(work, i)) continue;
        if (!(forecast->seconds > 0) || forecast->steps <= 0) return NAN;
        int64_t step = at_work ? run->follow.step : run->record->step;
        double here = pace * (forecast->seconds - expected_of(work, i, step));
        seconds += here;
        longest = fmax(longest, here);
        host = run->host;
        left++;
    }
    int64_t places = pool_places(&work->pool, host);
    return fmax(longest, seconds / (double)(places > 0 && places < left ? places : left > 0 ? left : 1));
}

static double run_seconds_left(const Work *work, int64_t run) {
    const Follow *at = &work->runs[run].follow;
    const Forecast *forecast = &work->forecasts[run];
    int64_t end = work->runs[run].until > 0 ? work->runs[run].until : forecast->steps;
    double tokens = (double)(end - at->step) * (double)forecast->step_tokens;
    return at->tokens_per_second > 0 && end > at->step && tokens > 0 ? tokens / at->tokens_per_second : NAN;
}

static const char *duration(char out[TEXT_NUMBER], double seconds) {
    return isfinite(seconds) ? text_duration(out, seconds) : strcpy(out, "");
}

static const char *value(char out[TEXT_NUMBER], double number) {
    if (isfinite(number)) snprintf(out, TEXT_NUMBER, "%.4f", number);
    else strcpy(out, "");
    return out;
}

// ---- plain lines ----

static void add_name(const Work *work, int64_t run, Text *out) {
    text_printf(out, "%s  ", work->search->runs[run].id);
    standings_settings(work->runs[run].record, out);
}

static void say(Text *line) {
    if (!terminal_there()) console_note("%s", text_string(line));
    text_close(line);
}

void board_begun(const Work *work, const PoolRun *begun) {
    Text line = {0};
    const WorkRun *run = &work->runs[begun->run];
    text_printf(&line, "%-9s ", run->step_before > 0 ? "goes on" : "started");
    add_name(work, begun->run, &line);
    text_printf(&line, "  (%s)", begun->slot);
    say(&line);
}

static void add_outcome(const Work *work, int64_t run, const Verdict *verdict, Text *out) {
    const Follow *at = &work->runs[run].follow;
    text_printf(out, "  step %ld", at->step);
    if (work->forecasts[run].steps > 0) text_printf(out, "/%ld", work->forecasts[run].steps);
    if (isfinite(at->value)) text_printf(out, "  %s %.4f", at->metric, at->value);
    if (verdict->reason.size > 0) text_printf(out, "  %s", text_string(&verdict->reason));
}

void board_ended(const Work *work, int64_t run, const Verdict *verdict) {
    Text line = {0};
    text_printf(&line, "%-9s ", sweep_status_name(verdict->status));
    add_name(work, run, &line);
    add_outcome(work, run, verdict, &line);
    if (terminal_there() && sweep_status_is_failure(verdict->status)) { // it must not be missed
        board_wipe();
        console_note("%s", text_string(&line));
    }
    say(&line);
}

static void add_summary(const Work *work, Text *out) {
    char left[TEXT_NUMBER];
    const SweepRecord *best = sweep_best(&work->history);
    double seconds = seconds_left(work);
    standings_counts(&work->history, out);
    if (best) text_printf(out, "; best %.5g (%s)", sweep_result(&work->history, best), best->id);
    if (isfinite(seconds) && seconds > 0) text_printf(out, "; about %s left", duration(left, seconds));
}

// ---- the table ----

static void add_line(Text *frame, Text *line, int columns) {
    text_append(frame, text_string(line), text_fitting(text_string(line), columns));
    text_add(frame, "\033[K\n");
    text_close(line);
    lines_there++;
}

static void add_run(const Work *work, const PoolRun *at_work, Text *line) {
    char left[TEXT_NUMBER], loss[TEXT_NUMBER], metric[TEXT_NUMBER], step[48];
    const Follow *at = &work->runs[at_work->run].follow;
    snprintf(step, sizeof step, "%ld/%ld", at->step, work->forecasts[at_work->run].steps);
    text_printf(line, "  %s %15s %9s %10s %8s  %-8s  ", work->search->runs[at_work->run].id, step,
                value(loss, at->loss), value(metric, at->value), duration(left, run_seconds_left(work, at_work->run)),
                at_work->slot);
    standings_settings(work->runs[at_work->run].record, line);
}

void board_wipe(void) {
    if (lines_there > 0) fprintf(stderr, "\033[%dA\r\033[J", lines_there);
    lines_there = 0;
}

static void draw(Work *work) {
    Text frame = {0}, line = {0};
    int columns = terminal_columns(), rows = terminal_rows() - 1;
    if (lines_there > 0) text_printf(&frame, "\033[%dA\r", lines_there);
    lines_there = 0;
    text_escape(&line, work->search->name, strlen(work->search->name));
    text_add(&line, work->stopping ? ", stopping: " : ": ");
    add_summary(work, &line);
    add_line(&frame, &line, columns);
    if (rows > 1) {
        text_printf(&line, "  %-12s %15s %9s %10.10s %8s  %-8s", "run", "step", "loss", work->search->metric, "left",
                    "on");
        add_line(&frame, &line, columns);
    }
    for (int64_t i = 0; i < work->pool.count && lines_there < rows; i++) {
        if (lines_there >= rows - 1 && i + 1 < work->pool.count) {
            text_printf(&line, "  and %ld more", work->pool.count - i);
            add_line(&frame, &line, columns);
            break;
        }
        add_run(work, &work->pool.runs[i], &line);
        add_line(&frame, &line, columns);
    }
    text_add(&frame, "\033[J");
    fputs(text_string(&frame), stderr);
    fflush(stderr);
    text_close(&frame);
}

void board_tick(Work *work) {
    double now = clock_seconds();
    if (now - shown < (terminal_there() ? between_frames : between_lines)) return;
    bool first = shown == 0;
    shown = now;
    for (int64_t i = 0; i < work->pool.count; i++) {
        char dir[4096];
        work_run_dir(work, work->pool.runs[i].run, dir);
        follow_read(&work->runs[work->pool.runs[i].run].follow, dir);
    }
    if (terminal_there()) {
        draw(work);
    } else if (!first) {
        Text line = {0};
        add_summary(work, &line);
        say(&line);
    }
}

void board_end(Work *work) {
    Text text = {0};
    board_wipe();
    standings_print(&work->history, &text);
    text_add(&text, "\n");
    standings_counts(&work->history, &text);
    text_add(&text, "; ");
    text_add_shell(&text, work->search->dir);
    text_add(&text, "/summary.csv, report.html\n");
    text_print(stdout, "%s", text_string(&text));
    fflush(stdout);
    text_close(&text);
}
