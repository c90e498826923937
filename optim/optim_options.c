#include "optim/optim_options.h"

#include <string.h>

#include "runtime/error.h"

#define OPTION_STRUCT OptimOptions
#define OPTION OPTION_ROW
#define CHOICE CHOICE_ROW
static const OptionRow optim_rows[] = {
#include "optim/optim_options.def"
};
#undef OPTION_STRUCT

#define OPTION_STRUCT HyperOptions
#define OPTION OPTION_ROW
#define CHOICE CHOICE_ROW
static const OptionRow hyper_rows[] = {
#include "optim/hyper_options.def"
};
#undef OPTION_STRUCT

#define OPTION_STRUCT RouteOptions
#define OPTION OPTION_ROW
static const OptionRow route_rows[] = {
#include "optim/route_options.def"
};
#undef OPTION_STRUCT

const OptionRows optim_option_rows = {optim_rows, sizeof optim_rows / sizeof optim_rows[0]};
const OptionRows hyper_option_rows = {hyper_rows, sizeof hyper_rows / sizeof hyper_rows[0]};
const OptionRows route_option_rows = {route_rows, sizeof route_rows / sizeof route_rows[0]};

const OptionRow *optim_option_find(const char *name) {
    for (int i = 0; i < optim_option_rows.count; i++)
        if (strcmp(optim_rows[i].name, name) == 0) return &optim_rows[i];
    DIE(EXIT_INTERNAL, "there is no option optim.%s", name);
}
