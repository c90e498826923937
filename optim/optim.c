#include "optim/optim.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

// ---- recipes ----

static const Recipe recipes[] = {
    {.name = "adamw",
     .formula = "m = b1 m + (1-b1) g; v = b2 v + (1-b2) g^2; z -= lr (m/c1 / (sqrt(v/c2) + eps) + decay z)",
     .slots = {"m", "v"},
     .lr = 6e-4, .weight_decay = 0.1, .beta1 = 0.9, .beta2 = 0.95, .epsilon = 1e-8,
     .origin = "Loshchilov and Hutter 2019; settings of Brown et al. 2020 for 125M parameters"},
};
enum { RECIPE_COUNT = sizeof recipes / sizeof recipes[0] };

const Recipe *recipe_find(const char *name, Errors *errors) {
    const char *names[RECIPE_COUNT];
    for (int i = 0; i < RECIPE_COUNT; i++) {
        names[i] = recipes[i].name;
        if (strcmp(name, names[i]) == 0) return &recipes[i];
    }
    const char *nearest = text_nearest(name, names, RECIPE_COUNT);
    errors_add(errors, EXIT_USAGE, "optim.name: there is no \"%s\"; %s \"%s\"; `train_gpt help optim` lists them", name,
               nearest ? "did you mean" : "try", nearest ? nearest : recipes[0].name);
    return NULL;
}

void recipes_print(Text *out) {
    for (int i = 0; i < RECIPE_COUNT; i++) {
        const Recipe *r = &recipes[i];
        text_printf(out, "  %s: %s\n", r->name, r->formula);
        text_printf(out, "    lr %g, weight_decay %g, beta1 %g, beta2 %g, epsilon %g (%s)\n", r->lr, r->weight_decay,
                    r->beta1, r->beta2, r->epsilon, r->origin);
    }
}

// ---- options ----

// The most particular section that sets a value wins; the recipe's default comes last.
static double choose(const OptimSetup *setup, int route, size_t field, double fallback) {
    for (int section = 1 + route; section >= 0; section -= 1 + route) { // optim.matrix or optim.other, then optim
        double value = *(const double *)((const char *)setup->hyper[section] + field);
        if (!isnan(value)) return value;
    }
    return fallback;
}

static RecipeScalars choose_hyper(const Recipe *r, const OptimSetup *setup, int route) {
    return (RecipeScalars){
        .eta = choose(setup, route, offsetof(HyperOptions, lr), r->lr),
        .decay = choose(setup, route, offsetof(HyperOptions, weight_decay), r->weight_decay),
        .beta1 = choose(setup, route, offsetof(HyperOptions, beta1), r->beta1),
        .beta2 = choose(setup, route, offsetof(HyperOptions, beta2), r->beta2),
        .epsilon = choose(setup, route, offsetof(HyperOptions, epsilon), r->epsilon),
    };
}

static Schedule choose_schedule(const OptimOptions *o, int64_t steps) {
    int64_t warmup = steps / 50 < 2000 ? steps / 50 : 2000;
    return (Schedule){.kind = o->schedule == OPTION_AUTO ? SCHEDULE_COSINE : (ScheduleKind)o->schedule,
                      .warmup = o->warmup_steps == OPTION_AUTO ? warmup : o->warmup_steps,
                      .steps = steps,
                      .final = o->final_lr,
                      .decay_fraction = o->decay_fraction};
}

// ---- memory ----

static void place(Optim *optim, DType wide, DType compute) {
    Tensor flat = tensor_1d(NULL, wide, optim->params.elements);
    if (wide != compute) optim->z = arena_tensor(&optim->arena, "z", flat);
    for (int i = 0; i < OPTIM_SLOTS; i++)
        if (optim->recipe->slots[i]) optim->slots[i] = arena_tensor(&optim->arena, optim->recipe->slots[i], flat);
    optim->segments.count = optim->params.count;
    optim->segments.items = arena_take(&optim->arena, "segments", (size_t)optim->params.count * sizeof(Segment));
}

bool optim_plan(Optim *optim, const Kernels *kernels, const ParamList *params, DType compute, const OptimSetup *setup,
                Errors *errors) {
    *optim = (Optim){.kernels = kernels, .params = *params, .clip = setup->options->clip,
                     .schedule = choose_schedule(setup->options, setup->steps), .arena = {.name = "optimizer state"}};
    optim->recipe = recipe_find(setup->options->name, errors);
    if (!optim->recipe) return false;
    for (int route = 0; route < RECIPE_ROUTES; route++) optim->hyper[route] = choose_hyper(optim->recipe, setup, route);
    optim->z = tensor_1d(NULL, setup->wide, params->elements);
    place(optim, setup->wide, compute);
    return true;
}

