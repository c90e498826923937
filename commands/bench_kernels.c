// The table of operations: what each takes in a step when it runs alone, and what it would take if it did nothing but
// move its bytes at the rate of a copy, or multiply at the rate of a large product.
#include <stdio.h>
#include <string.h>

#include "commands/bench.h"
#include "kernels/checked.h"

double bench_copy_rate(const Kernels *k) {
    enum { LARGE = 1 << 29, SMALL = 1 << 26, TIMES = 5 }; // bytes of each side
    int64_t bytes = k->peak_flops(DTYPE_F32) > 0 || k->peak_flops(DTYPE_BF16) > 0 ? LARGE : SMALL;
    int64_t count = bytes / (int64_t)sizeof(float);
    char *memory = k->take_memory((size_t)(2 * bytes));
    double seconds[TIMES];
    if (!memory) return 0;
    Tensor sides[] = {tensor_1d(memory, DTYPE_F32, count), tensor_1d(memory + bytes, DTYPE_F32, count)};
    for (int i = -1; i < TIMES; i++) { // the first warms up
        double begin = clock_seconds();
        k->stream(sides, 2, 1, 1);
        k->finish();
        if (i >= 0) seconds[i] = clock_seconds() - begin;
    }
    k->return_memory(memory, (size_t)(2 * bytes));
    return 2.0 * (double)bytes / bench_median(seconds, TIMES);
}

// Of an operation that does all of it at once; 0 where it only waits or the rates are not known.
static double limit_seconds(const Tally *t, const BenchLimits *limits) {
    double computing = limits->flops > 0 ? t->flops / limits->flops : 0;
    double moving = limits->bytes > 0 ? t->bytes / limits->bytes : 0;
    return computing > moving ? computing : moving;
}

void bench_print_operations(const Tally *tallies, int count, const BenchLimits *limits) {
    double total = 0;
    char bytes[TEXT_NUMBER], flops[TEXT_NUMBER];
    for (int i = 0; i < count; i++) total += tallies[i].seconds;
    printf("\n%-26s %6s %9s %6s %10s %8s %9s %7s\n", "operation, each alone", "calls", "ms", "share", "bytes", "FLOP",
           "limit ms", "reached");
    for (int i = 0; i < count; i++) {
        const Tally *t = &tallies[i];
        double limit = limit_seconds(t, limits);
        printf("%-26s %6ld %9.3f %5.1f%% %10s %8s %9.3f %6.0f%%\n", t->operation, (long)t->calls, 1e3 * t->seconds,
               100 * t->seconds / total, text_bytes(bytes, t->bytes), text_count(flops, t->flops), 1e3 * limit,
               100 * limit / t->seconds);
    }
    printf("limits: %.1f GB/s of a copy", limits->bytes * 1e-9);
    if (limits->flops > 0) printf(", %.3f TFLOP/s of a large product", limits->flops * 1e-12);
    puts(", measured in this run");
}

void bench_operations_json(const Tally *tallies, int count, const BenchLimits *limits, JsonWriter *w) {
    json_number(w, "copy_bytes_per_second", limits->bytes);
    json_number(w, "product_flops_per_second", limits->flops);
    json_begin(w, "operations", '[');
    for (int i = 0; i < count; i++) {
        json_begin(w, NULL, '{');
        json_string(w, "operation", tallies[i].operation);
        json_integer(w, "calls", tallies[i].calls);
        json_number(w, "seconds", tallies[i].seconds);
        json_number(w, "bytes", tallies[i].bytes);
        json_number(w, "flops", tallies[i].flops);
        json_number(w, "limit_seconds", limit_seconds(&tallies[i], limits));
        json_end(w, '}');
    }
    json_end(w, ']');
}
