// Sums over the rows of partial sums.
#include "kernels/cuda/columns.cuh"
#include "kernels/cuda/rows.cuh"

enum { ROW_LANES = 32 };

struct ColumnCall {
    ColumnSums sums[COLUMN_SUMS];
    int64_t columns;
};

// Row lane y adds rows y, y + ROW_LANES, ...; then the lanes are added in order.
static __global__ void __launch_bounds__(WARP *ROW_LANES) sum_columns(ColumnCall call) {
    SHARED(float, room, [ROW_LANES][WARP]);
    const ColumnSums &sums = call.sums[blockIdx.z];
    const int64_t column = blockIdx.x * static_cast<int64_t>(WARP) + threadIdx.x, group = blockIdx.y;
    if (group >= sums.groups) return; // all of the block
    const float *in = sums.in + group * sums.rows * sums.in_stride + column;
    float total = 0;
    if (column < call.columns)
#pragma unroll 8
        for (int64_t row = threadIdx.y; row < sums.rows; row += ROW_LANES) total += in[row * sums.in_stride];
    room[threadIdx.y][threadIdx.x] = total;
    __syncthreads();
    if (threadIdx.y > 0 || column >= call.columns) return;
#pragma unroll
    for (int lane = 1; lane < ROW_LANES; lane++) total += room[lane][threadIdx.x];
    float *out = sums.out + group * sums.out_stride + column;
    *out = sums.accumulate ? *out + total : total;
}

void cuda_column_sums(const ColumnSums *sums, int count, int64_t columns) {
    ColumnCall call = {};
    call.columns = columns;
    int64_t groups = 1;
    for (int i = 0; i < count; i++) {
        call.sums[i] = sums[i];
        groups = most(groups, sums[i].groups);
    }
    if (count == 0) return;
    const dim3 grid(ceil_div(columns, WARP), groups, count);
    QUEUE(sum_columns, grid, dim3(WARP, ROW_LANES), 0, call);
}
