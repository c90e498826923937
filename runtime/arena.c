#include "runtime/arena.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/error.h"
#include "runtime/integers.h"
#include "runtime/memory.h"

// More than any machine has: sums stay there instead of wrapping, so that a plan that large is refused as too large.
static const size_t MOST = SIZE_MAX / 4;

static size_t add_bytes(size_t a, size_t b) { return a >= MOST || b >= MOST - a ? MOST : a + b; }

static void note_take(Arena *arena, const char *name, size_t bytes) {
    for (int i = 0; i < arena->take_count; i++) {
        if (strcmp(arena->takes[i].name, name) != 0) continue;
        arena->takes[i].bytes = add_bytes(arena->takes[i].bytes, bytes);
        return;
    }
    arena->takes = memory_grow(arena->takes, arena->take_count + 1, sizeof *arena->takes, "a plan of memory");
    arena->takes[arena->take_count++] = (ArenaTake){name, bytes};
}

void *arena_take(Arena *arena, const char *name, size_t bytes) {
    size_t begin = arena->used, taken = bytes < MOST ? (size_t)round_up((int64_t)bytes, ARENA_ALIGNMENT) : MOST;
    arena->used = add_bytes(begin, taken);
    if (!arena->base) {
        note_take(arena, name, taken);
        return NULL;
    }
    REQUIRE(arena->used <= arena->capacity, "arena %s: %s does not fit in what was measured", arena->name, name);
    return arena->base + begin;
}

Tensor arena_tensor(Arena *arena, const char *name, Tensor like) {
    if (!tensor_present(like)) return like;
    like.data = arena_take(arena, name, tensor_size_bytes(like));
    return like;
}

void arena_begin_placing(Arena *arena, void *base) {
    arena->base = base;
    arena->capacity = arena->used;
    arena->used = 0;
}

void arena_close(Arena *arena) {
    free(arena->takes);
    *arena = (Arena){0};
}

size_t arena_total(const Arena *const *arenas, int count) {
    size_t total = 0;
    for (int i = 0; i < count; i++) total = add_bytes(total, arenas[i]->base ? arenas[i]->capacity : arenas[i]->used);
    return total;
}

static int larger_first(const void *a, const void *b) {
    size_t x = ((const ArenaTake *)a)->bytes, y = ((const ArenaTake *)b)->bytes;
    return (x < y) - (x > y);
}

void arena_report(Text *out, const Arena *const *arenas, int count) {
    enum { SHOWN = 6 };
    char number[TEXT_NUMBER];
    for (int a = 0; a < count; a++) {
        const Arena *arena = arenas[a];
        size_t bytes = arena_total(&arena, 1);
        if (bytes == 0) continue;
        text_printf(out, "  %-22s %12s\n", arena->name, text_bytes(number, (double)bytes));
        if (arena->take_count < 2) continue;
        ArenaTake *takes = malloc((size_t)arena->take_count * sizeof *takes);
        if (!takes) continue;
        memcpy(takes, arena->takes, (size_t)arena->take_count * sizeof *takes);
        qsort(takes, (size_t)arena->take_count, sizeof *takes, larger_first);
        for (int i = 0; i < arena->take_count && i < SHOWN; i++)
            text_printf(out, "    %-20s %12s\n", takes[i].name, text_bytes(number, (double)takes[i].bytes));
        free(takes);
    }
    text_printf(out, "  %-22s %12s\n", "total", text_bytes(number, (double)arena_total(arenas, count)));
}