// Matrices go one route, everything else the other; vectors are not decayed.
static Segment segment_of(const Param *p) {
    return (Segment){.offset = p->offset,
                     .count = p->rows * p->columns,
                     .route = p->kind == PARAM_MATRIX ? RECIPE_MATRIX : RECIPE_OTHER,
                     .lr_scale = 1,
                     .decay_scale = p->kind == PARAM_VECTOR ? 0 : 1};
}

static void upload_segments(Optim *optim) {
    size_t bytes = (size_t)optim->params.count * sizeof(Segment);
    Segment *host = malloc(bytes);
    if (!host) DIE(EXIT_INTERNAL, "out of memory: %ld segments", optim->params.count);
    for (int64_t i = 0; i < optim->params.count; i++) host[i] = segment_of(&optim->params.items[i]);
    Tensor items = tensor_1d((void *)optim->segments.items, DTYPE_I64, (int64_t)(bytes / sizeof(int64_t)));
    optim->kernels->upload(items, host);
    free(host);
}

bool optim_open(Optim *optim, const OptimTarget *target, Errors *errors) {
    DType wide = optim->z.dtype;
    optim->weights = target->weights;
    optim->grads = target->grads;
    optim->status = target->status;
    optim->scalars = target->scalars;
    optim->memory = optim->kernels->take_memory(optim->arena.used);
    if (!optim->memory) {
        char number[TEXT_NUMBER];
        return errors_add(errors, EXIT_USAGE, "not enough memory on %s: the optimizer's state needs %s",
                          optim->kernels->name, text_bytes(number, (double)optim->arena.used));
    }
    arena_begin_placing(&optim->arena, optim->memory);
    place(optim, wide, optim->weights.dtype);
    if (wide == optim->weights.dtype) optim->z = optim->weights;
    upload_segments(optim);
    return true;
}

void optim_close(Optim *optim) {
    if (optim->memory) optim->kernels->return_memory(optim->memory, optim->arena.capacity);
    arena_close(&optim->arena);
    *optim = (Optim){0};
}

// ---- steps ----

void optim_scalars(const Optim *optim, int64_t t, StepScalars *scalars) {
    double factor = schedule_factor(&optim->schedule, t);
    scalars->t = t;
    scalars->clip = optim->clip;
    for (int route = 0; route < RECIPE_ROUTES; route++) {
        RecipeScalars r = optim->hyper[route];
        r.eta *= factor;
        r.correction1 = 1 - pow(r.beta1, (double)t);
        r.correction2 = 1 - pow(r.beta2, (double)t);
        scalars->recipe[route] = r;
    }
}

void optim_step(Optim *optim) {
    const Kernels *k = optim->kernels;
    k->sum_squares(tensor_slice(optim->status, 0, STATUS_GRAD_SQUARES, 1), optim->grads, optim->segments);
    k->step_decide(optim->status, optim->scalars);
    k->adamw_update(&(AdamwUpdate){.weights = optim->weights,
                                   .z = optim->z,
                                   .grads = optim->grads,
                                   .m = optim->slots[0],
                                   .v = optim->slots[1],
                                   .segments = optim->segments,
                                   .scalars = optim->scalars,
                                   .status = optim->status});
}

void optim_build_weights(Optim *optim) {
    if (optim->z.data != optim->weights.data) optim->kernels->copy(optim->weights, optim->z);
}

// ---- state ----

static void name_parts(NamedTensors *out, const char *buffer, const Param *p, Tensor flat) {
    Tensor whole = tensor_slice(flat, 0, p->offset, p->rows * p->columns);
    if (p->kind != PARAM_VECTOR) whole = tensor_reshape(whole, p->rows, p->columns, 0, 0);
    for (int i = 0; i < p->part_count; i++) {
        const ParamPart *part = &p->part[i];
        const char *dot = *part->suffix && p->part_count > 1 ? "." : "";
        named_tensors_add(out, tensor_slice(whole, 0, part->row, part->rows), "%s.%s%s%s", buffer, p->name, dot,
                          *dot ? part->suffix : "");
    }
}

void optim_state(const Optim *optim, NamedTensors *out) {
    for (int64_t i = 0; i < optim->params.count; i++) {
        const Param *p = &optim->params.items[i];
        name_parts(out, "z", p, optim->z);
        for (int slot = 0; slot < OPTIM_SLOTS; slot++)
            if (optim->recipe->slots[slot]) name_parts(out, optim->recipe->slots[slot], p, optim->slots[slot]);
    }
}
