// The options of the optimizer: OptimOptions stands in `optim`; HyperOptions in `optim`, `optim.matrix` and
// `optim.other`; RouteOptions in the last two.
#pragma once

#include "runtime/options.h"

typedef struct {
#define OPTION OPTION_FIELD
#define CHOICE CHOICE_FIELD
#include "optim/optim_options.def"
} OptimOptions;

typedef struct {
#define OPTION OPTION_FIELD
#define CHOICE CHOICE_FIELD
#include "optim/hyper_options.def"
} HyperOptions;

typedef struct {
#define OPTION OPTION_FIELD
#include "optim/route_options.def"
} RouteOptions;

extern const OptionRows optim_option_rows, hyper_option_rows, route_option_rows;
const OptionRow *optim_option_find(const char *name); // of OptimOptions; it must be there

// Hyperparameters by number, and sets of them.
typedef enum {
#define OPTION(type, field, ...) HYPER_##field,
#define CHOICE(field, ...) HYPER_##field,
#include "optim/hyper_options.def"
    HYPER_COUNT
} Hyper;
typedef uint64_t HyperSet;
_Static_assert(HYPER_COUNT <= 64, "a set is 64 bits");

// Values of optim.schedule.
typedef enum {
    SCHEDULE_CONSTANT,
    SCHEDULE_LINEAR,
    SCHEDULE_COSINE,
    SCHEDULE_WSD,
    SCHEDULE_TRAPEZOID,
    SCHEDULE_INVERSE_SQRT
} ScheduleKind;
// Of optim.decay_shape.
typedef enum { SHAPE_LINEAR, SHAPE_SQRT, SHAPE_1_SQRT, SHAPE_SQUARE, SHAPE_COSINE, SHAPE_EXP } DecayShape;
// Of optim.readout, and of hyperparameters.
enum { READOUT_NONE, READOUT_EMA, READOUT_TAIL };
enum { COMPAT_EXACT, COMPAT_OFFICIAL };
enum { NS_FP32, NS_BF16 };
enum { BETA_FORMULA, BETA_WEIGHTSUM, BETA_CONST };
enum { BY_NOW, BY_LARGEST };
typedef enum { SCALE_KELLER, SCALE_MOONLIGHT, SCALE_SPECTRAL, SCALE_RMS } ScaleKind;
