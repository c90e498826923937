#include "commands/estimate.h"

#include <string.h>
#include <time.h>

#include "commands/console.h"
#include "commands/evaluation.h"
#include "commands/tasks.h"
#include "runtime/integers.h"

// ---- what is estimated ----

static void name_device(const Run *run, char out[MACHINE_NAME]) {
    Text text = {0};
    if (run->kernels->is_host()) {
        machine_processor(out);
        return;
    }
    run->kernels->describe(&text);
    snprintf(out, MACHINE_NAME, "%.*s", (int)strcspn(text_string(&text), ",\n"), text_string(&text));
    text_close(&text);
}

void estimate_describe(const Run *run, Measurement *out) {
    const TrainOptions *t = &run->config.train;
    const Route *routes = run->optim.routes;
    const char *matrix = routes[RECIPE_MATRIX].recipe->name, *other = routes[RECIPE_OTHER].recipe->name;
    bool both = strcmp(matrix, other) == 0;
    int64_t threads = run_threads(run);
    *out = (Measurement){.parameters = gpt_parameter_count(&run->shape),
                         .sequence_length = t->sequence_length,
                         .micro_batch = t->micro_batch,
                         .micro_steps = run->micro_steps,
                         .recompute = t->recompute,
                         .flops_per_token = gpt_flops_per_token(&run->shape, t->sequence_length)};
    name_device(run, out->device);
    snprintf(out->precision, sizeof out->precision, "%s", dtype_name(run->compute));
    snprintf(out->optimizer, sizeof out->optimizer, "%s%s%s", matrix, both ? "" : "+", both ? "" : other);
    if (run->kernels->is_host()) out->threads = threads > 0 ? threads : machine_threads();
}

// Of a forward and a backward pass, in forward passes.
static double passes(const Measurement *m) { return m->recompute >= 2 ? 4 : 3; }

static double micro_batch_flops(const Measurement *m) {
    return m->flops_per_token * (double)(m->micro_batch * m->sequence_length) * passes(m) / 3;
}

// ---- which measurement ----

static double apart(double a, double b) { return fabs(log(a / b)); }

// The less the better. Another device or precision tells nothing, and a network of quite another size less than the
// rule: small ones spend their time between products.
static double distance(const Measurement *a, const Measurement *b) {
    const double most_model = log(20), most_work = log(64);
    double model = apart(a->flops_per_token, b->flops_per_token);
    double work = apart(micro_batch_flops(a), micro_batch_flops(b));
    if (strcmp(a->device, b->device) != 0 || strcmp(a->precision, b->precision) != 0) return INFINITY;
    if (model > most_model || work > most_work) return INFINITY;
    double d = model + 0.5 * work;
    if (a->threads > 0 && b->threads > 0) d += apart((double)a->threads, (double)b->threads);
    return d + (strcmp(a->optimizer, b->optimizer) != 0 ? 0.5 : 0);
}

static const Measurement *nearest(const Measurements *all, const Measurement *to) {
    const Measurement *best = NULL;
    for (int i = 0; i < all->count; i++)
        if (isfinite(distance(&all->items[i], to)) &&
            (!best || distance(&all->items[i], to) < distance(best, to)))
            best = &all->items[i];
    return best;
}

// ---- its times ----

typedef struct {
    double micro_batch, optimizer; // seconds
} Times;

static double product_rate(const Run *run, Estimate *e) {
    if (e->product_flops == 0) e->product_flops = run_gemm_rate(run->kernels, run->compute);
    return e->product_flops;
}

static Times by_rule(const Run *run, const Measurement *planned, Estimate *e) {
    return (Times){micro_batch_flops(planned) / (EXPECTED_SHARE * product_rate(run, e)), 0};
}

// Products go with FLOPs, updates with parameters, and all of it with what so many threads multiply.
static Times by_scale(const Run *run, const Measurement *planned, Estimate *e) {
    const Measurement *from = &e->from;
    double speed = planned->threads == from->threads ? 1 : product_rate(run, e) / from->product_flops;
    return (Times){from->micro_batch_seconds * micro_batch_flops(planned) / micro_batch_flops(from) / speed,
                   from->optimizer_seconds * (double)planned->parameters / (double)from->parameters / speed};
}

// Ranks of one machine that share what they compute with take longer.
static double crowd(const Run *run, const Measurement *planned) {
    int64_t ranks = run->launch.local_size, devices = run->kernels->device_count();
    double share = run->kernels->is_host() ? (double)(ranks * planned->threads) / (double)machine_threads()
                                           : (double)ranks / (double)(devices > 0 ? devices : 1);
    return fmax(1, share);
}

static int64_t evaluation_sequences(const Run *run) {
    int64_t length = run->config.train.sequence_length, count = 0;
    if (run->val) {
        int64_t windows = shards_windows(run->val, length), wanted = divide_up(run->config.eval.tokens, length);
        count += windows < wanted ? windows : wanted;
    }
    for (int style = 0; style < HELLASWAG_STYLES && tasks_has(run, "hellaswag"); style++)
        if (run->hellaswag.rows[style]) count += run->hellaswag.examples * HELLASWAG_ENDINGS;
    return count;
}

