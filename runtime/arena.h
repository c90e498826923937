// Arena: one block of memory handed out in named pieces and given back whole. The same function measures and places:
// run it first on an arena without a base, allocate `used` bytes, then run it again.
#pragma once

#include "runtime/tensor.h"
#include "runtime/text.h"

enum { ARENA_ALIGNMENT = 256 }; // bytes; every piece starts at a multiple

typedef struct {
    const char *name; // static string; takes of one name are added up
    size_t bytes;
} ArenaTake;

typedef struct {
    const char *name;
    char *base; // NULL: measure only
    size_t used;
    size_t capacity;
    ArenaTake *takes;
    int take_count;
} Arena;

// `bytes` from the arena, aligned; NULL while measuring. Dies if the arena is smaller than it was measured.
void *arena_take(Arena *arena, const char *name, size_t bytes);

// A contiguous tensor from the arena; while measuring its data is NULL.
Tensor arena_tensor(Arena *arena, const char *name, Tensor like);

void arena_begin_placing(Arena *arena, void *base); // after measuring: capacity = used, used = 0
void arena_close(Arena *arena);                     // forgets; the memory belongs to whoever allocated it

size_t arena_total(const Arena *const *arenas, int count); // bytes measured or placed

// A table of arenas that are not empty and their largest takers, largest first: the memory plan, and the
// out-of-memory message.
void arena_report(Text *out, const Arena *const *arenas, int count);
