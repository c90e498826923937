#include "commands/evaluation.h"

#include <math.h>

#include "commands/console.h"
#include "commands/steps.h"
#include "runtime/json.h"

bool evaluation_due(const Run *run, int64_t step) {
    int64_t every = run->config.eval.every;
    return every > 0 && (step % every == 0 || step == run->steps);
}

bool evaluation_pending(const Run *run) { return !run->state.evaluated && evaluation_due(run, run->state.step); }

int evaluation_run(Run *run) {
    Errors errors = {0};
    Evaluation result;
    int exit_code = 0;
    run_show(run, ITERATE_SHOWN);
    run->state.evaluated = run_evaluate(run, &result, &errors);
    run_show(run, ITERATE_Y);
    if (!run_agree(run, errors.count == 0, &errors)) exit_code = errors.exit_code;
    console_errors(&errors);
    if (!run->state.evaluated) return exit_code;
    if (result.loss < run->state.best_val_loss) {
        run->state.best_val_loss = result.loss;
        if (run->config.checkpoint.best) run->state.best_step = run->state.step;
    }
    Text line = {0};
    JsonWriter w = {.out = &line};
    json_begin(&w, NULL, '{');
    json_integer(&w, "step", run->state.step);
    json_integer(&w, "tokens", run->state.step * run_step_tokens(run));
    json_number(&w, "val_loss", result.loss);
    if (!isnan(result.bits_per_byte)) json_number(&w, "val_bits_per_byte", result.bits_per_byte);
    json_number(&w, "seconds", run->state.seconds);
    json_end(&w, '}');
    steps_write_metrics(run, &line);
    console_note("step %ld: validation loss %.4f over %ld tokens%s", run->state.step, result.loss, result.tokens,
                 console_bits(&(ConsoleBits){{0}}, result.bits_per_byte));
    return 0;
}
