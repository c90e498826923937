#include "runtime/batch.h"

#include <string.h>

void batch_sort(int32_t *order, const int32_t *ids, int64_t n, int64_t bound, int32_t *counts) {
    memset(counts, 0, (size_t)(bound + 1) * sizeof *counts);
    for (int64_t i = 0; i < n; i++) counts[ids[i] + 1]++;
    for (int64_t id = 0; id < bound; id++) counts[id + 1] += counts[id]; // where the run of `id` begins
    for (int64_t i = 0; i < n; i++) order[counts[ids[i]]++] = (int32_t)i;
}
