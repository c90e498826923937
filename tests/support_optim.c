#include "tests/support_optim.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kernels/checked.h"
#include "optim/routes.h"
#include "runtime/integers.h"
#include "runtime/philox.h"
#include "tests/reference/reference.h"
#include "tests/support.h"
#include "tests/support_model.h"

enum { THREADS = 2 };
static const double PADDING = 1e30; // of gradients, where no parameter lies

// ---- options ----

static void set_fallbacks(OptionRows rows, void *options, TextList *strings) {
    Text problem = {0};
    for (int i = 0; i < rows.count; i++)
        if (!option_set(&rows.rows[i], options, rows.rows[i].fallback, strings, &problem))
            fail_msg("%s: %s", rows.rows[i].name, text_string(&problem));
}

void optim_settings_open(OptimSettings *s) {
    *s = (OptimSettings){0};
    set_fallbacks(optim_option_rows, &s->options, &s->strings);
    for (int i = 0; i <= RECIPE_ROUTES; i++) set_fallbacks(hyper_option_rows, &s->hyper[i], &s->strings);
    for (int i = 0; i < RECIPE_ROUTES; i++) set_fallbacks(route_option_rows, &s->route[i], &s->strings);
}

void optim_settings_close(OptimSettings *s) {
    text_list_close(&s->options.groups);
    text_list_close(&s->strings);
}

// 1: taken; 0: not of these rows; -1: wrong.
static int set_one(OptionRows rows, void *options, const char *name, const char *value, TextList *strings,
                   Text *problem) {
    for (int i = 0; i < rows.count; i++)
        if (strcmp(rows.rows[i].name, name) == 0)
            return option_set(&rows.rows[i], options, value, strings, problem) ? 1 : -1;
    return 0;
}

bool optim_settings_set(OptimSettings *s, const char *key, const char *value, Text *problem) {
    static const char *const sections[] = {"optim.matrix.", "optim.other."};
    int section = 0, taken;
    for (int i = 0; i < RECIPE_ROUTES; i++)
        if (strncmp(key, sections[i], strlen(sections[i])) == 0) section = 1 + i;
    const char *name = section ? key + strlen(sections[section - 1]) : key + strlen("optim.");
    taken = section ? set_one(route_option_rows, &s->route[section - 1], name, value, &s->strings, problem)
                    : set_one(optim_option_rows, &s->options, name, value, &s->strings, problem);
    if (taken == 0) taken = set_one(hyper_option_rows, &s->hyper[section], name, value, &s->strings, problem);
    if (taken == 0) text_printf(problem, "there is no %s", key);
    return taken == 1;
}

void optim_settings_read(OptimSettings *s, const char *assignments) {
    char key[64], value[192];
    for (int used; sscanf(assignments, " %63[^=]=%191s%n", key, value, &used) == 2; assignments += used) {
        Text problem = {0};
        if (!optim_settings_set(s, key, value, &problem)) fail_msg("%s: %s", key, text_string(&problem));
    }
}

// ---- parameters ----

ParamList optim_params(const OptimParam *rows, int64_t count) {
    ParamList list = {.count = count};
    Param *items = test_take((size_t)count * sizeof *items);
    for (int64_t i = 0; i < count; i++) {
        Param *p = &items[i];
        snprintf(p->name, sizeof p->name, "%s", rows[i].name);
        p->kind = rows[i].kind;
        p->offset = list.elements + PARAM_ALIGNMENT * (i % 2); // some with a gap before them
        for (; p->part_count < PARAM_PARTS && rows[i].parts[p->part_count].rows > 0; p->part_count++) {
            p->part[p->part_count] = rows[i].parts[p->part_count];
            p->rows += p->part[p->part_count].rows;
        }
        bool vector = p->kind == PARAM_VECTOR;
        p->columns = vector ? p->rows : rows[i].columns;
        p->rows = vector ? 1 : p->rows;
        p->real_rows = p->rows;
        list.elements = p->offset + round_up(p->rows * p->columns, PARAM_ALIGNMENT);
    }
    list.items = items;
    return list;
}

