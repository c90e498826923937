#include "commands/steps.h"

#include <string.h>

#include "commands/console.h"
#include "runtime/fault.h"

void steps_seek(Run *run, Pipeline *pipeline) {
    pipeline->queued = run->state.step;
    loader_seek(run->loader, run_data_step(run, run->state.step));
    run_show(run, ITERATE_Y);
    run->kernels->fill_zero(tensor_slice(run->optim.window, 0, WINDOW_BAD, 1)); // the host has seen it
}

// A number for tests to go bad by.
static void plant(Run *run, int64_t step, int64_t micro) {
    int64_t element;
    double value;
    if (!run_leads(run) || !fault_plant(run_data_step(run, step - 1) + 1, micro, &element, &value)) return;
    float number = (float)value;
    Tensor grads = run->gpt.grads;
    run->kernels->upload(tensor_slice(grads, 0, element % tensor_count(grads), 1), &number);
}

bool steps_gradient(Run *run, StepScalars *scalars, int64_t step, Errors *errors) {
    run_begin_step(run, scalars, step); // what changes from step to step
    for (int64_t micro = 0; micro < run->micro_steps; micro++) {
        const Batch *batch = loader_next(run->loader, errors); // a pure function of (seed, step)
        if (!batch && run->ranks) errors_exit_if_any(errors);
        if (!batch) return false;
        plant(run, step, micro);
        run_micro_step(run, batch, micro); // forward and backward
    }
    return true;
}

bool steps_queue(Run *run, Pipeline *pipeline, Errors *errors) {
    StepScalars scalars;
    if (pipeline->queued == run->state.step) pipeline->begun = clock_seconds();
    run->kernels->range_begin("step");
    bool good = steps_gradient(run, &scalars, pipeline->queued + 1, errors);
    if (good) run_end_step(run); // norm, clip, skip decision, update
    run->kernels->range_end();
    if (!good) return false;
    pipeline->lr[pipeline->queued++ % STATUS_SLOTS] = scalars.recipe[RECIPE_MATRIX].eta;
    return true;
}

StepResult steps_wait(Run *run, Pipeline *pipeline) {
    StepResult result = {.lr = pipeline->lr[run->state.step % STATUS_SLOTS]};
    ranks_at(run->ranks, "end of step %ld", run->state.step + 1); // what a recording sends tells nothing by itself
    memcpy(result.status, run_wait_step(run), sizeof result.status);
    double now = clock_seconds();
    result.loss = result.status[STATUS_LOSS_SUM] / result.status[STATUS_WEIGHT_SUM];
    result.grad_norm = result.status[STATUS_GRAD_NORM];
    result.skip = (Skip)result.status[STATUS_SKIP];
    result.seconds = now - pipeline->begun;
    pipeline->begun = now;
    REQUIRE(result.skip != SKIP_HELD, "step %ld is held behind none", run->state.step + 1);
    for (; result.skip != SKIP_NONE && pipeline->queued > run->state.step + 1; pipeline->queued--)
        REQUIRE(run_wait_step(run)[STATUS_SKIP] == SKIP_HELD, "step %ld went on behind a bad one", pipeline->queued);
    return result;
}

void steps_count(Run *run, const StepResult *result) {
    RunState *state = &run->state;
    bool skipped = result->skip != SKIP_NONE;
    state->step++;
    state->evaluated = false;
    state->seconds += result->seconds;
    state->skipped += skipped;
    state->bad_steps = skipped ? state->bad_steps + 1 : 0;
}

void steps_write_metrics(Run *run, Text *line) {
    Errors errors = {0};
    if (run_leads(run)) {
        metrics_write(&run->metrics, text_string(line), &errors);
        tensorboard_follow(&run->tensorboard, &run->metrics, text_string(line), &errors);
    }
    console_errors(&errors);
    text_close(line);
}
