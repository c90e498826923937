// What rows share that have nothing of their own to do there.
#pragma once

#include "comm/comm.h"

void row_wait_for_nothing(Comm *comm, int64_t mark);
void *row_take_memory(Comm *comm, size_t bytes);
void row_return_memory(Comm *comm, void *memory, size_t bytes);
