#include "data/data_options.h"

#define OPTION_STRUCT DataOptions
#define OPTION OPTION_ROW
#define CHOICE CHOICE_ROW
static const OptionRow rows[] = {
#include "data/data_options.def"
};

const OptionRows data_option_rows = {rows, sizeof rows / sizeof rows[0]};