ParamList optim_model(void) {
    static const OptimParam rows[] = {
        {"square", PARAM_MATRIX, 6, {{"", 0, 6}}},
        {"tall", PARAM_MATRIX, 5, {{"", 0, 12}}},
        {"wide", PARAM_MATRIX, 12, {{"", 0, 4}}},
        {"qkv", PARAM_MATRIX, 6, {{"q", 0, 6}, {"k", 6, 3}, {"v", 9, 3}}},
        {"mlp_in", PARAM_MATRIX, 6, {{"gate", 0, 4}, {"up", 4, 4}}},
        {"table", PARAM_TABLE, 6, {{"", 0, 7}}},
        {"vector", PARAM_VECTOR, 1, {{"", 0, 9}}},
    };
    return optim_params(rows, sizeof rows / sizeof rows[0]);
}

static int64_t count_elements(const ParamList *params) {
    int64_t elements = 0;
    for (int64_t i = 0; i < params->count; i++) elements += params->items[i].rows * params->items[i].columns;
    return elements;
}

int64_t optim_ranges(const ParamList *params, OptimRange *out, int64_t most) {
    int64_t count = 0, begin = 0;
    for (int64_t i = 0; i < params->count; i++) {
        const Param *p = &params->items[i];
        bool vector = p->kind == PARAM_VECTOR;
        for (int part = 0; part < p->part_count; part++) {
            if (count == most) fail_msg("more than %ld pieces", (long)most);
            OptimRange *r = &out[count++];
            *r = (OptimRange){.begin = begin, .rows = vector ? 1 : p->part[part].rows,
                              .columns = vector ? p->part[part].rows : p->columns, .kind = p->kind};
            const char *suffix = p->part[part].suffix;
            snprintf(r->name, sizeof r->name, "%s%s%s", p->name, *suffix ? "." : "", suffix);
            begin += r->rows * r->columns;
        }
    }
    return count;
}

double range_norm(const double *values, const OptimRange *range) {
    double sum = 0;
    for (int64_t i = range->begin; i < range->begin + range->rows * range->columns; i++) sum += values[i] * values[i];
    return sqrt(sum);
}

double range_distance(const double *a, const double *b, const OptimRange *range) {
    double sum = 0;
    for (int64_t i = range->begin; i < range->begin + range->rows * range->columns; i++)
        sum += (a[i] - b[i]) * (a[i] - b[i]);
    return sqrt(sum);
}

// ---- runs ----

static DType dtype_of(const Kernels *kernels) { return kernels == &reference_kernels ? DTYPE_F64 : DTYPE_F32; }

static DType wide_of(const OptimRun *run) { return run->compute == DTYPE_F64 ? DTYPE_F64 : DTYPE_F32; }

static bool plan(OptimRun *run, const OptimSettings *settings, int64_t steps, Errors *errors) {
    OptimSetup setup = {.options = &settings->options, .steps = steps, .step_tokens = 1, .wide = wide_of(run),
                        .comm = settings->comm, .sharded = settings->sharded};
    for (int i = 0; i <= RECIPE_ROUTES; i++) setup.hyper[i] = &settings->hyper[i];
    for (int i = 0; i < RECIPE_ROUTES; i++) setup.route[i] = &settings->route[i];
    return optim_plan(&run->optim, run->kernels, &run->params, run->compute, &setup, errors);
}

bool optim_run_plan(OptimRun *run, const Kernels *kernels, const ParamList *params, const OptimSettings *settings,
                    int64_t steps, Errors *errors) {
    *run = (OptimRun){.kernels = checked_kernels(kernels), .compute = dtype_of(kernels), .params = *params,
                      .elements = count_elements(params)};
    return plan(run, settings, steps, errors);
}

static size_t memory_bytes(const OptimRun *run) {
    return (size_t)run->params.elements * (dtype_bytes(wide_of(run)) + dtype_bytes(run->compute)) +
           STATUS_COUNT * sizeof(double) + sizeof(StepScalars);
}

void optim_run_open_in(OptimRun *run, const Kernels *kernels, DType compute, const ParamList *params,
                       const OptimSettings *settings, int64_t steps) {
    Errors errors = {0};
    *run = (OptimRun){.kernels = checked_kernels(kernels), .compute = compute, .params = *params,
                      .elements = count_elements(params)};
    checked_want_finite(true);
    if (!run->kernels->open(THREADS, 0, &errors) || !plan(run, settings, steps, &errors))
        fail_msg("%s", text_string(&errors.text));
    char *next = run->memory = run->kernels->take_memory(memory_bytes(run));
    run->scalars = (StepScalars *)next, next += sizeof(StepScalars);
    run->status = tensor_1d(next, DTYPE_F64, STATUS_COUNT), next += STATUS_COUNT * sizeof(double);
    run->grads = tensor_1d(next, wide_of(run), params->elements), next += tensor_size_bytes(run->grads);
    run->weights = tensor_1d(next, compute, params->elements);
    OptimTarget target = {*params, run->weights, run->grads, run->status, run->scalars};
    if (!optim_open(&run->optim, &target, &errors)) fail_msg("%s", text_string(&errors.text));
}

