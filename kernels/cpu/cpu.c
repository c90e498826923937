// The backend's table, its threads and its memory.
#include "kernels/cpu/cpu.h"

#include <cblas.h>
#include <omp.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

const Kernels cpu_kernels = {
    .name = "cpu",
#define K(result, operation, parameters) .operation = cpu_##operation,
    KERNELS(K)
#undef K
};

enum {
    TEAM_ELEMENTS = 1 << 14,       // below this a second thread costs more than it saves
    FILL_BYTES = 1 << 20,          // one piece of a fill
    PIECE_ELEMENTS = 1 << 10,      // one piece of a copy
    PAGE_BYTES = 4096,
    BLAS_THREAD_BYTES = 12 << 20,  // packed panels of one thread of OpenBLAS, as measured
};

static struct {
    int threads;
    float *scratch; // (threads, CPU_SCRATCH), then what they share
} cpu;

static size_t scratch_bytes(void) {
    return ((size_t)cpu.threads * CPU_SCRATCH + CPU_SHARED_SCRATCH) * sizeof *cpu.scratch;
}

bool cpu_open(int64_t threads, int64_t device, Errors *errors) {
    (void)device;
    enum { THREAD_LIMIT = 4096 };
    if (openblas_get_parallel() != OPENBLAS_OPENMP)
        return errors_add(errors, EXIT_INTERNAL, "OpenBLAS was loaded in a build without OpenMP; install "
                          "libopenblas0-openmp, or take the other build out of LD_LIBRARY_PATH and LD_PRELOAD");
    if (threads < 0 || threads > THREAD_LIMIT)
        return errors_add(errors, EXIT_USAGE, "threads: %ld is outside 0..%d (0: all cores)", (long)threads,
                          THREAD_LIMIT);
    cpu_close();
    cpu.threads = threads > 0 ? (int)threads : omp_get_num_procs();
    cpu.scratch = cpu_take_memory(scratch_bytes());
    if (!cpu.scratch)
        return errors_add(errors, EXIT_INTERNAL, "not enough memory for %d threads; set threads lower", cpu.threads);
    omp_set_dynamic(0);
    omp_set_num_threads(1); // what OpenBLAS goes by; our own regions name their team
    return true;
}

void cpu_close(void) {
    cpu_return_memory(cpu.scratch, scratch_bytes());
    cpu.scratch = NULL;
    cpu.threads = 0;
}

int cpu_team(int64_t elements) { return elements < TEAM_ELEMENTS ? 1 : cpu.threads; }

int64_t cpu_device_count(void) { return 1; }
void cpu_device_address(int64_t device, char out[DEVICE_ADDRESS]) { (void)device, *out = 0; }

float *cpu_scratch(void) { return cpu.scratch + (int64_t)omp_get_thread_num() * CPU_SCRATCH; }

float *cpu_shared_scratch(void) { return cpu.scratch + (int64_t)cpu.threads * CPU_SCRATCH; }

double cpu_peak_flops(DType dtype) { return (void)dtype, 0; }
void cpu_range_begin(const char *name) { (void)name; }
void cpu_range_end(void) {}
void cpu_write_choices(Text *out) { (void)out; }
bool cpu_read_choices(const char *text, Errors *errors) { return (void)text, (void)errors, true; }

void cpu_describe(Text *out) {
    text_printf(out, "OpenBLAS on %s, %d threads\n", openblas_get_corename(), cpu.threads);
}

size_t cpu_used_bytes(void) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return 1024 * (size_t)usage.ru_maxrss;
}

size_t cpu_workspace_bytes(void) { return scratch_bytes() + (size_t)cpu.threads * BLAS_THREAD_BYTES; }

// Work is done when a call returns: nothing is queued, no mark is ever ahead, and there is nothing to record.
void cpu_finish(void) {}
bool cpu_is_host(void) { return true; }
int64_t cpu_mark(void) { return 0; }
void cpu_wait(int64_t mark) { (void)mark; }
bool cpu_record(int64_t program) { return (void)program, false; }
void cpu_record_end(void) {}
bool cpu_replay(int64_t program) { return (void)program, false; }

// ---- memory ----

// What a control group allows; SIZE_MAX where there is no such file or no limit in it.
static size_t group_limit(const char *path) {
    unsigned long long limit;
    FILE *file = fopen(path, "r");
    bool limited = file && fscanf(file, "%llu", &limit) == 1;
    if (file) fclose(file);
    return limited ? (size_t)limit : SIZE_MAX;
}

size_t cpu_memory_bytes(void) {
    static const char *const groups[] = {"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"};
    size_t bytes = (size_t)sysconf(_SC_PHYS_PAGES) * (size_t)sysconf(_SC_PAGESIZE);
    for (int i = 0; i < 2; i++)
        if (group_limit(groups[i]) < bytes) bytes = group_limit(groups[i]);
    return bytes;
}

