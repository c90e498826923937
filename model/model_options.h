// The options of the network; rows in model_options.def.
#pragma once

#include "runtime/options.h"

typedef struct {
#define OPTION OPTION_FIELD
#define CHOICE CHOICE_FIELD
#include "model/model_options.def"
} ModelOptions;

extern const OptionRows model_option_rows;
const OptionRow *model_option_row(const char *name);
