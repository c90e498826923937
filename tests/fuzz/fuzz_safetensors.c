// A safetensors file: refused, or every tensor lies inside it.
#include "data/safetensors.h"
#include "tests/fuzz/fuzz.h"

TARGET {
    Errors errors = {0};
    Safetensors *st = safetensors_open(fuzz_file(0, bytes, size), EXIT_DATA, &errors);
    fuzz_errors(&errors, !st);
    int64_t data = 0;
    unsigned sum = 0;
    for (int64_t i = 0; st && i < safetensors_count(st); i++) {
        const char *name = safetensors_name(st, i);
        HOLDS(strlen(name) < TENSOR_NAME);
        Tensor tensor = safetensors_find(st, name);
        int64_t count = tensor_present(tensor) ? (int64_t)tensor_size_bytes(tensor) : 0;
        for (int64_t b = 0; b < count; b++) sum += ((const unsigned char *)tensor.data)[b];
        data += count;
    }
    HOLDS(data <= (int64_t)size && sum <= 255 * (unsigned)size);
    safetensors_close(st);
    return 0;
}
