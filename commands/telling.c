#include "commands/telling.h"

#include <stdio.h>

#include "runtime/json.h"

void tell_step(Run *run, const StepResult *result, const Console *console) {
    Text line = {0};
    JsonWriter w = {.out = &line};
    json_begin(&w, NULL, '{');
    json_integer(&w, "step", run->state.step);
    json_integer(&w, "tokens", run->state.step * run_step_tokens(run));
    json_number(&w, "loss", result->loss);
    json_number(&w, "lr", result->lr);
    json_number(&w, "grad_norm", result->grad_norm);
    json_integer(&w, "skipped", run->state.skipped);
    json_number(&w, "tokens_per_second", console->tokens_per_second);
    json_number(&w, "seconds", run->state.seconds);
    json_end(&w, '}');
    steps_write_metrics(run, &line);
    console_step(console, &(ConsoleStep){run->state.step, run->steps, result->loss, result->lr, result->grad_norm,
                                         result->skip != SKIP_NONE});
}

void tell_sample(Run *run) {
    Text text = {0};
    run_show(run, ITERATE_SHOWN);
    uint64_t seed = (uint64_t)run->config.run.seed + (uint64_t)run->state.step;
    ranks_patient(run->ranks, true);
    if (run_leads(run)) run_sample(run, seed, &text);
    ranks_patient(run->ranks, false);
    run_show(run, ITERATE_Y);
    console_note("step %ld: sample\n%s", run->state.step, text_string(&text));
    text_close(&text);
}

int tell_stopped(const Run *run) {
    Text command = {0};
    text_add(&command, "train_gpt resume ");
    text_add_shell(&command, run->dir);
    if (run->config.train.stop_at > 0 && run->state.step >= run->config.train.stop_at)
        text_add(&command, " train.stop_at=0"); // with the same one nothing would be done
    if (run->state.step > 0)
        console_note("stopped at step %ld of %ld%s; continue with: %s", run->state.step, run->steps,
                     run->state.step >= run->steps ? ", before its evaluation" : "", text_string(&command));
    else
        console_note("stopped before the first step; nothing was kept");
    text_close(&command);
    return EXIT_STOPPED;
}

void tell_finished(const Run *run) {
    Text dir = {0};
    text_add_shell(&dir, run->dir);
    console_note("finished: %ld steps in %.1f s; look at it with: train_gpt sample %s", run->state.step,
                 run->state.seconds, text_string(&dir));
    text_close(&dir);
}

int tell_diverged(const Run *run) {
    console_note("stopped: loss or gradient was not finite, or a spike, in %ld consecutive steps; continue from a "
                 "checkpoint before them (%s/checkpoints) with a lower optim.lr, or start again with more "
                 "optim.warmup_steps", run->state.bad_steps, run->dir);
    return EXIT_DIVERGED;
}
