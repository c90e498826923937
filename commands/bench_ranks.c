// What ranks send in a step, counted from what each would own, and a model of how a run scales over them: from the
// micro-batch and the optimizer's step measured here, the bytes, and the speed of the links.
#include <math.h>
#include <stdio.h>

#include "commands/bench.h"
#include "runtime/integers.h"

enum { NUMBERS = 3 };
static const int numbers[NUMBERS] = {2, 4, 8}; // of ranks

// Bytes a second that a rank sends while a collective runs, of eight H100 or H200 on NVLink, as published for large
// messages; and seconds before the first byte of one.
static const double LINK = 365e9, LATENCY = 20e-6;

// Forward is a third of a micro-batch's work, backward the rest.
static const double FORWARD = 1.0 / 3;

typedef struct {
    int ranks;
    double reduced, gathered; // bytes that a rank sends in a step, in the mean
    double volume;            // numbers that a rank sends, for each of the parameters
    double imbalance;         // of the work on matrices
    double sent_seconds, exposed_seconds;
    double step_seconds, efficiency;
} Scaling;

// Time of messages behind each other, of which `hidden` seconds have something to compute beside them.
static double exposed(double bytes, int units, double hidden, double *seconds) {
    double sent = bytes / LINK + units * LATENCY;
    *seconds += sent;
    return fmax(0, sent - hidden);
}

static Scaling scale(const Run *run, const BenchTimes *times, int ranks) {
    const Optim *optim = &run->optim;
    Owners owners = optim_owners(optim, ranks);
    Scaling s = {.ranks = ranks, .imbalance = owners_imbalance(&owners)};
    for (int unit = 0; unit < owners.units; unit++) {
        Shares shares = owners_unit(&owners, unit);
        for (int rank = 0; rank < ranks; rank++) {
            s.reduced += comm_reduce_bytes(shares, run->wide, rank, ranks) / ranks;
            s.gathered += comm_gather_bytes(shares, run->compute, rank, ranks) / ranks;
        }
    }
    double sent = s.reduced / (double)dtype_bytes(run->wide) + s.gathered / (double)dtype_bytes(run->compute);
    s.volume = sent / (double)run->gpt.params.elements;
    int64_t micro_steps = divide_up(run->micro_steps, ranks);
    double even = fmax(1, (double)micro_steps * ranks / (double)run->micro_steps); // 1: all ranks are always busy
    double micro = times->micro_batch;
    s.exposed_seconds = exposed(s.reduced, owners.units, (1 - FORWARD) * micro, &s.sent_seconds) +
                        exposed(s.gathered, owners.units, FORWARD * micro, &s.sent_seconds) + LATENCY;
    s.step_seconds = (double)micro_steps * micro + times->optimizer * s.imbalance / ranks + s.exposed_seconds;
    double alone = (double)run->micro_steps * micro + times->optimizer;
    s.efficiency = even * alone / (ranks * s.step_seconds);
    owners_close(&owners);
    return s;
}

void bench_print_ranks(const Run *run, const BenchTimes *times) {
    char reduced[TEXT_NUMBER], gathered[TEXT_NUMBER], rate[TEXT_NUMBER];
    printf("\nSeveral ranks, dist.shard=optimizer: bytes that a rank sends in a step, counted from what each would\n"
           "own; and a MODEL of the rest, not measured: links of %.0f GB/s, %.0f us a message, compute as above\n",
           LINK * 1e-9, LATENCY * 1e6);
    printf("%-6s %12s %12s %12s %10s %10s %10s %12s %10s\n", "ranks", "reduced", "gathered", "numbers/par.", "sent ms",
           "exposed ms", "imbalance", "tokens/s", "efficiency");
    for (int i = 0; i < NUMBERS; i++) {
        Scaling s = scale(run, times, numbers[i]);
        double tokens = (double)run_step_tokens(run) / s.step_seconds;
        printf("%-6d %12s %12s %12.4f %10.2f %10.2f %10.3f %12s %9.1f%%\n", s.ranks, text_bytes(reduced, s.reduced),
               text_bytes(gathered, s.gathered), s.volume, 1e3 * s.sent_seconds, 1e3 * s.exposed_seconds, s.imbalance,
               text_count(rate, tokens), 100 * s.efficiency);
    }
}

void bench_ranks_json(const Run *run, const BenchTimes *times, JsonWriter *w) {
    json_begin(w, "ranks_model", '{');
    json_number(w, "link_bytes_per_second", LINK);
    json_number(w, "latency_seconds", LATENCY);
    json_begin(w, "ranks", '[');
    for (int i = 0; i < NUMBERS; i++) {
        Scaling s = scale(run, times, numbers[i]);
        json_begin(w, NULL, '{');
        json_integer(w, "ranks", s.ranks);
        json_number(w, "reduced_bytes", s.reduced);
        json_number(w, "gathered_bytes", s.gathered);
        json_number(w, "numbers_per_parameter", s.volume);
        json_number(w, "imbalance", s.imbalance);
        json_number(w, "sent_seconds", s.sent_seconds);
        json_number(w, "exposed_seconds", s.exposed_seconds);
        json_number(w, "step_seconds", s.step_seconds);
        json_number(w, "efficiency", s.efficiency);
        json_end(w, '}');
    }
    json_end(w, ']');
    json_end(w, '}');
}
