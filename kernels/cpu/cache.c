// Keys and values of new tokens, put where attention of later queries reads them.
#include <string.h>

#include "kernels/cpu/cpu.h"

void cpu_cache_store(Tensor out, Tensor in, Tensor positions) {
    const int32_t *position = cpu_integers(positions);
    int64_t tokens = in.shape[1], heads = in.shape[2], width = in.shape[3];
    cpu_floats(out), cpu_floats(in);
    REQUIRE(out.rank == 4 && in.rank == 4 && out.shape[0] == in.shape[0] && out.shape[2] == heads &&
                out.shape[3] == width && tensor_count(positions) == in.shape[0] * tokens,
            "(%ld, %ld, %ld, %ld) into (%ld, %ld, %ld, %ld)", (long)in.shape[0], (long)tokens, (long)heads,
            (long)width, (long)out.shape[0], (long)out.shape[1], (long)out.shape[2], (long)out.shape[3]);
#pragma omp parallel for num_threads(cpu_team(tensor_count(in)))
    for (int64_t i = 0; i < in.shape[0] * tokens; i++) {
        if (position[i] < 0 || position[i] >= out.shape[1]) continue;
        for (int64_t h = 0; h < heads; h++)
            memcpy(cpu_head(out, i / tokens, position[i], h), cpu_head(in, i / tokens, i % tokens, h),
                   (size_t)width * sizeof(float));
    }
}
