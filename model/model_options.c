#include "model/model_options.h"

#include <string.h>

#define OPTION_STRUCT ModelOptions
#define OPTION OPTION_ROW
#define CHOICE CHOICE_ROW
static const OptionRow rows[] = {
#include "model/model_options.def"
};

const OptionRows model_option_rows = {rows, sizeof rows / sizeof rows[0]};

const OptionRow *model_option_row(const char *name) {
    const OptionRow *row = rows;
    while (strcmp(row->name, name) != 0) row++;
    return row;
}
