#include "commands/trouble.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "commands/console.h"
#include "runtime/json.h"
#include "runtime/memory.h"

enum {
    NAMED = 6,   // tensors of a message or a line
    REPEATS = 3, // passing faults that end a process
};

static const Trouble goes_on = {0}, stops = {.exit_code = EXIT_DIVERGED, .keep = true};

static int64_t attempted(const Run *run) { return run->state.step + 1; }

// ---- which tensors ----

static bool is_finite(const void *data, DType dtype, int64_t i) {
    if (dtype == DTYPE_F64) return isfinite(((const double *)data)[i]);
    return isfinite(dtype == DTYPE_F32 ? ((const float *)data)[i] : bf16_to_float(((const uint16_t *)data)[i]));
}

static int64_t count_not_finite(const Kernels *kernels, Tensor tensor) {
    int64_t count = 0;
    void *host = memory_grow(NULL, (int64_t)tensor_size_bytes(tensor), 1, "a look for NaN");
    kernels->download(host, tensor);
    for (int64_t i = 0; i < tensor_count(tensor); i++) count += !is_finite(host, tensor.dtype, i);
    free(host);
    return count;
}

// "h.3.qkv_w.q: 12 of 12288" of each tensor that holds such a number on this rank, a line each.
static void list_not_finite(const Run *run, void (*list)(const Optim *, NamedTensors *), Text *out) {
    NamedTensors tensors = {0};
    list(&run->optim, &tensors);
    for (int64_t i = 0; i < tensors.count; i++) {
        const NamedTensor *item = &tensors.items[i];
        int64_t count = count_not_finite(run->kernels, item->tensor), all = tensor_count(item->tensor);
        if (count == 0) continue;
        text_printf(out, "%s", item->name);
        if (item->whole > 0) text_printf(out, "[%ld:%ld]", item->begin, item->begin + all);
        text_printf(out, ": %ld of %ld\n", count, all);
    }
    named_tensors_close(&tensors);
}

// Those of all ranks, NAMED of them, and how many more there are. Known on rank 0, which tells them.
static TextList name_not_finite(Run *run, void (*list)(const Optim *, NamedTensors *)) {
    TextList names = {0};
    Text lines = {0};
    char text[64];
    int64_t more = 0;
    list_not_finite(run, list, &lines);
    run_collect(run, &lines);
    char *rest = NULL, *line = lines.size > 0 ? strtok_r(lines.data, "\n", &rest) : NULL;
    for (; line; line = strtok_r(NULL, "\n", &rest)) {
        if (names.count < NAMED) text_list_add(&names, line);
        else more++;
    }
    snprintf(text, sizeof text, "%ld more tensors", more);
    if (more > 0) text_list_add(&names, text);
    text_close(&lines);
    return names;
}

static void join(Text *out, const TextList *names) {
    for (int64_t i = 0; i < names->count; i++) text_printf(out, "%s%s", i ? ", " : "", names->items[i]);
}

// ---- the state ----

static void tell_damaged(Run *run) {
    Errors ignored = {0};
    Text text = {0};
    char checkpoint[4096] = "";
    TextList names = name_not_finite(run, optim_state);
    join(&text, &names);
    checkpoint_find(run->dir, checkpoint, &ignored);
    console_note("stopped: at step %ld the optimizer's state holds numbers that are not finite (%s) and is not saved; "
                 "%s%s; go on with a lower optim.lr or more optim.warmup_steps", run->state.step, text_string(&text),
                 *checkpoint ? "the last good checkpoint is " : "there is no checkpoint before it", checkpoint);
    errors_close(&ignored);
    text_list_close(&names);
    text_close(&text);
}

bool trouble_state_is_good(Run *run) {
    if (optim_is_finite(&run->optim)) return true;
    tell_damaged(run);
    return false;
}

// ---- metrics ----

static void begin_event(const Run *run, JsonWriter *w, int64_t step, const char *event) {
    json_begin(w, NULL, '{');
    json_integer(w, "step", step);
    json_integer(w, "tokens", step * run_step_tokens(run));
    json_string(w, "event", event);
}

static void write_event(Run *run, JsonWriter *w) {
    json_end(w, '}');
    steps_write_metrics(run, w->out);
}

// Of the step that is not counted yet.
static void begin_step_event(const Run *run, JsonWriter *w, const StepResult *result, const char *event) {
    begin_event(run, w, attempted(run), event);
    json_number(w, "loss", result->loss);
    json_number(w, "grad_norm", result->grad_norm);
}

// ---- not finite ----

static bool same_number(double a, double b) { return a == b || (isnan(a) && isnan(b)); }

