// safetensors, written: sorted by name, so that equal tensors give equal bytes; the header is padded so that the data
// begins at a multiple of 4096. Tensors come from the device in pieces, or are read where they are on the host.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "data/safetensors.h"
#include "runtime/json.h"
#include "runtime/memory.h"

enum { HEADER_ALIGNMENT = 4096, PIECE = 1 << 20 }; // bytes, elements

// A tensor and its name in the file.
typedef struct {
    const NamedTensor *named;
    char name[TENSOR_NAME];
} Item;

static int by_name(const void *a, const void *b) { return strcmp(((const Item *)a)->name, ((const Item *)b)->name); }

static void name_item(Item *item) {
    const NamedTensor *named = item->named;
    int64_t end = named->begin + tensor_count(named->tensor);
    int size = named->whole ? snprintf(item->name, sizeof item->name, "%s[%ld:%ld]", named->name, named->begin, end)
                            : snprintf(item->name, sizeof item->name, "%s", named->name);
    REQUIRE(size > 0 && size < TENSOR_NAME, "tensor name %s", named->name);
    REQUIRE(!named->whole || (named->tensor.rank == 1 && end <= named->whole), "%s is no part", item->name);
}

static Item *sorted(const NamedTensor *tensors, int64_t count) {
    Item *order = memory_take(count, sizeof *order, "tensors to write");
    for (int64_t i = 0; i < count; i++) {
        order[i].named = &tensors[i];
        name_item(&order[i]);
    }
    qsort(order, (size_t)count, sizeof *order, by_name);
    return order;
}

static const char *dtype_word(DType dtype) {
    static const char *const words[DTYPE_COUNT] = {
        [DTYPE_F32] = "F32", [DTYPE_F64] = "F64", [DTYPE_BF16] = "BF16", [DTYPE_F16] = "F16"};
    REQUIRE(words[dtype], "dtype %s", dtype_name(dtype));
    return words[dtype];
}

static DType file_dtype(const NamedTensor *named, int dtype) {
    return dtype == DTYPE_OWN ? named->tensor.dtype : (DType)dtype;
}

static uint64_t write_header(Text *header, const Item *order, int64_t count, int dtype) {
    JsonWriter w = {.out = header};
    int64_t offset = 0;
    json_begin(&w, NULL, '{');
    json_begin(&w, "__metadata__", '{'); // readers of the class want it
    json_string(&w, "format", "pt");
    json_end(&w, '}');
    for (int64_t i = 0; i < count; i++) {
        Tensor t = order[i].named->tensor;
        DType written = file_dtype(order[i].named, dtype);
        bool turned = order[i].named->transposed;
        json_begin(&w, order[i].name, '{');
        json_string(&w, "dtype", dtype_word(written));
        json_begin(&w, "shape", '[');
        for (int d = 0; d < t.rank; d++) json_integer(&w, NULL, t.shape[turned ? t.rank - 1 - d : d]);
        json_end(&w, ']');
        json_begin(&w, "data_offsets", '[');
        json_integer(&w, NULL, offset);
        offset += tensor_count(t) * (int64_t)dtype_bytes(written);
        json_integer(&w, NULL, offset);
        json_end(&w, ']');
        json_end(&w, '}');
    }
    json_end(&w, '}');
    while ((header->size + sizeof(uint64_t)) % HEADER_ALIGNMENT != 0) text_add(header, " ");
    return (uint64_t)offset;
}

typedef struct {
    FileWriter *writer;
    const Kernels *kernels;
    DType dtype; // of the tensor that is written
    char *raw, *converted; // PIECE elements each
} Output;

static void write_values(const Output *out, const void *values, DType from, int64_t count) {
    dtype_convert(out->converted, out->dtype, values, from, count);
    file_write(out->writer, out->converted, (size_t)count * dtype_bytes(out->dtype));
}

// The numbers of a contiguous tensor on the host: where they are, or brought to `buffer`.
static const char *on_host(const Output *out, Tensor t, char *buffer) {
    if (!out->kernels) return t.data;
    out->kernels->download(buffer, t);
    return buffer;
}

static void write_straight(const Output *out, Tensor t) {
    int64_t count = tensor_count(t);
    Tensor flat = tensor_reshape(t, count, 0, 0, 0);
    for (int64_t i = 0; i < count; i += PIECE) {
        int64_t size = count - i < PIECE ? count - i : PIECE;
        write_values(out, on_host(out, tensor_slice(flat, 0, i, size), out->raw), t.dtype, size);
    }
}

// As many columns at a time as fill a piece.
static void write_transposed(const Output *out, Tensor t) {
    int64_t rows = t.shape[0], columns = t.shape[1], bytes = (int64_t)dtype_bytes(t.dtype), most = PIECE / rows;
    char *buffer = out->kernels ? memory_grow(NULL, (int64_t)tensor_size_bytes(t), 1, "a tensor to write") : NULL;
    REQUIRE(most > 0, "a matrix of %ld rows", rows);
    const char *whole = on_host(out, t, buffer);
    for (int64_t c = 0; c < columns; c += most) {
        int64_t some = columns - c < most ? columns - c : most;
        elements_transpose(out->raw, whole + c * bytes, rows, some, columns, (size_t)bytes);
        write_values(out, out->raw, t.dtype, some * rows);
    }
    free(buffer);
}

static void write_zeros(const Output *out, Tensor t) {
    memset(out->converted, 0, PIECE * sizeof(double));
    for (int64_t left = tensor_count(t); left > 0; left -= PIECE)
        file_write(out->writer, out->converted, (size_t)(left < PIECE ? left : PIECE) * dtype_bytes(out->dtype));
}

bool safetensors_write(FileWriter *writer, const Kernels *kernels, const NamedTensor *tensors, int64_t count,
                       int dtype) {
    Item *order = sorted(tensors, count);
    Text header = {0};
    uint64_t data = write_header(&header, order, count, dtype), length = header.size;
    file_reserve(writer, sizeof length + length + data);
    file_write(writer, &length, sizeof length);
    file_write(writer, header.data, header.size);
    Output out = {writer, kernels, DTYPE_F32, memory_grow(NULL, PIECE, sizeof(double), "a piece to write"),
                  memory_grow(NULL, PIECE, sizeof(double), "a piece to write")};
    for (int64_t i = 0; i < count && !writer->error; i++) {
        const NamedTensor *named = order[i].named;
        out.dtype = file_dtype(named, dtype);
        if (named->zero) write_zeros(&out, named->tensor);
        else if (named->transposed && named->tensor.rank == 2) write_transposed(&out, named->tensor);
        else write_straight(&out, named->tensor);
    }
    free(out.raw);
    free(out.converted);
    free(order);
    text_close(&header);
    return writer->error == 0;
}
