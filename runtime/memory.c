#include "runtime/memory.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/error.h"
#include "runtime/text.h"

static void *not_null(void *memory, int64_t count, size_t size, const char *what) {
    char bytes[TEXT_NUMBER];
    if (!memory)
        DIE(EXIT_INTERNAL, "out of memory: %s (%ld of %zu bytes) for %s",
            text_bytes(bytes, (double)count * (double)size), count, size, what);
    return memory;
}

// Whether the product is a size, which is 1 at least: then NULL only ever means that there is none.
static bool is_size(int64_t count, size_t size, size_t *bytes) {
    ptrdiff_t product;
    if (count < 0 || __builtin_mul_overflow(count, size, &product)) return false;
    *bytes = product > 0 ? (size_t)product : 1;
    return true;
}

void *memory_take(int64_t count, size_t size, const char *what) {
    size_t bytes;
    return not_null(is_size(count, size, &bytes) ? calloc(bytes, 1) : NULL, count, size, what);
}

void *memory_grow(void *memory, int64_t count, size_t size, const char *what) {
    size_t bytes;
    return not_null(is_size(count, size, &bytes) ? realloc(memory, bytes) : NULL, count, size, what);
}

void *memory_room(void *items, int64_t count, int64_t *capacity, size_t size, const char *what) {
    enum { FIRST = 16 };
    if (count <= *capacity) return items;
    int64_t doubled = *capacity < FIRST / 2 ? FIRST : 2 * *capacity;
    *capacity = count > doubled ? count : doubled;
    return memory_grow(items, *capacity, size, what);
}

char *memory_string(const char *string) {
    size_t size = strlen(string) + 1;
    return memcpy(memory_take((int64_t)size, 1, "a string"), string, size);
}
