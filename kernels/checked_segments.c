#include "kernels/checked_segments.h"

static const int direction_slots[DIRECTION_COUNT] = {
#define D(name, slots) slots,
    DIRECTIONS(D)
#undef D
};

static bool within(int64_t first, int64_t count, int64_t size) { return first >= 0 && count <= size - first; }

static bool state_is_there(const Segment *s, int64_t state) {
    for (int i = 0; i < direction_slots[s->direction]; i++)
        if (!within(s->slot[i], s->count, state)) return false;
    return s->gap < 0 || within(s->gap, s->count, state);
}

static void require_present(const char *operation, const Update *update) {
    REQUIRE(update->segments.items || update->segments.count == 0, "%s: segments are missing", operation);
    REQUIRE(update->scalars, "%s: scalars are missing", operation);
}

void require_segments(const char *operation, const Update *update, Tensor flat) {
    int64_t elements = tensor_count(flat), z = tensor_count(update->z), state = tensor_count(update->state);
    int64_t end = 0;
    require_present(operation, update);
    for (int64_t i = 0; i < update->segments.count; i++) {
        const Segment *s = &update->segments.items[i];
        REQUIRE(s->offset >= end && s->count >= 0 && within(s->offset, s->count, elements),
                "%s: segment %ld is %ld + %ld, behind %ld of %ld elements", operation, (long)i, (long)s->offset,
                (long)s->count, (long)end, (long)elements);
        REQUIRE(s->route == RECIPE_MATRIX || s->route == RECIPE_OTHER, "%s: segment %ld goes route %d", operation,
                (long)i, s->route);
        REQUIRE(s->direction >= 0 && s->direction < DIRECTION_COUNT, "%s: segment %ld has direction %d", operation,
                (long)i, s->direction);
        REQUIRE(s->count == 0 || !tensor_present(update->z) || within(s->z, s->count, z),
                "%s: segment %ld is %ld + %ld of %ld elements of z", operation, (long)i, (long)s->z, (long)s->count,
                (long)z);
        REQUIRE(s->count == 0 || state_is_there(s, state),
                "%s: segment %ld has a slot or a gap outside %ld numbers of state", operation, (long)i, (long)state);
        end = s->offset + s->count;
    }
}

void require_count(const char *operation, const Update *update, Tensor tensor, const char *name) {
    REQUIRE(!tensor_present(tensor) || tensor.shape[0] == update->segments.count, "%s: %ld %s of %ld segments",
            operation, (long)tensor.shape[0], name, (long)update->segments.count);
}

static void require_size(const char *operation, int64_t i, const Segment *segment, Tensor matrices) {
    int64_t elements = tensor_count(matrices) / matrices.shape[0];
    REQUIRE(segment->count == elements, "%s: segment %ld has %ld elements, its matrix %ld", operation, (long)i,
            (long)segment->count, (long)elements);
}

void require_directions(const char *operation, const Update *update) {
    require_count(operation, update, update->directions, "directions");
    require_count(operation, update, update->squares, "squares");
    for (int64_t i = 0; i < update->segments.count; i++) {
        const Segment *s = &update->segments.items[i];
        REQUIRE(s->direction != DIRECTION_GIVEN || tensor_present(update->directions), "%s: directions are missing",
                operation);
        REQUIRE(s->direction != DIRECTION_MARS || tensor_present(update->squares), "%s: squares are missing",
                operation);
        REQUIRE(s->gap < 0 || update->weights.data != update->z.data, "%s: weights are z, beside a gap", operation);
        if (s->direction == DIRECTION_GIVEN) require_size(operation, i, s, update->directions);
    }
}

void require_matrices(const char *operation, const Update *update, Tensor matrices, MatrixSlot slot) {
    int64_t state = tensor_count(update->state);
    require_present(operation, update);
    require_count(operation, update, matrices, "matrices");
    for (int64_t i = 0; i < update->segments.count && tensor_present(matrices); i++) {
        const Segment *s = &update->segments.items[i];
        require_size(operation, i, s, matrices);
        REQUIRE(within(s->slot[slot.slot], slot.by_row ? matrices.shape[1] : s->count, state),
                "%s: slot %d of segment %ld is outside %ld numbers of state", operation, slot.slot, (long)i,
                (long)state);
    }
}

double update_bytes(const Update *update) {
    double wide = (double)dtype_bytes(update->z.dtype), bytes = 0;
    double given = tensor_present(update->directions) ? (double)dtype_bytes(update->directions.dtype) : 0;
    bool apart = update->weights.data != update->z.data;
    for (int64_t i = 0; i < update->segments.count; i++) {
        const Segment *s = &update->segments.items[i];
        double updated = 1 + (s->gap >= 0) + direction_slots[s->direction];
        double read = s->direction == DIRECTION_GIVEN ? given : wide;
        double written = apart ? (double)dtype_bytes(update->weights.dtype) : 0;
        bytes += (double)s->count * (2 * wide * updated + read + written);
    }
    return bytes;
}
