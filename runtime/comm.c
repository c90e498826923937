#include "runtime/comm.h"

static void nothing(Comm *comm) { (void)comm; }
static void nothing_to_combine(Comm *comm, Tensor values) { (void)comm, (void)values; }
static void nothing_to_send(Comm *comm, Tensor values, int root) { (void)comm, (void)values, (void)root; }

Comm comm_none(void) {
    return (Comm){.name = "none",
                  .rank = 0,
                  .size = 1,
                  .sum = nothing_to_combine,
                  .maximum = nothing_to_combine,
                  .broadcast = nothing_to_send,
                  .barrier = nothing,
                  .close = nothing};
}
