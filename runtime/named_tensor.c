#include "runtime/named_tensor.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "runtime/error.h"

NamedTensor *named_tensors_add(NamedTensors *list, Tensor tensor, const char *format, ...) {
    if (list->count == list->capacity) {
        list->capacity = list->capacity ? 2 * list->capacity : 64;
        list->items = realloc(list->items, (size_t)list->capacity * sizeof *list->items);
        if (!list->items) DIE(EXIT_INTERNAL, "out of memory: a list of %ld tensors", list->capacity);
    }
    NamedTensor *item = &list->items[list->count++];
    *item = (NamedTensor){.tensor = tensor};
    va_list arguments;
    va_start(arguments, format);
    int size = vsnprintf(item->name, sizeof item->name, format, arguments);
    va_end(arguments);
    REQUIRE(size > 0 && size < TENSOR_NAME, "tensor name %s", item->name);
    return item;
}

void named_tensors_close(NamedTensors *list) {
    free(list->items);
    *list = (NamedTensors){0};
}
