#include "commands/evaluation.h"

#include "commands/console.h"
#include "commands/steps.h"
#include "commands/tasks.h"
#include "data/metric.h"

bool evaluation_due(const Run *run, int64_t step) {
    int64_t every = run->config.eval.every;
    return every > 0 && (step % every == 0 || step == run->steps);
}

bool evaluation_pending(const Run *run) { return !run->state.evaluated && evaluation_due(run, run->state.step); }

int64_t evaluations_left(const Run *run, int64_t end) {
    int64_t every = run->config.eval.every, step = run->state.step;
    if (every <= 0) return 0;
    if (end <= step) return evaluation_pending(run);
    bool last_apart = run->steps % every != 0 && end == run->steps;
    return evaluation_pending(run) + end / every - step / every + last_apart;
}

int evaluation_run(Run *run) {
    Errors errors = {0};
    TaskResults results;
    int exit_code = 0;
    console_doing("evaluating");
    run->kernels->range_begin("evaluation");
    run_show(run, ITERATE_SHOWN);
    run->state.evaluated = tasks_run(run, &results, &errors);
    run_show(run, ITERATE_Y);
    run->kernels->range_end();
    console_doing(NULL);
    if (!run_agree(run, errors.count == 0, &errors)) exit_code = errors.exit_code;
    console_errors(&errors);
    if (!run->state.evaluated) return exit_code;
    if (tasks_has(run, "val")) run->validation.loss = results.val.loss, run->validation.step = run->state.step;
    if (tasks_has(run, "val") && results.val.loss < run->state.best_val_loss) {
        run->state.best_val_loss = results.val.loss;
        run->validation.best_step = run->state.step;
        if (run->config.checkpoint.best) run->state.best_step = run->state.step;
    }
    Text line = {0}, note = {0};
    JsonWriter w = {.out = &line};
    json_begin(&w, NULL, '{');
    json_integer(&w, "step", run->state.step);
    metric_json(&w, METRIC_TOKENS, (double)(run->state.step * run_step_tokens(run)));
    tasks_json(&results, false, &w);
    metric_json(&w, METRIC_SECONDS, run->state.seconds);
    json_end(&w, '}');
    steps_write_metrics(run, &line);
    tasks_note(&results, &note);
    console_note("step %ld: %s", run->state.step, text_string(&note));
    text_close(&note);
    return 0;
}
