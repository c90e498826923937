// One child plans run after run and sends what it found; where a plan ends it, the next child goes on behind that run.
#include "sweep/forecast.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "commands/console.h"
#include "commands/estimate.h"
#include "runtime/memory.h"

// Of a large matrix product, a second, by is_host() and precision: measured once, and passed on to the next child, so
// that all times are of one measure.
typedef struct {
    double flops[2][DTYPE_COUNT];
} Rates;

// What a child sends for a run, with so many bytes of the problem behind it.
typedef struct {
    Forecast forecast; // without its problem
    Rates rates;
    size_t problem;
} Answer;

static Rates rates;

// ---- in the child ----

static void estimate(const Run *run, Forecast *out) {
    Estimate estimate;
    double *rate = &rates.flops[run->kernels->is_host()][run->compute];
    estimate_run_at(run, *rate, &estimate);
    if (estimate.product_flops > 0) *rate = estimate.product_flops;
    out->seconds = estimate.training_seconds + estimate.evaluation_seconds;
}

static void measure(const Run *run, Forecast *out) {
    Errors misfit = {0};
    out->steps = run->steps;
    out->step_tokens = run_step_tokens(run);
    out->bytes = (double)run_planned_bytes(run);
    out->there = (double)run_memory_bytes(run);
    out->fits = run_check_memory(run, &misfit);
    out->threads = run_threads(run);
    estimate(run, out);
    errors_close(&misfit);
}

static void plan(const SearchRun *search_run, const ForecastPlace *place, Forecast *out) {
    char threads[32], *overrides[] = {threads};
    Run run = RUN_CLOSED;
    Errors errors = {0};
    run.launch.local_size = run.planned_ranks = (int)place->ranks;
    snprintf(threads, sizeof threads, "threads=%ld", place->threads);
    *out = (Forecast){.fits = true, .seconds = NAN};
    out->good = config_parse(&run.config, "configuration", text_string(&search_run->config), overrides,
                             place->threads > 0, &errors) &&
                run_find_beginning(&run, &errors) &&
                run_plan(&run, RUN_TRAINING | RUN_DATA | RUN_VALIDATION, &errors) && run_check_beginning(&run, &errors);
    if (run.kernels) out->host = run.kernels->is_host();
    if (run.micro_steps > 0) measure(&run, out);
    out->exit_code = errors.exit_code;
    out->problem = errors.text;
    run_close(&run);
}

static void send_all(int to, const void *bytes, size_t size) {
    for (const char *at = bytes; size > 0;) {
        ssize_t sent = write(to, at, size);
        if (sent < 0 && errno == EINTR) continue;
        if (sent <= 0) _exit(EXIT_INTERNAL); // nobody listens any more
        at += sent;
        size -= (size_t)sent;
    }
}

// Standard error is `said`: what is there at the end belongs to the run that ended the process.
static _Noreturn void plan_all(const Search *search, const ForecastPlace *place, int64_t first, int to) {
    for (int64_t i = first; i < search->count; i++) {
        Answer answer;
        if (ftruncate(STDERR_FILENO, 0) == 0) lseek(STDERR_FILENO, 0, SEEK_SET);
        plan(&search->runs[i], place, &answer.forecast);
        Text problem = answer.forecast.problem;
        answer.forecast.problem = (Text){0};
        answer.problem = problem.size;
        answer.rates = rates;
        send_all(to, &answer, sizeof answer);
        send_all(to, problem.data, problem.size);
        text_close(&problem);
    }
    _exit(0);
}

// ---- in the parent ----

typedef struct {
    pid_t process;
    int from; // its answers
    int said; // what it wrote to standard error
} Child;

static bool receive(int from, void *bytes, size_t size) {
    for (char *at = bytes; size > 0;) {
        ssize_t got = read(from, at, size);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) return false;
        at += got;
        size -= (size_t)got;
    }
    return true;
}

// It stays in the group of its parent: Ctrl-C ends it, whatever the parent does.
static void begin_child(pid_t parent) {
    sigset_t none;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) _exit(EXIT_INTERNAL);
    signal(SIGINT, SIG_DFL);
    signal(SIGTERM, SIG_DFL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    error_abort_hook = NULL;
}

