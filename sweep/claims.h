// Whose a run is: one lock file for each, locks/ID.lock, with `HOST PID TIME` in it. flock(2) falls away with the
// process that holds it; where it does not reach other hosts, the time in the file, which is renewed while the run is
// held, says that somebody is at work.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "runtime/error.h"

enum { CLAIM_STALE = 600, CLAIM_RENEWED = 60 }; // seconds

typedef struct {
    char path[4096];
    int descriptor; // -1: not held
    double renewed; // unix seconds
} Claim;

typedef enum { CLAIM_TAKEN, CLAIM_BUSY, CLAIM_IMPOSSIBLE } ClaimResult; // busy: another process has it; or a message

const char *claim_host(void); // the name of this host, a word

// Taken where nobody holds it: the file is new or was released, or it is of this host and not locked, or its time is
// older than CLAIM_STALE.
ClaimResult claim_take(Claim *claim, const char *sweep_dir, const char *id, double now, Errors *errors);
void claim_renew(Claim *claim, double now); // where CLAIM_RENEWED has passed
void claim_release(Claim *claim);