static bool same_sums(const double a[STATUS_COUNT], const double b[STATUS_COUNT]) {
    return same_number(a[STATUS_LOSS_SUM], b[STATUS_LOSS_SUM]) &&
           same_number(a[STATUS_WEIGHT_SUM], b[STATUS_WEIGHT_SUM]) &&
           same_number(a[STATUS_GRAD_SQUARES], b[STATUS_GRAD_SQUARES]);
}

// As step_decide has it.
static bool is_usable(const Run *run, const double status[STATUS_COUNT]) {
    double norm = sqrt(status[STATUS_GRAD_SQUARES]), clip = run->optim.clip;
    double clipped = clip > 0 && norm > clip ? clip : norm;
    return isfinite(norm) && clipped <= GRAD_NORM_LIMIT && isfinite(status[STATUS_LOSS_SUM]);
}

// Loss and gradient of the step that was just skipped, from the weights that it saw.
static bool compute_again(Run *run, double status[STATUS_COUNT], Errors *errors) {
    Pipeline ignored = {0};
    StepScalars scalars;
    steps_seek(run, &ignored);
    if (!steps_gradient(run, &scalars, attempted(run), errors)) return false;
    optim_measure(&run->optim);
    run->kernels->download(status, run->gpt.status);
    return true;
}

static Trouble tell_arithmetic(Run *run, const StepResult *result) {
    Text text = {0}, line = {0};
    JsonWriter w = {.out = &line};
    TextList names = name_not_finite(run, optim_gradients);
    join(&text, &names);
    begin_step_event(run, &w, result, "not_finite");
    json_string(&w, "recomputed", "same");
    json_begin(&w, "tensors", '[');
    for (int64_t i = 0; i < names.count; i++) json_string(&w, NULL, names.items[i]);
    json_end(&w, ']');
    write_event(run, &w);
    console_warn("steps were skipped because the arithmetic leads to numbers that are not finite",
                 "step %ld: loss %g, gradient norm %g; computed again it is the same, so the arithmetic leads there%s%s"
                 "; the step is skipped", attempted(run), result->loss, result->grad_norm,
                 names.count ? ": gradients are not finite in " : "", text_string(&text));
    text_list_close(&names);
    text_close(&text);
    return goes_on;
}

// The step is done again as if nothing had happened, but not for ever.
static Trouble tell_passing_fault(Run *run, const StepResult *result) {
    run->state.repeated_steps++;
    run->repeated_here++;
    console_note("step %ld: loss %g, gradient norm %g; computed again from the same weights and data it is finite: the "
                 "HARDWARE made a mistake (look at the memory and the %s: ECC errors, heat, clocks); the step is done "
                 "again, nothing of the mistake is kept", attempted(run), result->loss, result->grad_norm,
                 run->kernels->is_host() ? "processor" : "GPU");
    if (run->repeated_here < REPEATS) return (Trouble){.again = true};
    console_note("stopped: that was the %dth time since this process began; continue on another machine", REPEATS);
    return stops;
}

static Trouble tell_faulty(const Run *run, const StepResult *result, const double status[STATUS_COUNT]) {
    console_note("stopped: step %ld is not finite, and computed again from the same weights and data it is neither "
                 "finite nor the same (sum of losses %g then %g, of squares of the gradient %g then %g): the HARDWARE "
                 "makes mistakes; the state before the step is whole; continue on another machine",
                 attempted(run), result->status[STATUS_LOSS_SUM], status[STATUS_LOSS_SUM],
                 result->status[STATUS_GRAD_SQUARES], status[STATUS_GRAD_SQUARES]);
    return stops;
}

static Trouble meet_not_finite(Run *run, const StepResult *result) {
    Errors errors = {0};
    double status[STATUS_COUNT];
    if (!trouble_state_is_good(run)) return (Trouble){.exit_code = EXIT_DIVERGED};
    if (!compute_again(run, status, &errors)) {
        Trouble trouble = {.exit_code = errors.exit_code, .keep = true};
        console_errors(&errors);
        return trouble;
    }
    if (same_sums(result->status, status)) return tell_arithmetic(run, result);
    return is_usable(run, status) ? tell_passing_fault(run, result) : tell_faulty(run, result, status);
}

// ---- spikes ----

static double mean_of(const double *ring, double accepted) {
    int64_t count = accepted < SPIKE_WINDOW ? (int64_t)accepted : SPIKE_WINDOW;
    double sum = 0;
    for (int64_t i = 0; i < count; i++) sum += ring[i];
    return sum / (double)count;
}

static void tell_spike(Run *run, const StepResult *result) {
    double window[WINDOW_SIZE];
    Text line = {0};
    JsonWriter w = {.out = &line};
    begin_step_event(run, &w, result, "spike");
    write_event(run, &w);
    run->kernels->download(window, run->optim.window);
    console_warn("spikes were met",
                 "step %ld is a spike: loss %.4f, gradient norm %.4g, where the steps before it have %.4f and %.4g in "
                 "the mean; it is skipped", attempted(run), result->loss, result->grad_norm,
                 mean_of(window + WINDOW_LOSSES, window[WINDOW_COUNT]),
                 mean_of(window + WINDOW_NORMS, window[WINDOW_COUNT]));
}

