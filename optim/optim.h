// Optim: how parameters move. A recipe is a row; every parameter is served by exactly one, chosen by its kind. The
// fast iterate z is stored in the wide dtype; the network sees only the compute weights built from it. Scalars are pure
// functions of the attempted step and the options; a skipped step leaves all state untouched.
#pragma once

#include "kernels/kernels.h"
#include "optim/schedule.h"
#include "runtime/arena.h"
#include "runtime/named_tensor.h"
#include "runtime/param.h"

enum { OPTIM_SLOTS = 2 };

typedef struct {
    const char *name;
    const char *formula;
    const char *slots[OPTIM_SLOTS]; // names in files, wide, of the parameter's shape
    double lr, weight_decay, beta1, beta2, epsilon; // defaults
    const char *origin;                             // of the defaults
} Recipe;

const Recipe *recipe_find(const char *name, Errors *errors); // NULL and the nearest name
void recipes_print(Text *out);

typedef struct {
    const OptimOptions *options;
    const HyperOptions *hyper[1 + RECIPE_ROUTES]; // optim.*, optim.matrix.*, optim.other.*
    int64_t steps;                                // of the run, for schedules
    DType wide;                                   // of z and slots
} OptimSetup;

typedef struct {
    const Kernels *kernels;
    ParamList params; // borrowed from the network, as are weights and gradients
    Tensor weights, grads, status;
    const StepScalars *scalars; // on the device

    const Recipe *recipe;
    RecipeScalars hyper[RECIPE_ROUTES]; // eta holds the base learning rate
    Schedule schedule;
    double clip;

    Tensor z; // `weights` itself where the dtypes agree
    Tensor slots[OPTIM_SLOTS];
    Segments segments;
    Arena arena;
    void *memory;
} Optim;

// What the network lends.
typedef struct {
    ParamList params;
    Tensor weights, grads, status;
    const StepScalars *scalars;
} OptimTarget;

// Routes parameters and measures memory. False and messages (exit 2) for unknown names.
bool optim_plan(Optim *optim, const Kernels *kernels, const ParamList *params, DType compute, const OptimSetup *setup,
                Errors *errors);
bool optim_open(Optim *optim, const OptimTarget *target, Errors *errors);
void optim_close(Optim *optim);

void optim_scalars(const Optim *optim, int64_t t, StepScalars *scalars); // t, clip and recipes; not the loss weight
void optim_step(Optim *optim);          // norm, clip, skip decision, update; gradients stay
void optim_build_weights(Optim *optim); // compute weights from z, after z was filled

// z and slots by parameter name, parts apart, without padding: "z.h.0.qkv_w.q".
void optim_state(const Optim *optim, NamedTensors *out);
