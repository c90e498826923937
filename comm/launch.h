// How a process learns that it is one of several ranks: from torchrun, srun or mpirun, from our own variables, or from
// our own launcher, which makes the others itself.
#pragma once

#include <stdbool.h>

#include "runtime/error.h"

enum { LAUNCH_SECRET = 64, RANKS_LIMIT = 4096 };

typedef struct {
    int rank, size;             // size 1: a process alone
    int local_rank, local_size; // on this machine
    char host[256];             // where rank 0 listens
    int port;
    int listener;               // of rank 0, where the launcher opened it before there were ranks; else -1
    char secret[LAUNCH_SECRET]; // keeps jobs apart; "" where the launcher gives none
    char by[32];                // "--ranks", "torchrun", "mpirun", "srun", "THALWEG_RANK"; "": nobody, a process alone
} Launch;

// From the environment. The first launcher counts of which there are variables: our own (THALWEG_RANK, THALWEG_RANKS,
// THALWEG_RENDEZVOUS=HOST:PORT, and THALWEG_LOCAL_RANK, THALWEG_LOCAL_RANKS where machines have several ranks),
// torchrun, mpirun, srun. THALWEG_RENDEZVOUS, THALWEG_PORT and THALWEG_SECRET hold for all of them. False and a message
// (2) where a variable is missing or is not what it should be.
bool launch_find(Launch *launch, Errors *errors);

// Takes out of the environment what makes a process one of several ranks: for programs that a rank starts.
void launch_forget(void);

// Makes `ranks` processes of this one and returns in each of them. The process that was called stays, passes signals
// on, and exits with the code of the first rank that failed by itself (71 where a signal ended it), after the last one
// ended. It ends by a signal that it passed on where that ended such a rank, which then was not ready to heed it.
// Called before there are threads. One rank is this process.
void launch_ranks(Launch *launch, int ranks);
