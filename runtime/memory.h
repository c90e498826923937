// Memory of the host for lists, tables and buffers; free gives it back. Never NULL, for 0 items too: where there is
// none, or more is asked for than there are addresses, the program ends (70) and says how much it was, and for what.
#pragma once

#include <stddef.h>
#include <stdint.h>

// All zero.
void *memory_take(int64_t count, size_t size, const char *what)
    __attribute__((malloc, returns_nonnull, warn_unused_result));

// As realloc, of NULL too: what is new holds anything.
void *memory_grow(void *memory, int64_t count, size_t size, const char *what)
    __attribute__((returns_nonnull, warn_unused_result));

// `items` with room for `count` where there was room for `capacity`, which is doubled at least where it grows. What is
// new holds anything; NULL only for no room at all.
void *memory_room(void *items, int64_t count, int64_t *capacity, size_t size, const char *what)
    __attribute__((warn_unused_result));

// A copy of a string.
char *memory_string(const char *string) __attribute__((malloc, returns_nonnull, warn_unused_result));