static bool is_whole(const Run *run, int64_t step, char path[4096]) {
    Errors errors = {0};
    if (!checkpoint_at(run->dir, step, path)) return false;
    bool whole = checkpoint_verify(path, &errors) && checkpoint_check_state(path, &errors);
    console_errors(&errors);
    return whole;
}

// The checkpoint that is wanted; where it is missing or damaged the newest regular one before it, or else the oldest
// behind it. Others came about by the hour: a run that is resumed would not have them.
static bool find_checkpoint(const Run *run, char path[4096]) {
    int64_t every = run->config.checkpoint.every, wanted = run_rollback_step(run, attempted(run));
    if (wanted == 0) return false;
    if (is_whole(run, wanted, path)) return true;
    for (int64_t step = (wanted - 1) / every * every; step > 0; step -= every)
        if (is_whole(run, step, path)) return true;
    for (int64_t step = (wanted / every + 1) * every; step < attempted(run); step += every)
        if (is_whole(run, step, path)) return true;
    return false;
}

// What is known now and the checkpoint does not know.
static void keep_known(RunState *state, const RunState *before, int64_t skip) {
    int64_t step = state->step;
    state->seconds = before->seconds;
    state->repeated_steps = before->repeated_steps;
    state->rollbacks = before->rollbacks;
    memcpy(state->skipped_data, before->skipped_data, sizeof state->skipped_data);
    for (int64_t i = 0; i < state->rollbacks; i++)
        if (state->skipped_data[i].step > step) state->skipped_data[i].step = step;
    state->skipped_data[state->rollbacks++] = (SkippedData){step, before->step + 1 - step + skip};
}

static bool go_back(Run *run, const char *checkpoint, Errors *errors) {
    RunState before = run->state;
    int64_t orphans;
    if (!run_load_back(run, checkpoint, errors)) return false;
    keep_known(&run->state, &before, run->config.train.rollback_skip);
    int64_t step = run->state.step;
    bool good = !run_leads(run) || (checkpoint_set_aside(run->dir, step, &orphans, errors) &&
                                    metrics_go_back(&run->metrics, run->dir, run->state.metrics_bytes, step, errors));
    if (good && run_leads(run)) tensorboard_go_back(&run->tensorboard, &run->metrics, step, errors);
    return run_agree(run, good, errors); // messages may be there all the same
}

static void tell_rollback(Run *run, int64_t spike, const char *checkpoint) {
    Text line = {0};
    JsonWriter w = {.out = &line};
    const SkippedData *data = &run->state.skipped_data[run->state.rollbacks - 1];
    begin_event(run, &w, run->state.step, "rollback");
    json_integer(&w, "from", spike);
    json_integer(&w, "skipped_data", data->steps);
    write_event(run, &w);
    console_note("rollback %ld of %ld: the run goes on from %s without the data of the next %ld steps; what came "
                 "behind it is kept as step_*.orphan-* and metrics.%ld.orphan*.jsonl", run->state.rollbacks,
                 run->config.train.max_rollbacks, checkpoint, data->steps, run->state.step);
}

static Trouble roll_back(Run *run) {
    Errors errors = {0};
    char checkpoint[4096];
    int64_t spike = attempted(run);
    if (run->state.rollbacks >= run->config.train.max_rollbacks) {
        console_note("stopped: %ld rollbacks did not help; continue with a larger train.max_rollbacks, a lower optim.lr"
                     " or train.on_spike=skip", run->state.rollbacks);
        return stops;
    }
    ranks_patient(run->ranks, true);
    if (!run_leads(run) || !find_checkpoint(run, checkpoint)) *checkpoint = 0;
    run_share(run, checkpoint);
    ranks_patient(run->ranks, false);
    if (!*checkpoint) {
        console_note("step %ld: there is no checkpoint of a multiple of checkpoint.every=%ld to roll back to", spike,
                     run->config.checkpoint.every);
        return goes_on;
    }
    if (!go_back(run, checkpoint, &errors)) {
        Trouble trouble = {.exit_code = errors.exit_code};
        console_errors(&errors);
        return trouble;
    }
    console_errors(&errors); // lines of metrics that are missing
    tell_rollback(run, spike, checkpoint);
    return (Trouble){.again = true};
}

Trouble trouble_meet(Run *run, const StepResult *result) {
    if (result->skip == SKIP_NOT_FINITE) return run->state.bad_steps == 0 ? meet_not_finite(run, result) : goes_on;
    tell_spike(run, result);
    return run->config.train.on_spike == ON_SPIKE_ROLLBACK ? roll_back(run) : goes_on;
}
