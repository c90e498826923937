// Arguments of a command that are not key=value: flags, and options with a value.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "optim/optim.h"

typedef struct {
    const char *name;  // "--json"; a row without a name ends the table
    bool *flag;        // one of these
    const char **text; // the word behind it, or behind "--name="
} Argument;

// Takes the table's arguments out of argv and returns the new argc. Unknown ones, missing values and fewer than
// `needed` other arguments are named on stderr with the usage line: 0 is returned.
int arguments_take(int argc, char **argv, const Argument *table, int needed, const char *usage);

// The value of --ranks; 0 where it was not given (NULL), -1 and a message where it is no number of processes.
int64_t arguments_ranks(const char *text);

// The value of --weights: which iterate of a checkpoint is asked for. False and a message where it names none.
bool arguments_weights(const char *text, Iterate *iterate);

// An option that is a key, too: "key=value" behind the overrides. `value` NULL: it was not given.
void arguments_override(TextList *overrides, const char *key, const char *value);
