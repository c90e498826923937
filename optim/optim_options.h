// The options of the optimizer: OptimOptions stands in `optim`; HyperOptions in `optim`, `optim.matrix` and
// `optim.other`.
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

extern const OptionRows optim_option_rows, hyper_option_rows;

// Values of optim.schedule.
typedef enum {
    SCHEDULE_CONSTANT,
    SCHEDULE_LINEAR,
    SCHEDULE_COSINE,
    SCHEDULE_WSD,
    SCHEDULE_INVERSE_SQRT
} ScheduleKind;
