#include "commands/telling.h"

#include <stdio.h>

#include "commands/estimate.h"
#include "commands/evaluation.h"
#include "commands/telemetry.h"
#include "data/checkpoint.h"
#include "data/metric.h"
#include "runtime/integers.h"
#include "runtime/json.h"

Telling tell_begin(Run *run) {
    Telling t = {.product_flops = run_gemm_rate(run->kernels, run->compute), .tokens_per_second = NAN};
    Text text = {0};
    Estimate estimate;
    if (run_leads(run) && run->state.step < run_last_step(run)) {
        estimate_run_at(run, t.product_flops, &estimate);
        estimate_print(&estimate, NULL, &text);
        console_note("time    %s", text_string(&text));
    }
    text_close(&text);
    return t;
}

// ---- steps ----

// Of times, as those add up to the time that is left: slow steps count in a mean of rates for next to nothing.
static void smooth(Telling *t, double seconds, double tokens) {
    enum { MEMORY = 20 }; // steps
    const double share = 1.0 / MEMORY;
    bool first = t->steps == 1; // it also chose and recorded
    if (!first) t->smoothing = (1 - share) * t->smoothing + share;
    t->step_seconds += (first || t->steps == 2 ? 1 : share / t->smoothing) * (seconds - t->step_seconds);
    t->tokens_per_second = tokens / t->step_seconds;
}

void tell_spent(Telling *t, Spent what, double seconds) {
    t->spent[what].last = seconds;
    t->spent[what].all += seconds;
    t->spent[what].times++;
}

// Multiples of `every` that are still to come up to step `end`.
static int64_t left(const Run *run, int64_t end, int64_t every) {
    return every > 0 ? end / every - run->state.step / every : 0;
}

// Of this process, with the evaluations, samples and checkpoints that are to come, as far as one was made. The last
// checkpoint is waited for; of the others what the last one held up.
static void look_ahead(const Run *run, const Telling *t, double saving, LiveLine *line) {
    const Config *c = &run->config;
    int64_t end = run_last_step(run);
    const struct {
        int64_t left;
        Spent what;
    } others[] = {{evaluations_left(run, end), SPENT_EVALUATING}, {left(run, end, c->sample.every), SPENT_SAMPLING}};
    int64_t steps = end - run->state.step, saves = left(run, end, c->checkpoint.every);
    double until_deadline = run->deadline > 0 ? fmax(0, run->deadline + saving - clock_seconds()) : INFINITY;
    line->stop_at = end < run->steps ? end : 0;
    if (t->steps < 2) return; // nothing is known
    line->seconds_left = (double)steps * t->step_seconds;
    for (int i = 0; i < 2; i++) {
        const Spending *spent = &t->spent[others[i].what];
        line->at_least = line->at_least || (others[i].left > 0 && spent->times == 0);
        line->seconds_left += (double)others[i].left * spent->last;
    }
    line->seconds_left += (double)saves * t->spent[SPENT_SAVING].last + saving;
    line->timed = until_deadline < line->seconds_left;
    if (line->timed) line->seconds_left = until_deadline, line->at_least = false;
    if (steps == 0 && line->seconds_left < 1) line->seconds_left = NAN; // it is as good as over
}

// Floating-point operations a second, of all ranks.
static double flops_of(const Run *run, const Telling *t) {
    return t->tokens_per_second * gpt_flops_per_token(&run->shape, run->config.train.sequence_length);
}

static void write_metrics(Run *run, const StepResult *result, const Telling *telling) {
    Text line = {0};
    JsonWriter w = {.out = &line};
    json_begin(&w, NULL, '{');
    json_integer(&w, "step", run->state.step);
    metric_json(&w, METRIC_TOKENS, (double)(run->state.step * run_step_tokens(run)));
    metric_json(&w, METRIC_LOSS, result->loss);
    metric_json(&w, METRIC_LR, result->lr);
    metric_json(&w, METRIC_GRAD_NORM, result->grad_norm);
    metric_json(&w, METRIC_SKIPPED, (double)run->state.skipped);
    metric_json(&w, METRIC_TOKENS_PER_SECOND, telling->tokens_per_second);
    metric_json(&w, METRIC_SECONDS, run->state.seconds);
    if (run->peak > 0) metric_json(&w, METRIC_MFU, flops_of(run, telling) / (run->peak * run->comm.size));
    telemetry_json(run->telemetry, &w);
    json_end(&w, '}');
    steps_write_metrics(run, &line);
}

void tell_step(Run *run, const StepResult *result, Telling *t, double saving, bool due) {
    t->steps++;
    tell_spent(t, SPENT_TRAINING, result->seconds);
    smooth(t, result->seconds, (double)run_step_tokens(run));
    if (due) write_metrics(run, result, t);
    LiveLine line = {.step = run->state.step, .steps = run->steps, .loss = result->loss, .lr = result->lr,
                     .grad_norm = result->grad_norm, .tokens_per_second = t->tokens_per_second,
                     .share = flops_of(run, t) / (t->product_flops * run->comm.size), .seconds_left = NAN,
                     .skipped = result->skip != SKIP_NONE, .done = NAN};
    look_ahead(run, t, saving, &line);
    console_step(&line, due);
}

