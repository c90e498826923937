#include "optim/owners.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/integers.h"
#include "runtime/memory.h"
#include "runtime/param.h"

enum { CUT_ALIGNMENT = 4 }; // elements: ranges begin where the device loads fours

// ---- whole parts ----

typedef struct {
    const OwnedPart *part;
    int64_t index;
} Ranked;

static int by_cost_and_name(const void *a, const void *b) {
    const OwnedPart *x = ((const Ranked *)a)->part, *y = ((const Ranked *)b)->part;
    if (x->cost != y->cost) return x->cost < y->cost ? 1 : -1;
    return strcmp(x->name, y->name);
}

// The rank with the least to do among those that have room: one always has no more than the mean so far.
static int choose_owner(const Owners *owners, int64_t count, int64_t total, int64_t largest) {
    int best = -1;
    for (int rank = 0; rank < owners->ranks; rank++) {
        const OwnerLoad *load = &owners->loads[rank];
        bool fits = (load->whole + count - largest) * owners->ranks <= total;
        if (fits && (best < 0 || load->cost < owners->loads[best].cost)) best = rank;
    }
    REQUIRE(best >= 0, "nobody has room for %ld of %ld elements", count, total);
    return best;
}

// Longest first, each to the rank that has the least to do. `owner` is filled for whole parts.
static void give_whole_parts(Owners *owners, int *owner, const OwnedPart *parts, int64_t count) {
    Ranked *order = memory_take(count, sizeof *order, "parts by cost");
    int64_t wholes = 0, total = 0, largest = 0;
    for (int64_t i = 0; i < count; i++) {
        if (parts[i].cost == 0) continue;
        order[wholes++] = (Ranked){&parts[i], i};
        total += parts[i].count;
        if (parts[i].count > largest) largest = parts[i].count;
    }
    qsort(order, (size_t)wholes, sizeof *order, by_cost_and_name);
    for (int64_t i = 0; i < wholes; i++) {
        const OwnedPart *part = order[i].part;
        int rank = choose_owner(owners, part->count, total, largest);
        OwnerLoad *load = &owners->loads[rank];
        owner[order[i].index] = rank;
        load->whole += part->count;
        load->cost += part->cost;
        load->parts++;
    }
    free(order);
}

// ---- shares ----

static void add_share(Owners *owners, int unit, Share share) {
    if (share.count > 0) owners->shares[owners->unit_end[unit]++] = share;
}

static int64_t end_of(const OwnedPart *part) { return part->offset + part->count; }

static void cut_run(Owners *owners, int unit, int64_t begin, int64_t end) {
    int64_t chunk = (end - begin) / owners->ranks / CUT_ALIGNMENT * CUT_ALIGNMENT;
    for (int rank = 0; rank < owners->ranks; rank++, begin += chunk)
        add_share(owners, unit, (Share){begin, rank + 1 < owners->ranks ? chunk : end - begin, rank});
}

// The first part behind the run of parts [i, ...) with nothing but alignment between them.
static int64_t run_end(const OwnedPart *parts, int64_t count, int64_t i) {
    for (i++; i < count; i++)
        if (parts[i].cost > 0 || parts[i].unit != parts[i - 1].unit ||
            parts[i].offset > round_up(end_of(&parts[i - 1]), PARAM_ALIGNMENT))
            break;
    return i;
}

static void list_shares(Owners *owners, const int *owner, const OwnedPart *parts, int64_t count) {
    for (int64_t i = 0, unit = 0, end; i < count; i = end) {
        for (; unit < parts[i].unit; unit++) owners->unit_end[unit + 1] = owners->unit_end[unit];
        end = parts[i].cost > 0 ? i + 1 : run_end(parts, count, i);
        if (parts[i].cost > 0) add_share(owners, (int)unit, (Share){parts[i].offset, parts[i].count, owner[i]});
        else cut_run(owners, (int)unit, parts[i].offset, end_of(&parts[end - 1]));
    }
}

// What of a share is the part's: not above 0 where they are apart.
static Share common(Share share, const OwnedPart *part) {
    int64_t begin = share.offset > part->offset ? share.offset : part->offset;
    int64_t end = share.offset + share.count < end_of(part) ? share.offset + share.count : end_of(part);
    return (Share){begin, end - begin, share.owner};
}

static void count_cut(Owners *owners, const OwnedPart *part) {
    Shares shares = owners_unit(owners, part->unit);
    for (int64_t i = 0; i < shares.count && part->cost == 0; i++) {
        Share own = common(shares.items[i], part);
        if (own.count > 0) owners->loads[own.owner].cut += own.count;
    }
}

Owners owners_plan(const OwnedPart *parts, int64_t count, int ranks) {
    Owners owners = {.ranks = ranks, .units = count > 0 ? parts[count - 1].unit + 1 : 0};
    REQUIRE(ranks > 0, "owners among %d ranks", ranks);
    for (int64_t i = 1; i < count; i++)
        REQUIRE(parts[i].offset >= end_of(&parts[i - 1]) && parts[i].unit >= parts[i - 1].unit,
                "%s begins at %ld in unit %d, %s ends at %ld in unit %d", parts[i].name, parts[i].offset, parts[i].unit,
                parts[i - 1].name, end_of(&parts[i - 1]), parts[i - 1].unit);
    owners.loads = memory_take(ranks, sizeof *owners.loads, "loads of ranks");
    owners.unit_end = memory_take(owners.units, sizeof *owners.unit_end, "ends of units");
    owners.shares = memory_take(count * ranks, sizeof *owners.shares, "shares of ranks");
    int *owner = memory_take(count, sizeof *owner, "owners of parts");
    give_whole_parts(&owners, owner, parts, count);
    list_shares(&owners, owner, parts, count);
    for (int64_t i = 0; i < count; i++) count_cut(&owners, &parts[i]);
    free(owner);
    return owners;
}

void owners_close(Owners *owners) {
    free(owners->shares);
    free(owners->unit_end);
    free(owners->loads);
    *owners = (Owners){0};
}

// ---- what there is ----

Shares owners_unit(const Owners *owners, int unit) {
    int64_t begin = unit > 0 ? owners->unit_end[unit - 1] : 0;
    return (Shares){owners->shares + begin, owners->unit_end[unit] - begin};
}

OwnerLoad owners_load(const Owners *owners, int rank) { return owners->loads[rank]; }

double owners_imbalance(const Owners *owners) {
    double total = 0, largest = 0;
    for (int rank = 0; rank < owners->ranks; rank++) {
        double cost = owners->loads[rank].cost;
        total += cost;
        if (cost > largest) largest = cost;
    }
    return total > 0 ? largest * owners->ranks / total : 1;
}

Share owners_range(const Owners *owners, const OwnedPart *part, int rank) {
    Shares shares = owners_unit(owners, part->unit);
    for (int64_t i = 0; i < shares.count; i++) {
        Share own = common(shares.items[i], part);
        if (own.owner == rank && own.count > 0) return own;
    }
    return (Share){part->offset, 0, rank};
}
