// Ranks: the processes of a job. One TCP connection of every rank to rank 0 carries what they agree on; a second one
// carries heartbeats, by which a thread sees ranks that died, fell silent or hang, and ends its own (71) with the name
// of the rank and what it was last seen at. All ranks make the same calls in the same order; a NULL Ranks is a job of
// one process, for which they all do nothing.
#pragma once

#include "comm/launch.h"
#include "runtime/error.h"
#include "runtime/text.h"

typedef struct Ranks Ranks;

// Meets the other ranks within `timeout` seconds and checks that all are of one job: secret, size, binary. NULL and a
// message (71) where that fails; for a job of one process NULL without one. `timeout` also is how long a rank may be
// silent or others may wait for it from then on.
Ranks *ranks_open(const Launch *launch, double timeout, Errors *errors);
void ranks_close(Ranks *ranks); // when all have come here, and have closed their collectives
int ranks_rank(const Ranks *ranks);
int ranks_size(const Ranks *ranks);

// Host memory, at once: what a step is decided by, not its numbers.
unsigned ranks_any(Ranks *ranks, unsigned bits);  // the bits that are set on any rank
void ranks_share(Ranks *ranks, Text *text);       // rank 0's to all
// Texts of all ranks, by rank, on rank 0: `out` has ranks_size of them, to be closed by the caller. May hold any bytes.
void ranks_collect(Ranks *ranks, const Text *text, Text *out);
// Ends all ranks (71) unless all give the same text: the first line that differs is told, with the rank. `what` is such
// as "configuration".
void ranks_same(Ranks *ranks, const char *what, const char *text);

// Where this rank is, for messages of those that wait for it: "reduce of h.3". Each call counts as progress.
void ranks_at(Ranks *ranks, const char *format, ...) __attribute__((format(printf, 2, 3)));
// What comes may take longer than the timeout (a checkpoint, a sample): nobody is to give up meanwhile.
void ranks_patient(Ranks *ranks, bool patient);

// About once a second the thread that watches asks `healthy`; where it is false, the job ends with `why`. Before this
// process ends with 71 for whatever reason, `abort_work` stops what still runs. NULL: none, any more.
void ranks_on_watch(Ranks *ranks, bool (*healthy)(void *context, Text *why), void *context);
void ranks_on_fail(Ranks *ranks, void (*abort_work)(void *context), void *context);

// Ends this process with 71 and a message; the others learn of it at once.
_Noreturn void ranks_fail(Ranks *ranks, const char *format, ...) __attribute__((format(printf, 2, 3)));
// The same where a connection broke or a library says so: if another rank is the reason, its name is told instead.
_Noreturn void ranks_lost(Ranks *ranks, const char *format, ...) __attribute__((format(printf, 2, 3)));
