#include "commands/telemetry.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "commands/console.h"
#include "data/metric.h"
#include "runtime/memory.h"
#include "runtime/nvml.h"
#include "runtime/thread.h"

typedef struct {
    char address[DEVICE_ADDRESS];
    NvmlDevice *device;
    NvmlSample sample, first;
    double integral, at; // of its power in J, up to the time of `sample`
} Gpu;

enum { NUMBERS = NVML_POWER_LIMIT }; // in lines: those before it

// All GPUs together.
typedef struct {
    double numbers[NUMBERS];
    unsigned throttle;
    double seconds; // that it took
} Look;

struct Telemetry {
    pthread_t thread;
    pthread_mutex_t mutex; // of what follows
    pthread_cond_t changed;
    bool ends, over;         // over: nobody looks any more
    int64_t asked, answered; // for looks that begin after that
    int64_t taken, given;    // looks
    Look look;               // the last one
    Errors notices;

    double before; // joules of processes that are over
    double every; // the thread's own
    bool leads;
    unsigned told; // reasons of throttling
    int count;
    Gpu gpus[];
};

// ---- what is in the lines ----

typedef enum { SUM, MOST, LEAST, MEAN } Merge;
static const struct {
    Metric metric;
    Merge merge; // of several GPUs
} rows[NUMBERS] = {
    [NVML_POWER] = {METRIC_GPU_POWER, SUM},   [NVML_TEMPERATURE] = {METRIC_GPU_TEMPERATURE, MOST},
    [NVML_CLOCK] = {METRIC_GPU_CLOCK, LEAST}, [NVML_MEMORY] = {METRIC_GPU_MEMORY, MOST},
    [NVML_ENERGY] = {METRIC_GPU_ENERGY, SUM}, [NVML_UTILIZATION] = {METRIC_GPU_UTILIZATION, MEAN},
};

static const struct {
    unsigned reason;
    const char *name, *words; // NULL: it is usual under full load, and not told
} reasons[] = {
    {THROTTLE_HEAT, "thermal", "it is too hot; look at its cooling"},
    {THROTTLE_POWER_BRAKE, "power brake", "the machine's power supply asks for it; look at that"},
    {THROTTLE_HARDWARE, "hardware", "it protects itself from heat or current; look at its cooling and power supply"},
    {THROTTLE_POWER_LIMIT, "power limit", NULL},
};
enum { REASONS = sizeof reasons / sizeof reasons[0] };

static double merged(Merge merge, double a, double b) {
    if (isnan(a) || isnan(b)) return NAN;
    if (merge == MOST) return a > b ? a : b;
    if (merge == LEAST) return a < b ? a : b;
    return a + b;
}

// ---- the thread ----

// Since the first look: as the GPU counts it, else its power over time.
static double energy_of(const Gpu *gpu) {
    double counted = gpu->first.numbers[NVML_ENERGY];
    return isnan(counted) ? gpu->integral : gpu->sample.numbers[NVML_ENERGY] - counted;
}

static void look_at(const Nvml *nvml, Gpu *gpu, bool first) {
    double before = gpu->sample.numbers[NVML_POWER], then = gpu->at;
    nvml_sample(nvml, gpu->device, &gpu->sample);
    gpu->at = clock_seconds();
    if (first) gpu->first = gpu->sample;
    double power = gpu->sample.numbers[NVML_POWER];
    gpu->integral = first ? 0 * power : gpu->integral + (gpu->at - then) * (before + power) / 2;
}

static Look look_at_all(Telemetry *t, const Nvml *nvml, bool first) {
    Look look = {0};
    double began = clock_seconds();
    for (int i = 0; i < t->count; i++) {
        Gpu *gpu = &t->gpus[i];
        look_at(nvml, gpu, first);
        for (int n = 0; n < NUMBERS; n++) {
            double value = n == NVML_ENERGY ? energy_of(gpu) : gpu->sample.numbers[n];
            look.numbers[n] = i == 0 ? value : merged(rows[n].merge, look.numbers[n], value);
        }
        look.throttle |= gpu->sample.throttle;
    }
    for (int n = 0; n < NUMBERS; n++)
        if (rows[n].merge == MEAN) look.numbers[n] /= t->count;
    look.seconds = clock_seconds() - began;
    return look;
}

