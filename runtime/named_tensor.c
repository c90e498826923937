#include "runtime/named_tensor.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "runtime/error.h"
#include "runtime/memory.h"

NamedTensor *named_tensors_add(NamedTensors *list, Tensor tensor, const char *format, ...) {
    list->items = memory_room(list->items, list->count + 1, &list->capacity, sizeof *list->items, "a list of tensors");
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
