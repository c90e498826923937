// Console: what a person sees while a run goes on. A live line on a terminal, plain lines elsewhere; all on stderr.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "runtime/error.h"

typedef struct {
    double limit;             // floating-point operations per second of this machine's matrix products
    double flops_per_token;
    double tokens_per_second; // smoothed; the first step does not count
    double smoothing;         // total weight of what was smoothed so far
    int64_t step_tokens, steps;
} Console;

Console console_begin(double limit, int64_t step_tokens, double flops_per_token);
void console_count(Console *console, double seconds); // one step took so long

typedef struct {
    int64_t step, steps;
    double loss, lr, grad_norm;
    bool skipped;
} ConsoleStep;

// step, loss, learning rate, gradient norm, tokens/s, share of the limit, time left. Where there is no terminal at most
// one line a second; the metrics have them all.
void console_step(const Console *console, const ConsoleStep *step);

// On a terminal: "WHAT 12%", where it takes more than a second; the next line replaces it.
void console_progress(const char *what, int64_t done, int64_t all);

// Takes the live line away, for what follows on standard output.
void console_wipe(void);

// What follows is not shown, but for errors: another rank shows the same.
void console_be_quiet(void);

// What was collected, above the live line, and closes it.
void console_errors(Errors *errors);

// A line of its own, above the live line.
void console_note(const char *format, ...) __attribute__((format(printf, 1, 2)));
