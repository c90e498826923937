// Embeddings: rows of tables by id, and their gradient, of which each thread owns some columns.
#include "kernels/cpu/cpu.h"

#include <string.h>

static const float *table_row(Matrix table, int64_t id) {
    REQUIRE(id >= 0 && id < table.rows, "id %ld of %ld", (long)id, (long)table.rows);
    return matrix_row(table, id);
}

void cpu_embedding_forward(Tensor out_tensor, Tensor table_tensor, Tensor ids_tensor, Tensor position_table_tensor,
                           Tensor positions_tensor) {
    Matrix out = cpu_matrix(out_tensor), table = cpu_matrix(table_tensor);
    Matrix position_table = cpu_matrix(position_table_tensor);
    const int32_t *ids = cpu_integers(ids_tensor), *positions = cpu_integers(positions_tensor);
    int64_t n = out.columns;
    REQUIRE(tensor_count(ids_tensor) == out.rows && table.columns == n, "%ld ids, %ld rows",
            (long)tensor_count(ids_tensor), (long)out.rows);
#pragma omp parallel for num_threads(cpu_team(out.rows * n))
    for (int64_t r = 0; r < out.rows; r++) {
        float *x = matrix_row(out, r);
        memcpy(x, table_row(table, ids[r]), (size_t)n * sizeof *x);
        if (!position_table.data) continue;
        const float *position = table_row(position_table, positions[r]);
#pragma omp simd
        for (int64_t i = 0; i < n; i++) x[i] += position[i];
    }
}

void cpu_embedding_backward(Tensor dtable_tensor, Tensor dout_tensor, Tensor ids_tensor, Tensor order_tensor) {
    Matrix dtable = cpu_matrix(dtable_tensor), dout = cpu_matrix(dout_tensor);
    const int32_t *ids = cpu_integers(ids_tensor), *order = cpu_integers(order_tensor);
    REQUIRE(tensor_count(ids_tensor) == dout.rows && tensor_count(order_tensor) == dout.rows, "%ld ids, %ld rows",
            (long)tensor_count(ids_tensor), (long)dout.rows);
#pragma omp parallel for schedule(dynamic) num_threads(cpu_team(dout.rows * dout.columns))
    for (int64_t column = 0; column < dout.columns; column += COLUMN_BLOCK) {
        int64_t n = least(COLUMN_BLOCK, dout.columns - column);
        for (int64_t r = 0; r < dout.rows; r++) {
            float *sum = dtable.data + ids[order[r]] * dtable.stride + column;
            const float *term = matrix_row(dout, order[r]) + column;
#pragma omp simd
            for (int64_t i = 0; i < n; i++) sum[i] += term[i];
        }
    }
}
