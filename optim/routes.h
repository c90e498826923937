// Which recipe serves matrices and which the rest, with which hyperparameters; and multipliers of single parameters.
#pragma once

#include "optim/optim.h"

// Both routes, resolved. All that is wrong is collected (exit 2).
bool routes_choose(Route routes[RECIPE_ROUTES], const OptimSetup *setup, Errors *errors);

// lr_scale and decay_scale of every piece, by the rules of optim.groups.
bool groups_apply(const TextList *rules, Piece *pieces, int64_t count, Errors *errors);

// "h.0.qkv_w.q": the parameter, and the part where it has several.
void piece_name(const Piece *piece, Text *out);
