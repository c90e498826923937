#include "model/model_options.h"

#define OPTION_STRUCT ModelOptions
#define OPTION OPTION_ROW
#define CHOICE CHOICE_ROW
static const OptionRow rows[] = {
#include "model/model_options.def"
};

const OptionRows model_option_rows = {rows, sizeof rows / sizeof rows[0]};
