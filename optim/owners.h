// Owners: which rank moves what, where each keeps the state of a part of every unit. What moves by element is cut: each
// rank gets an equal range of every run of it. What moves as a whole belongs to one rank, so that the work of a step is
// even and no rank holds more than the mean and the largest of them. A pure function of its arguments, the same on all
// ranks; also for a number of ranks that is not there.
#pragma once

#include "comm/comm.h"

// Something in a unit of the flat buffers.
typedef struct {
    const char *name; // settles which of equal ones comes first
    int unit;
    int64_t offset, count;
    double cost; // of moving it as a whole, in a step; 0: it moves by element and may be cut
} OwnedPart;

// What a rank has to do.
typedef struct {
    int64_t cut, whole; // elements
    int64_t parts;      // whole ones
    double cost;        // of them
} OwnerLoad;

typedef struct {
    int ranks, units;
    Share *shares; // of all units, ascending
    int64_t *unit_end;
    OwnerLoad *loads;
} Owners;

// Parts ascend, in memory and by unit. Alignment between parts that are cut belongs to a share; nothing else beside
// parts does.
Owners owners_plan(const OwnedPart *parts, int64_t count, int ranks);
void owners_close(Owners *owners);

Shares owners_unit(const Owners *owners, int unit); // a whole part is one share
OwnerLoad owners_load(const Owners *owners, int rank);
double owners_imbalance(const Owners *owners); // largest cost of a rank over the mean; 1 where nothing is whole
// The range of a part that is this rank's: never more than one. Count 0: nothing is.
Share owners_range(const Owners *owners, const OwnedPart *part, int rank);
