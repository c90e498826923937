// safetensors: 8 bytes header length, JSON header, tensors. Written with a header padded to 4096
// bytes; read with the rejection rules of docs/formats.md before any byte is believed.
#pragma once

#include "kernels/kernels.h"
#include "runtime/file.h"
#include "runtime/named_tensor.h"

enum { DTYPE_OWN = DTYPE_COUNT }; // each tensor's own

// Writes `count` tensors sorted by name, as `dtype` F32, F64, BF16, F16 (converted from the tensor's own where they
// differ) or DTYPE_OWN, pulled from the device in pieces. A part of a tensor is called NAME[BEGIN:END]. `kernels` NULL:
// all tensors are host memory. The only metadata is {"format": "pt"}: equal tensors give equal bytes.
bool safetensors_write(FileWriter *writer, const Kernels *kernels, const NamedTensor *tensors, int64_t count,
                       int dtype);

typedef struct Safetensors Safetensors;
Safetensors *safetensors_open(const char *path, int exit_code, Errors *errors); // maps and validates
void safetensors_close(Safetensors *file);
int64_t safetensors_count(const Safetensors *file);
const char *safetensors_name(const Safetensors *file, int64_t index);
bool safetensors_has(const Safetensors *file, const char *name);
void safetensors_span(const Safetensors *file, int64_t index, uint64_t *begin, uint64_t *end); // its bytes of the file
// The bytes of a tensor on the host, with dtype and shape; absent when there is none of that name. In a file of another
// writer they may begin at any byte: read them through dtype_convert or memcpy.
Tensor safetensors_find(const Safetensors *file, const char *name);
Tensor safetensors_tensor(const Safetensors *file, int64_t index);

// Fills every tensor of the list from the file, converting dtypes. Missing tensors, other shapes and tensors of the
// file that nobody asked for are named, all of them, before anything is written.
bool safetensors_read(const Safetensors *file, const Kernels *kernels, const NamedTensor *tensors, int64_t count,
                      Errors *errors);

// The steps of it: whether the file has one tensor of numbers with this name and shape; and a contiguous tensor of the
// device from as many numbers on the host.
bool safetensors_check(const Safetensors *file, const NamedTensor *wanted, Errors *errors);
void safetensors_fill(const Kernels *kernels, Tensor out, Tensor in);
void safetensors_fill_transposed(const Kernels *kernels, Tensor out, Tensor in); // (rows, columns) from (columns, rows)
