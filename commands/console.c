#include "commands/console.h"

#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include "runtime/text.h"

static bool live_line; // a live line stands on the terminal and must be wiped first
static bool quiet;

void console_be_quiet(void) { quiet = true; }

Console console_begin(double limit, int64_t step_tokens, double flops_per_token) {
    return (Console){.limit = limit, .flops_per_token = flops_per_token, .step_tokens = step_tokens};
}

void console_count(Console *c, double seconds) {
    enum { MEMORY = 20 }; // steps
    double rate = (double)c->step_tokens / seconds;
    if (c->steps++ == 0) {
        c->tokens_per_second = rate;
        return;
    }
    double share = 1.0 / MEMORY;
    c->smoothing = (1 - share) * c->smoothing + share;
    c->tokens_per_second =
        c->steps == 2 ? rate : c->tokens_per_second + share / c->smoothing * (rate - c->tokens_per_second);
}

void console_step(const Console *c, const ConsoleStep *s) {
    char rate[TEXT_NUMBER], left[TEXT_NUMBER];
    double seconds = (double)((s->steps - s->step) * c->step_tokens) / c->tokens_per_second;
    static double shown; // when the last plain line was
    double now = clock_seconds();
    bool terminal = isatty(STDERR_FILENO), ends = s->step == s->steps || s->skipped;
    if (quiet || (!terminal && !ends && now - shown < 1)) return;
    shown = now;
    fprintf(stderr, "%sstep %ld/%ld  loss %.4f  lr %.2e  norm %.3f  %s tok/s  %.0f%% of limit  ETA %s%s%s",
            terminal ? "\r\033[K" : "", s->step, s->steps, s->loss, s->lr, s->grad_norm,
            text_count(rate, c->tokens_per_second), 100 * c->tokens_per_second * c->flops_per_token / c->limit,
            text_duration(left, seconds), s->skipped ? "  SKIPPED" : "", terminal ? "" : "\n");
    live_line = terminal;
    fflush(stderr);
}

void console_progress(const char *what, int64_t done, int64_t all) {
    static double begun, shown;
    double now = clock_seconds();
    if (done == 0) begun = now;
    if (quiet || now - begun < 1 || now - shown < 0.2 || !isatty(STDERR_FILENO)) return;
    shown = now;
    live_line = true;
    fprintf(stderr, "\r\033[K%s %.0f%%", what, 100 * (double)done / (double)all);
    fflush(stderr);
}

void console_wipe(void) {
    if (live_line) fputs("\r\033[K", stderr);
    live_line = false;
}

void console_errors(Errors *errors) {
    console_wipe();
    if (errors->text.size > 0) text_print(stderr, "%s%s", error_prefix(), text_string(&errors->text));
    errors_close(errors);
}

void console_note(const char *format, ...) {
    if (quiet) return;
    console_wipe();
    va_list arguments;
    va_start(arguments, format);
    Text text = {0};
    text_vprintf(&text, format, arguments);
    va_end(arguments);
    bool ended = text.size > 0 && text.data[text.size - 1] == '\n';
    text_print(stderr, "%s%s", text_string(&text), ended ? "" : "\n");
    text_close(&text);
    fflush(stderr);
}