static bool start(const Search *search, const ForecastPlace *place, int64_t first, Child *child, Errors *errors) {
    int ends[2];
    pid_t parent = getpid();
    child->said = memfd_create("said", MFD_CLOEXEC);
    if (child->said < 0 || pipe(ends) != 0) {
        if (child->said >= 0) close(child->said);
        return errors_add(errors, EXIT_INTERNAL, "no pipe for planning the runs: %s", strerror(errno));
    }
    fflush(NULL);
    child->process = fork();
    if (child->process == 0) {
        begin_child(parent);
        close(ends[0]);
        dup2(child->said, STDERR_FILENO);
        if (place->devices) setenv("CUDA_VISIBLE_DEVICES", place->devices, 1);
        plan_all(search, place, first, ends[1]);
    }
    close(ends[1]);
    child->from = ends[0];
    if (child->process > 0) return true;
    close(child->from);
    close(child->said);
    return errors_add(errors, EXIT_INTERNAL, "no process for planning the runs: %s", strerror(errno));
}

static void read_said(int said, Text *out) {
    char bytes[4096];
    ssize_t size = pread(said, bytes, sizeof bytes, 0);
    static const char name[] = "train_gpt: ";
    const char *begin = bytes;
    if (size <= 0) return;
    if ((size_t)size > strlen(name) && memcmp(bytes, name, strlen(name)) == 0) begin += strlen(name);
    text_escape(out, begin, (size_t)(bytes + size - begin));
}

// What ended the child belongs to the run that it was at. False where a person did it.
static bool finish(Child *child, Forecast *ended, Errors *errors) {
    int status = 0;
    close(child->from);
    while (waitpid(child->process, &status, 0) < 0 && errno == EINTR) continue;
    int signal_number = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
    bool interrupted = signal_number == SIGINT || signal_number == SIGTERM;
    if (interrupted) errors_add(errors, EXIT_INTERRUPTED, "planning the runs was interrupted");
    if (ended) {
        *ended = (Forecast){.fits = true, .seconds = NAN};
        ended->exit_code = WIFEXITED(status) && WEXITSTATUS(status) ? WEXITSTATUS(status) : EXIT_INTERNAL;
        read_said(child->said, &ended->problem);
        if (signal_number) text_printf(&ended->problem, "planning it ended with signal %d\n", signal_number);
    }
    close(child->said);
    return !interrupted;
}

// Answers from run `first` on; returns the first run that has none.
static int64_t collect(const Child *child, Forecast *forecasts, int64_t first, int64_t count) {
    for (int64_t i = first; i < count; i++) {
        Answer answer;
        console_progress("planning the runs", i, count);
        if (!receive(child->from, &answer, sizeof answer)) return i;
        char *problem = memory_take((int64_t)answer.problem + 1, 1, "a message");
        bool whole = receive(child->from, problem, answer.problem);
        if (whole) {
            forecasts[i] = answer.forecast;
            rates = answer.rates;
            text_append(&forecasts[i].problem, problem, answer.problem);
        }
        free(problem);
        if (!whole) return i;
    }
    return count;
}

bool forecast_runs(const Search *search, const ForecastPlace *place, Forecast **out, Errors *errors) {
    Forecast *forecasts = memory_take(search->count, sizeof *forecasts, "forecasts");
    bool good = true;
    for (int64_t next = 0; good && next < search->count;) {
        Child child = {0};
        good = start(search, place, next, &child, errors);
        if (!good) break;
        next = collect(&child, forecasts, next, search->count);
        good = finish(&child, next < search->count ? &forecasts[next] : NULL, errors);
        next++;
    }
    console_wipe();
    if (!good) {
        forecast_close(forecasts, search->count);
        forecasts = NULL;
    }
    *out = forecasts;
    return good;
}

void forecast_close(Forecast *forecasts, int64_t count) {
    for (int64_t i = 0; forecasts && i < count; i++) text_close(&forecasts[i].problem);
    free(forecasts);
}

// ---- order ----

typedef struct {
    double seconds; // -1: not known
    int64_t number;
} Place;

static int longest_first(const void *a, const void *b) {
    const Place *p = a, *q = b;
    if (p->seconds != q->seconds) return p->seconds < q->seconds ? 1 : -1;
    return (p->number > q->number) - (p->number < q->number);
}

int64_t *forecast_order(const Forecast *forecasts, int64_t count) {
    Place *places = memory_take(count, sizeof *places, "the order of runs");
    int64_t *order = memory_take(count, sizeof *order, "the order of runs");
    for (int64_t i = 0; i < count; i++) {
        const Forecast *f = &forecasts[i];
        places[i] = (Place){f->good && !isnan(f->seconds) ? f->seconds : -1, i};
    }
    qsort(places, (size_t)count, sizeof *places, longest_first);
    for (int64_t i = 0; i < count; i++) order[i] = places[i].number;
    free(places);
    return order;
}