// Once for each reason, of the first GPU that has it.
static void notice_throttling(Telemetry *t) {
    for (int i = 0; i < t->count; i++)
        for (int r = 0; r < REASONS; r++) {
            const Gpu *gpu = &t->gpus[i];
            if (!reasons[r].words || !(gpu->sample.throttle & ~t->told & reasons[r].reason)) continue;
            t->told |= reasons[r].reason;
            errors_add(&t->notices, EXIT_USAGE, "GPU %s runs at %.0f MHz and %.0f C with its clocks held down: %s",
                       gpu->address, gpu->sample.numbers[NVML_CLOCK], gpu->sample.numbers[NVML_TEMPERATURE],
                       reasons[r].words);
        }
}

static struct timespec after(double seconds) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    double whole = floor(seconds);
    time.tv_sec += (time_t)whole;
    time.tv_nsec += (long)((seconds - whole) * 1e9);
    if (time.tv_nsec >= 1000000000) time.tv_sec++, time.tv_nsec -= 1000000000;
    return time;
}

// Held by the caller, as a condition wants it.
static void look_until_the_end(Telemetry *t, const Nvml *nvml) {
    while (!t->ends) {
        struct timespec next = after(t->every);
        bool first = t->taken == 0;
        int64_t asked = t->asked;
        pthread_mutex_unlock(&t->mutex);
        Look look = look_at_all(t, nvml, first);
        pthread_mutex_lock(&t->mutex);
        t->look = look;
        t->taken++;
        t->answered = asked;
        notice_throttling(t);
        pthread_cond_broadcast(&t->changed);
        while (!t->ends && t->asked == asked && pthread_cond_timedwait(&t->changed, &t->mutex, &next) != ETIMEDOUT) {}
    }
}

static bool find_gpus(Telemetry *t, const Nvml *nvml, Errors *errors) {
    for (int i = 0; i < t->count; i++)
        if (!(t->gpus[i].device = nvml_find(nvml, t->gpus[i].address, errors))) return false;
    return true;
}

static void *watch(void *argument) {
    Telemetry *t = argument;
    Errors errors = {0};
    Nvml *nvml = nvml_open(&errors); // which may take seconds, where no other process uses the GPUs
    bool found = nvml && find_gpus(t, nvml, &errors);
    pthread_mutex_lock(&t->mutex);
    if (t->leads && errors.count)
        errors_add(&t->notices, errors.exit_code, "%.*s; the metrics are without the GPUs' power, temperature and "
                   "clocks (log.gpu_seconds=0: without this message)", (int)errors.text.size - 1, errors.text.data);
    if (found) look_until_the_end(t, nvml);
    t->over = true;
    pthread_cond_broadcast(&t->changed);
    pthread_mutex_unlock(&t->mutex);
    if (nvml) nvml_close(nvml);
    errors_close(&errors);
    return NULL;
}

// ---- which GPUs ----

// Names may be alike, in a cloud of machines that were copied.
static void add_machine(Text *out) {
    char name[256] = "", boot[64] = "";
    gethostname(name, sizeof name - 1);
    FILE *file = fopen("/proc/sys/kernel/random/boot_id", "r");
    if (file && !fgets(boot, sizeof boot, file)) *boot = 0;
    if (file) fclose(file);
    text_printf(out, "%s %.36s ", name, boot);
}

// Each rank may see another part of its machine's GPUs, and knows its own best: a line "MACHINE BOOT ADDRESS" for each.
static void gather_lines(Run *run, Text *machine, Text *lines) {
    char address[DEVICE_ADDRESS];
    run->kernels->device_address(run_device(run), address);
    add_machine(machine);
    text_printf(lines, "%s%s\n", text_string(machine), address);
    run_collect(run, lines);
    ranks_share(run->ranks, lines);
}

static void add_gpu(Telemetry *t, const char *address, size_t size) {
    Gpu *gpu = &t->gpus[t->count];
    if (size == 0 || size >= sizeof gpu->address) return;
    memcpy(gpu->address, address, size);
    for (int i = 0; i < t->count; i++)
        if (strcmp(t->gpus[i].address, gpu->address) == 0) return;
    t->count++;
}