static void read_measurements(Measurements *out) {
    static bool told;
    Errors errors = {0};
    if (!measurements_read(out, &errors) && !told) {
        told = true;
        console_errors(&errors);
    }
    errors_close(&errors);
}

void estimate_run_at(const Run *run, double product_flops, Estimate *e) {
    static Measurements all;
    Measurement planned;
    *e = (Estimate){.product_flops = product_flops};
    estimate_describe(run, &planned);
    read_measurements(&all);
    const Measurement *from = nearest(&all, &planned);
    if (from) e->from = *from;
    if (from) e->how = measurement_same_kind(from, &planned) ? ESTIMATE_MEASURED : ESTIMATE_SCALED;
    Times times = from ? by_scale(run, &planned, e) : by_rule(run, &planned, e);
    double slower = crowd(run, &planned), optimizer = times.optimizer / (run_is_sharded(run) ? run->comm.size : 1);
    e->step_seconds = slower * ((double)run->micro_steps * times.micro_batch + optimizer);
    int64_t micro_batches = divide_up(evaluation_sequences(run), run->comm.size * planned.micro_batch);
    double evaluation = slower * times.micro_batch / passes(&planned) * (double)micro_batches;
    int64_t step = run->state.step, last = run_last_step(run);
    e->training_seconds = e->step_seconds * (double)(run->steps - step);
    e->evaluation_seconds = evaluation * (double)evaluations_left(run, run->steps);
    e->stop_seconds = last == run->steps ? NAN : e->step_seconds * fmax(0, (double)(last - step)) +
                                                 evaluation * (double)evaluations_left(run, last);
    e->last_step = last;
    e->max_seconds = run->config.train.max_seconds;
    e->save_seconds = 2 * run_first_save_seconds(planned.parameters);
}

void estimate_run(const Run *run, Estimate *out) { estimate_run_at(run, 0, out); }

// ---- what is told ----

const char *estimate_how(const Estimate *estimate) {
    static const char *const words[] = {"rule", "scaled", "measured"};
    return words[estimate->how];
}

static void print_origin(const Measurement *from, const char *date, Text *out) {
    char number[TEXT_NUMBER];
    text_printf(out, ": by FLOPs from what bench measured of %s parameters with %s",
                text_count(number, (double)from->parameters), from->optimizer);
    if (from->threads > 0) text_printf(out, " on %ld thread%s", from->threads, from->threads == 1 ? "" : "s");
    text_printf(out, " here on %s", date);
}

void estimate_date(const Measurement *measurement, char out[16]) {
    struct tm when;
    time_t seconds = (time_t)measurement->time;
    if (!gmtime_r(&seconds, &when) || strftime(out, 16, "%Y-%m-%d", &when) == 0) strcpy(out, "?");
}

static void print_stop(const Estimate *e, double all, Text *out) {
    char number[TEXT_NUMBER], kept[TEXT_NUMBER];
    bool stops = !isnan(e->stop_seconds);
    double here = stops ? e->stop_seconds : all, useful = e->max_seconds - e->save_seconds;
    double resumes = ceil(here / useful) - 1;
    bool ends = here > 0 && e->max_seconds > 0 && useful < here;
    if (ends && useful < e->step_seconds)
        text_printf(out, "\n        train.max_seconds has no time for a step: it takes about %s, the checkpoint %s",
                    text_duration(number, e->step_seconds), text_duration(kept, e->save_seconds));
    else if (ends)
        text_printf(out, "\n        train.max_seconds ends it after %s: about %.0f resume%s to step %ld",
                    text_duration(number, e->max_seconds), resumes, resumes == 1 ? "" : "s", e->last_step);
    else if (stops && here > 0)
        text_printf(out, "\n        train.stop_at ends it at step %ld, after about %s", e->last_step,
                    text_duration(number, here));
}

void estimate_print(const Estimate *e, const char *command, Text *out) {
    char number[TEXT_NUMBER], date[16];
    double all = e->training_seconds + e->evaluation_seconds;
    if (isnan(all)) {
        text_add(out, "not known: there is no memory to measure a product in");
        return;
    }
    estimate_date(&e->from, date);
    text_printf(out, "about %s", text_duration(number, all));
    if (e->evaluation_seconds > 0) text_printf(out, ", %.0f%% of it evaluation", 100 * e->evaluation_seconds / all);
    if (e->how == ESTIMATE_MEASURED)
        text_printf(out, ": bench measured these steps here on %s", date);
    else if (e->how == ESTIMATE_SCALED)
        print_origin(&e->from, date, out);
    else
        text_printf(out, ": a rule, %.0f%% of this machine's %.0f GFLOP/s", 100 * EXPECTED_SHARE,
                    e->product_flops * 1e-9);
    print_stop(e, all, out);
    if (e->how != ESTIMATE_MEASURED && command) text_printf(out, "\n        measure it: train_gpt bench%s", command);
}
