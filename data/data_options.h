// The options of the data; rows in data_options.def.
#pragma once

#include "runtime/options.h"

typedef struct {
#define OPTION OPTION_FIELD
#define CHOICE CHOICE_FIELD
#include "data/data_options.def"
} DataOptions;

extern const OptionRows data_option_rows;