static size_t whole_pages(size_t bytes) {
    return bytes == 0 ? PAGE_BYTES : (bytes + PAGE_BYTES - 1) & -(size_t)PAGE_BYTES;
}

void *cpu_take_memory(size_t bytes) {
    if (bytes > SIZE_MAX - PAGE_BYTES) return NULL;
    bytes = whole_pages(bytes);
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) return NULL;
    madvise(memory, bytes, MADV_HUGEPAGE); // a wish: slower without
    return memory;
}

void cpu_return_memory(void *memory, size_t bytes) {
    if (memory) munmap(memory, whole_pages(bytes));
}

void *cpu_take_host_memory(size_t bytes) { return cpu_take_memory(bytes); }
void cpu_return_host_memory(void *memory, size_t bytes) { cpu_return_memory(memory, bytes); }
void cpu_download_later(void *host, Tensor in) { cpu_download(host, in); }

void cpu_upload(Tensor out, const void *host) {
    REQUIRE(tensor_contiguous(out), "strided upload");
    if (tensor_present(out)) memcpy(out.data, host, tensor_size_bytes(out));
}

void cpu_download(void *host, Tensor in) {
    REQUIRE(tensor_contiguous(in), "strided download");
    if (tensor_present(in)) memcpy(host, in.data, tensor_size_bytes(in));
}

// ---- whole tensors ----

static void copy_row(void *out, DType to, const void *in, DType from, int64_t count) {
    if (from == to) memmove(out, in, (size_t)count * dtype_bytes(to));
    else dtype_convert(out, to, in, from, count);
}

// The r-th row of a strided tensor: its index written in base `shape` of the leading dimensions.
static void *row_address(Tensor t, int64_t r) {
    int64_t offset = 0;
    for (int i = t.rank - 2; i >= 0; i--) {
        offset += r % t.shape[i] * t.stride[i];
        r /= t.shape[i];
    }
    return (char *)t.data + offset * (int64_t)dtype_bytes(t.dtype);
}

// Contiguous tensors as rows of one piece each, so that a flat buffer is not one row.
static Tensor in_pieces(Tensor t) {
    int64_t count = tensor_count(t);
    return tensor_contiguous(t) && count % PIECE_ELEMENTS == 0
               ? tensor_reshape(t, count / PIECE_ELEMENTS, PIECE_ELEMENTS, 0, 0)
               : t;
}

void cpu_copy(Tensor out, Tensor in) {
    REQUIRE(tensor_same_shape(out, in), "ranks %d and %d, %ld and %ld elements", out.rank, in.rank,
            (long)tensor_count(out), (long)tensor_count(in));
    if (!tensor_present(out)) return;
    if (tensor_contiguous(out) && tensor_contiguous(in)) out = in_pieces(out), in = in_pieces(in);
    int64_t rows = tensor_rows(out), columns = tensor_columns(out);
#pragma omp parallel for num_threads(cpu_team(rows * columns))
    for (int64_t r = 0; r < rows; r++)
        copy_row(row_address(out, r), out.dtype, row_address(in, r), in.dtype, columns);
}

static void fill_flat(char *bytes, size_t size) {
    int64_t pieces = (int64_t)((size + FILL_BYTES - 1) / FILL_BYTES);
#pragma omp parallel for num_threads(cpu_team((int64_t)size / 4))
    for (int64_t i = 0; i < pieces; i++) {
        size_t begin = (size_t)i * FILL_BYTES;
        memset(bytes + begin, 0, size - begin < FILL_BYTES ? size - begin : FILL_BYTES);
    }
}

void cpu_fill_zero(Tensor out) {
    if (!tensor_present(out)) return;
    if (tensor_contiguous(out)) {
        fill_flat(out.data, tensor_size_bytes(out));
        return;
    }
    size_t row_bytes = (size_t)tensor_columns(out) * dtype_bytes(out.dtype);
    for (int64_t r = 0, rows = tensor_rows(out); r < rows; r++) memset(row_address(out, r), 0, row_bytes);
}

void cpu_add_column_sums(float *sums, Matrix matrix) {
#pragma omp parallel for schedule(dynamic) num_threads(cpu_team(matrix.rows * matrix.columns))
    for (int64_t column = 0; column < matrix.columns; column += COLUMN_BLOCK) {
        int64_t n = least(COLUMN_BLOCK, matrix.columns - column);
        double block[COLUMN_BLOCK] = {0};
        for (int64_t r = 0; r < matrix.rows; r++) {
            const float *row = matrix_row(matrix, r) + column;
            for (int64_t i = 0; i < n; i++) block[i] += row[i];
        }
        for (int64_t i = 0; i < n; i++) sums[column + i] += (float)block[i];
    }
}

Matrix cpu_matrix(Tensor tensor) {
    if (!tensor_present(tensor)) return (Matrix){0};
    Tensor rows = tensor_merge_rows(tensor);
    return (Matrix){cpu_floats(rows), rows.shape[0], rows.shape[1], rows.stride[0]};
}