void tell_sample(Run *run, Telling *telling) {
    Text text = {0};
    double began = clock_seconds();
    console_doing("sampling");
    run_show(run, ITERATE_SHOWN);
    uint64_t seed = (uint64_t)run->config.run.seed + (uint64_t)run->state.step;
    ranks_patient(run->ranks, true);
    if (run_leads(run)) run_sample(run, seed, &text);
    ranks_patient(run->ranks, false);
    run_show(run, ITERATE_Y);
    console_doing(NULL);
    tell_spent(telling, SPENT_SAMPLING, clock_seconds() - began);
    console_note("step %ld: sample\n%s", run->state.step, text_string(&text));
    text_close(&text);
}

// ---- the end ----

static void add_time(const Run *run, const Telling *t, Text *out) {
    static const char *const words[] = {"training", "evaluation", "checkpoints", "samples"};
    char number[TEXT_NUMBER];
    double all = clock_seconds() - run->begun, rest = all;
    text_printf(out, "spent   %s:", text_duration(number, all));
    for (int i = 0; i < SPENT_KINDS; i++) {
        rest -= t->spent[i].all;
        if (t->spent[i].times > 0) text_printf(out, " %s %.0f%%,", words[i], 100 * t->spent[i].all / all);
    }
    text_printf(out, " all else %.0f%%\n", 100 * fmax(0, rest) / all);
}

static void add_steps(const Run *run, const Telling *t, Text *out) {
    char a[TEXT_NUMBER], b[TEXT_NUMBER];
    double tokens = (double)(t->steps * run_step_tokens(run));
    text_printf(out, "steps   %ld of %s tokens, %s tokens/s in the mean\n", t->steps,
                text_count(a, (double)run_step_tokens(run)),
                text_count(b, tokens / fmax(1e-9, t->spent[SPENT_TRAINING].all)));
    const RunState *s = &run->state;
    const struct {
        const char *what;
        int64_t count;
    } rows[] = {{"skipped", s->skipped}, {"repeated", s->repeated_steps}, {"rollbacks", s->rollbacks}};
    const char *between = "        of the whole run ";
    for (int i = 0; i < 3; i++) {
        if (rows[i].count == 0) continue;
        text_printf(out, "%s%ld %s", between, rows[i].count, rows[i].what);
        between = ", ";
    }
    if (between[0] == ',') text_add(out, "\n");
}

static void add_loss(const Run *run, Text *out) {
    const Evaluated *v = &run->validation;
    if (v->step < 0) return;
    text_printf(out, "loss    %.4f in validation at step %ld", v->loss, v->step);
    if (v->best_step < 0 && run->state.best_val_loss < v->loss)
        text_printf(out, ", the best was %.4f before", run->state.best_val_loss);
    else if (v->best_step != v->step)
        text_printf(out, ", the best was %.4f at step %ld", run->state.best_val_loss, v->best_step);
    text_add(out, "\n");
}

static void add_summary(const Run *run, const Telling *t, int64_t saved, Text *out) {
    char path[4096];
    double here = (double)run->launch.local_size / run->launch.size; // of the ranks, and of the tokens
    double tokens = here * (double)(t->steps * run_step_tokens(run));
    add_steps(run, t, out);
    add_time(run, t, out);
    add_loss(run, out);
    double energy = telemetry_energy(run->telemetry);
    if (energy > 0)
        text_printf(out, "energy  %.*f Wh of the GPUs here, %.3g mJ a token\n", energy < 36000 ? 3 : 0, energy / 3600,
                    1e3 * energy / tokens);
    if (saved > 0 && checkpoint_at(run->dir, saved, path)) text_printf(out, "kept    %s\n", path);
}

static void add_stopped(const Run *run, Text *out) {
    if (run->state.step == 0) {
        text_add(out, "stopped before the first step; nothing was kept");
        return;
    }
    text_printf(out, "stopped at step %ld of %ld%s; continue with: train_gpt resume ", run->state.step, run->steps,
                run->state.step >= run->steps ? ", before its evaluation" : "");
    text_add_shell(out, run->dir);
    if (run->config.train.stop_at > 0 && run->state.step >= run->config.train.stop_at)
        text_add(out, " train.stop_at=0"); // with the same one nothing would be done
}

static void add_finished(const Run *run, Text *out) {
    text_printf(out, "finished: %ld steps in %.1f s; look at it with: train_gpt sample ", run->state.step,
                run->state.seconds);
    text_add_shell(out, run->dir);
    text_add(out, ", and with: train_gpt report ");
    text_add_shell(out, run->dir);
}

static void add_diverged(const Run *run, Text *out) {
    text_printf(out, "stopped: loss or gradient was not finite, or a spike, in %ld consecutive steps; continue from a "
                "checkpoint before them (%s/checkpoints) with a lower optim.lr, or start again with more "
                "optim.warmup_steps", run->state.bad_steps, run->dir);
}

void tell_end(const Run *run, const Telling *telling, int64_t saved, int exit_code) {
    Text text = {0};
    console_end();
    if (telling->steps > 0) add_summary(run, telling, saved, &text);
    if (exit_code == 0) add_finished(run, &text);
    if (exit_code == EXIT_STOPPED) add_stopped(run, &text);
    if (exit_code == EXIT_DIVERGED && run->state.bad_steps >= run->config.train.max_bad_steps) add_diverged(run, &text);
    if (text.size > 0) console_note("%s", text_string(&text));
    text_close(&text);
}