static Telemetry *list_gpus(Run *run) {
    Text machine = {0}, lines = {0};
    gather_lines(run, &machine, &lines);
    Telemetry *t = memory_take(1, sizeof *t + (size_t)(run->launch.size + 1) * sizeof *t->gpus, "states of GPUs");
    for (const char *at = text_string(&lines), *end; (end = strchr(at, '\n')); at = end + 1)
        if (strncmp(at, text_string(&machine), machine.size) == 0)
            add_gpu(t, at + machine.size, (size_t)(end - at) - machine.size);
    text_close(&machine);
    text_close(&lines);
    return t;
}

// ---- from outside ----

Telemetry *telemetry_begin(Run *run) {
    pthread_condattr_t attributes;
    if (run->kernels->is_host() || run->config.log.gpu_seconds == 0) return NULL;
    Telemetry *t = list_gpus(run);
    t->every = run->config.log.gpu_seconds;
    t->leads = run_leads(run);
    pthread_mutex_init(&t->mutex, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&t->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    bool watches = run->launch.local_rank == 0 && t->count > 0;
    if (watches && thread_start(&t->thread, watch, t)) return t;
    free(t);
    return NULL;
}

void telemetry_go_on(Telemetry *t, double joules) {
    if (t) t->before = joules;
}

static const double moment = 0.5; // seconds

static void tell_notices(Telemetry *t) {
    Errors notices = {0};
    pthread_mutex_lock(&t->mutex);
    errors_move(&notices, &t->notices);
    pthread_mutex_unlock(&t->mutex);
    console_errors(&notices);
}

// What a driver does not answer any more is left behind, with the thread.
void telemetry_end(Telemetry *t) {
    if (!t) return;
    pthread_mutex_lock(&t->mutex);
    t->ends = true;
    pthread_cond_broadcast(&t->changed);
    pthread_mutex_unlock(&t->mutex);
    struct timespec patience = after(moment);
    bool ended = pthread_clockjoin_np(t->thread, NULL, CLOCK_MONOTONIC, &patience) == 0;
    tell_notices(t);
    if (!ended) {
        pthread_detach(t->thread);
        return;
    }
    pthread_cond_destroy(&t->changed);
    pthread_mutex_destroy(&t->mutex);
    free(t);
}

void telemetry_json(Telemetry *t, JsonWriter *w) {
    if (!t) return;
    pthread_mutex_lock(&t->mutex);
    bool new = t->taken > t->given;
    Look look = t->look;
    t->given = t->taken;
    pthread_mutex_unlock(&t->mutex);
    tell_notices(t);
    look.numbers[NVML_ENERGY] += t->before;
    for (int n = 0; n < NUMBERS && new; n++)
        if (!isnan(look.numbers[n])) metric_json(w, rows[n].metric, look.numbers[n]);
    Text names = {0};
    for (int r = 0; r < REASONS && new; r++)
        if (look.throttle & reasons[r].reason)
            text_printf(&names, "%s%s", names.size > 0 ? ", " : "", reasons[r].name);
    if (names.size > 0) json_string(w, "gpu_throttle", text_string(&names));
    text_close(&names);
}

static bool look_again(Telemetry *t, Look *look) {
    if (!t) return false;
    struct timespec patience = after(moment);
    pthread_mutex_lock(&t->mutex);
    int64_t asked = ++t->asked;
    pthread_cond_broadcast(&t->changed);
    while (!t->over && t->answered < asked &&
           pthread_cond_timedwait(&t->changed, &t->mutex, &patience) != ETIMEDOUT) {}
    *look = t->look;
    bool known = t->answered >= asked;
    pthread_mutex_unlock(&t->mutex);
    return known;
}

double telemetry_energy(Telemetry *t) {
    Look look;
    return look_again(t, &look) ? look.numbers[NVML_ENERGY] : NAN;
}

double telemetry_look_seconds(Telemetry *t) {
    Look look;
    return look_again(t, &look) ? look.seconds : NAN;
}
