// What a step's line costs in the steady state: metrics, TensorBoard and a terminal, as training writes them, into a
// folder that is removed and a terminal that nobody sees. A step of a tenth of a second lies between two lines, as
// caches and clocks are then; medians.
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "commands/bench.h"
#include "commands/console.h"
#include "commands/telemetry.h"
#include "commands/telling.h"
#include "runtime/file.h"

enum { LINES = 7 };
static const double between = 0.1; // seconds

// ---- a terminal ----

typedef struct {
    int controller, before; // -1: there is none; standard error as it was
    bool named;             // TERM was set here
} HiddenTerminal;

static HiddenTerminal open_terminal(void) {
    HiddenTerminal t = {posix_openpt(O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC), -1, !getenv("TERM")};
    const char *name = t.controller >= 0 && grantpt(t.controller) == 0 && unlockpt(t.controller) == 0
                           ? ptsname(t.controller) : NULL;
    int terminal = open(name ? name : "/dev/null", O_RDWR | O_NOCTTY | O_CLOEXEC); // steps that none made are not shown
    fflush(stderr);
    t.before = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
    if (terminal >= 0 && t.before >= 0) dup2(terminal, STDERR_FILENO);
    if (terminal >= 0) close(terminal);
    if (t.named) setenv("TERM", "xterm", 0);
    return t;
}

// So that it is never full.
static void drain(const HiddenTerminal *t) {
    char shown[4096];
    while (t->controller >= 0 && read(t->controller, shown, sizeof shown) > 0) {}
}

static void close_terminal(HiddenTerminal *t) {
    console_wipe();
    fflush(stderr);
    if (t->before >= 0) dup2(t->before, STDERR_FILENO);
    if (t->before >= 0) close(t->before);
    if (t->controller >= 0) close(t->controller);
    if (t->named) unsetenv("TERM");
}

// ---- the files ----

static bool open_files(Run *run, char folder[4096], Errors *errors) {
    const char *named = getenv("TMPDIR"), *place = named && *named ? named : "/tmp";
    path_join(folder, place, "thalweg-XXXXXX");
    if (!mkdtemp(folder))
        return errors_add(errors, EXIT_CANNOT_WRITE, "%s: no folder can be made there, and what logging costs is not "
                          "measured; set TMPDIR to another place", place);
    if (!metrics_open(&run->metrics, folder, 0, 0, errors)) return false;
    if (run->config.log.tensorboard) tensorboard_open(&run->tensorboard, folder, &run->metrics, 0, errors);
    return errors->count == 0;
}

static void remove_files(Run *run, const char *folder) {
    Errors ignored = {0};
    const char *paths[] = {run->metrics.file.path, run->tensorboard.file.path};
    for (int i = 0; i < 2; i++)
        if (*paths[i]) file_remove(paths[i], &ignored);
    metrics_close(&run->metrics);
    growing_close(&run->tensorboard.file);
    rmdir(folder);
    errors_close(&ignored);
}

// ---- measuring ----

static void measure(Run *run, const StepResult *step, Telling *telling, LoggingBench *out) {
    double lines[LINES], looks[LINES];
    const struct timespec pause = {.tv_nsec = (long)(between * 1e9)};
    HiddenTerminal terminal = open_terminal();
    for (int i = 0; i < LINES; i++) {
        nanosleep(&pause, NULL);
        looks[i] = telemetry_look_seconds(run->telemetry); // so that its numbers are in the line
        double began = clock_seconds();
        run->state.step++;
        tell_step(run, step, telling, between, true);
        lines[i] = clock_seconds() - began;
        drain(&terminal);
    }
    close_terminal(&terminal);
    out->line = bench_median(lines, LINES);
    out->look = isnan(looks[0]) ? NAN : bench_median(looks, LINES);
}

void bench_logging(Run *run, double step_seconds, double product_flops, LoggingBench *out) {
    char folder[4096];
    Errors errors = {0};
    StepResult step = {.loss = 3.21, .grad_norm = 0.987, .lr = 6e-4, .seconds = step_seconds};
    Telling telling = {.product_flops = product_flops};
    *out = (LoggingBench){NAN, NAN, run->config.log.gpu_seconds, run->config.log.tensorboard};
    if (open_files(run, folder, &errors)) measure(run, &step, &telling, out);
    if (run->metrics.unwritten.size > 0 || run->tensorboard.told) { // and was told where nobody sees it
        errors_add(&errors, EXIT_CANNOT_WRITE, "%s: what logging costs is not measured, as it cannot be written there; "
                   "set TMPDIR to another place", folder);
        out->line = NAN;
    }
    remove_files(run, folder);
    console_errors(&errors);
}

// ---- the result ----

// Of a step that takes so long, with what falls on it of the looks at the GPUs.
static double seconds_of(const LoggingBench *b, double step_seconds) {
    return b->line + (isnan(b->look) ? 0 : b->look * step_seconds / b->every);
}

void bench_print_logging(const LoggingBench *b, double step_seconds) {
    if (isnan(b->line)) return;
    printf("logging a step   %.0f us for metrics, %sterminal: %.2g %% of this step, %.2g %% of one of 100 ms\n",
           1e6 * b->line, b->tensorboard ? "TensorBoard, " : "", 100 * b->line / step_seconds, 100 * b->line / between);
    if (!isnan(b->look))
        printf("a look at GPUs   %.2g ms of a thread beside it, every %.3g s: %.2g %% of the time\n", 1e3 * b->look,
               b->every, 100 * b->look / b->every);
}

void bench_logging_json(const LoggingBench *b, double step_seconds, JsonWriter *w) {
    if (isnan(b->line)) return;
    json_number(w, "logging_seconds", seconds_of(b, step_seconds));
    json_number(w, "logging_share", seconds_of(b, step_seconds) / step_seconds);
    json_number(w, "logging_share_of_100ms", seconds_of(b, between) / between);
    if (!isnan(b->look)) json_number(w, "gpu_look_seconds", b->look);
}