void optim_run_open(OptimRun *run, const Kernels *kernels, const ParamList *params, const OptimSettings *settings,
                    int64_t steps) {
    optim_run_open_in(run, kernels, dtype_of(kernels), params, settings, steps);
}

void optim_run_close(OptimRun *run) {
    optim_close(&run->optim);
    if (run->memory) run->kernels->return_memory(run->memory, memory_bytes(run));
    *run = (OptimRun){0};
}

// Flat numbers to where the parameters lie, `padding` between them.
static void upload(const OptimRun *run, Tensor tensor, const double *flat, double padding) {
    double *all = test_take((size_t)run->params.elements * sizeof *all);
    for (int64_t i = 0; i < run->params.elements; i++) all[i] = padding;
    for (int64_t i = 0; i < run->params.count; i++) {
        const Param *p = &run->params.items[i];
        memcpy(all + p->offset, flat, (size_t)(p->rows * p->columns) * sizeof *flat);
        flat += p->rows * p->columns;
    }
    tensor_upload(run->kernels, tensor, all);
    free(all);
}

static double *download(const OptimRun *run, Tensor tensor) {
    double *all = tensor_download(run->kernels, tensor), *flat = test_take((size_t)run->elements * sizeof *flat);
    int64_t next = 0;
    for (int64_t i = 0; i < run->params.count; i++) {
        const Param *p = &run->params.items[i];
        memcpy(flat + next, all + p->offset, (size_t)(p->rows * p->columns) * sizeof *flat);
        next += p->rows * p->columns;
    }
    free(all);
    return flat;
}

void optim_run_begin(OptimRun *run, const double *start) {
    upload(run, run->grads, start, 0);
    optim_begin(&run->optim, run->grads);
}

StepScalars optim_run_step(OptimRun *run, const double *gradients) {
    StepScalars scalars = {.inverse_weight = 1};
    const double status[STATUS_COUNT] = {[STATUS_LOSS_SUM] = run->bad_loss ? NAN : 1, [STATUS_WEIGHT_SUM] = 1};
    optim_scalars(&run->optim, ++run->t, &scalars);
    scalars.seen -= run->ahead;
    run->kernels->upload(tensor_1d(run->scalars, DTYPE_I64, sizeof scalars / sizeof(int64_t)), &scalars);
    run->kernels->upload(run->status, status);
    upload(run, run->grads, gradients, PADDING);
    for (int unit = 0; unit < run->optim.units && run->optim.comm; unit++)
        comm_wait(run->optim.comm, optim_reduce(&run->optim, unit));
    optim_step(&run->optim);
    optim_gather_all(&run->optim);
    run->bad_loss = run->ahead = false;
    return scalars;
}

double *optim_run_weights(const OptimRun *run) { return download(run, run->weights); }

double *optim_run_load(OptimRun *run, Iterate iterate) {
    optim_load_weights(&run->optim, iterate, run->t);
    return optim_run_weights(run);
}

static double *normal(int64_t count, uint32_t step) {
    enum { SEED = 5 };
    float *narrow = test_take((size_t)count * sizeof *narrow);
    double *values = test_take((size_t)count * sizeof *values);
    philox_normal(narrow, count, 1, SEED, STREAM_TEST, step, 0);
    for (int64_t i = 0; i < count; i++) values[i] = (double)narrow[i];
    free(narrow);
    return values;
}

double *optim_run_start(const OptimRun *run) { return normal(run->elements, 0); }

double *optim_run_gradients(const OptimRun *run) {
    const double curvature = 0.25, noise = 0.5;
    double *target = normal(run->elements, 1), *random = normal(run->elements, (uint32_t)run->t + 2);
    double *weights = optim_run_weights(run);
    for (int64_t i = 0; i < run->elements; i++)
        weights[i] = (double)(float)(curvature * (weights[i] - target[i]) + noise * random[i]);
    free(target);
    free(random);
    return weights;
}
