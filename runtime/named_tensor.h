// A list of tensors with the names they have in a file: what optimizer and network give to a checkpoint to be saved or
// filled. The tensors stay where they are.
#pragma once

#include "runtime/tensor.h"

enum { TENSOR_NAME = 160 };

// (rows, columns) or (columns), contiguous, on the device. `transposed`: the file holds the transpose. `zero`: the file
// holds zeros of this shape and `tensor.data` is absent (written, ignored on reading). A part of a tensor, as ranks own
// them, is flat; in a file it is called NAME[BEGIN:END].
typedef struct {
    char name[TENSOR_NAME];
    Tensor tensor;
    bool transposed;
    bool zero;
    int64_t begin, whole; // elements [begin, begin + count) of a tensor of `whole`; whole 0: all of it
} NamedTensor;

typedef struct {
    NamedTensor *items;
    int64_t count, capacity;
} NamedTensors;

// Appends one; the name is made like printf's and must fit.
NamedTensor *named_tensors_add(NamedTensors *list, Tensor tensor, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void named_tensors_close(NamedTensors *list);
