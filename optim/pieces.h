// Pieces: the parameters part by part, what of each this rank moves, and where its state lies.
#pragma once

#include "optim/optim.h"

const Route *piece_route(const Optim *optim, const Piece *piece);
bool piece_is_whole(const Optim *optim, const Piece *piece); // moves as a matrix, on one rank
int route_slots(const Route *route);

void pieces_list(Optim *optim);        // all parts of all parameters, all of each
void pieces_take_shares(Optim *optim); // only what optim->owners give this rank
// Gap and slots of what is here, one behind the other; the length of all. `packed`: so does z, and its length is that
// of optim->z; else z lies as the weights do.
int64_t pieces_lay_out(Optim *optim, bool packed);
