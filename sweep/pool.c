#include "sweep/pool.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "comm/launch.h"
#include "kernels/kernels.h"
#include "runtime/machine.h"
#include "runtime/memory.h"
#include "runtime/process.h"

enum { GPUS_LIMIT = 64, NOBODY = -1 };

// ---- places ----

// Of those names, or of all that this process may see: the driver takes names up to the first that it does not know.
// In a process of its own, so that this one never opens a driver.
static int64_t count_visible_gpus(const char *names) {
    Errors ignored = {0};
    int status;
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        if (names) setenv("CUDA_VISIBLE_DEVICES", names, true);
        const Kernels *kernels = kernels_find("cuda", &ignored);
        _exit(kernels ? (int)kernels->device_count() % 256 : 0);
    }
    if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status)) return 0;
    return WEXITSTATUS(status);
}

static void split(TextList *out, const char *names, int64_t most) {
    while (*names && out->count < most) {
        size_t size = strcspn(names, ",");
        Text name = {0};
        text_append(&name, names, size);
        if (size > 0) text_list_add(out, text_string(&name));
        text_close(&name);
        names += size + (names[size] == ',');
    }
}

static const char *find_twice(const TextList *names) {
    for (int64_t i = 0; i < names->count; i++)
        for (int64_t j = 0; j < i; j++)
            if (strcmp(names->items[i], names->items[j]) == 0) return names->items[i];
    return NULL;
}

static bool find_gpus(Pool *pool, const PoolSetup *setup, Errors *errors) {
    const char *visible = getenv("CUDA_VISIBLE_DEVICES");
    int64_t there = count_visible_gpus(setup->gpus);
    if (setup->gpus) {
        split(&pool->gpus, setup->gpus, GPUS_LIMIT);
        const char *twice = find_twice(&pool->gpus);
        if (twice) return errors_add(errors, EXIT_USAGE, "--gpus %s: %s is there twice", setup->gpus, twice);
        if (there == 0) return errors_add(errors, EXIT_USAGE, "--gpus %s: no GPU is seen; see train_gpt doctor",
                                          setup->gpus);
        if (there < pool->gpus.count)
            return errors_add(errors, EXIT_USAGE, "--gpus %s: the driver knows no GPU %s", setup->gpus,
                              pool->gpus.items[there]);
    } else if (visible && *visible) {
        split(&pool->gpus, visible, there < GPUS_LIMIT ? there : GPUS_LIMIT);
    } else {
        char name[TEXT_NUMBER];
        for (int64_t i = 0; i < there && i < GPUS_LIMIT; i++) {
            snprintf(name, sizeof name, "%ld", i);
            text_list_add(&pool->gpus, name);
        }
    }
    if (setup->gpus && pool->gpus.count < setup->gpus_per_run)
        return errors_add(errors, EXIT_USAGE, "--gpus %s: a run of this sweep takes %ld (budget.gpus_per_run)",
                          setup->gpus, setup->gpus_per_run);
    return true;
}

bool pool_open(Pool *pool, const PoolSetup *setup, Errors *errors) {
    *pool = (Pool){.cores = machine_threads(), .most = setup->most};
    int64_t jobs = setup->jobs > 0 ? setup->jobs : pool->cores;
    pool->gpus_per_run = setup->gpus_per_run > 0 ? setup->gpus_per_run : 1;
    if (!find_gpus(pool, setup, errors)) return false;
    if (jobs > setup->runs) jobs = setup->runs;
    if (setup->most > 0 && jobs > setup->most) jobs = setup->most;
    pool->jobs = jobs > 0 ? jobs : 1;
    pool->memory = (double)cpu_kernels.memory_bytes();
    pool->gpu_owners = memory_take(pool->gpus.count, sizeof(int64_t), "places for runs");
    pool->job_owners = memory_take(pool->jobs, sizeof(int64_t), "places for runs");
    for (int64_t i = 0; i < pool->gpus.count; i++) pool->gpu_owners[i] = NOBODY;
    for (int64_t i = 0; i < pool->jobs; i++) pool->job_owners[i] = NOBODY;
    pool->runs = memory_take(pool->gpus.count + pool->jobs, sizeof *pool->runs, "places for runs");
    return true;
}

void pool_take_signals(Pool *pool) {
    process_choose_signals(&pool->signals);
    sigprocmask(SIG_BLOCK, &pool->signals, &pool->before);
}

void pool_close(Pool *pool) {
    text_list_close(&pool->gpus);
    free(pool->gpu_owners), free(pool->job_owners), free(pool->runs);
    *pool = (Pool){0};
}

int64_t pool_places(const Pool *pool, bool host) {
    int64_t places = host ? pool->jobs : pool->gpus.count / pool->gpus_per_run;
    return pool->most > 0 && places > pool->most ? pool->most : places;
}

int64_t pool_threads(const Pool *pool, bool host) {
    int64_t places = pool_places(pool, host);
    return places > 0 && pool->cores > places ? pool->cores / places : 1;
}

// Takes the first free ones where there are enough of them, and gives them a name: "0,1".
static bool take_gpus(Pool *pool, int64_t run, char names[256]) {
    int64_t free_ones = 0, taken = 0;
    *names = 0;
    for (int64_t i = 0; i < pool->gpus.count; i++) free_ones += pool->gpu_owners[i] == NOBODY;
    for (int64_t i = 0; free_ones >= pool->gpus_per_run && taken < pool->gpus_per_run; i++) {
        if (pool->gpu_owners[i] != NOBODY) continue;
        if (run != NOBODY) pool->gpu_owners[i] = run;
        size_t size = strlen(names);
        snprintf(names + size, 256 - size, "%s%s", taken++ ? "," : "", pool->gpus.items[i]);
    }
    return taken > 0;
}

const char *pool_first_devices(const Pool *pool, char out[256]) {
    return take_gpus((Pool *)pool, NOBODY, out) ? out : NULL;
}

static bool take_job(Pool *pool, int64_t run, char name[256]) {
    for (int64_t i = 0; i < pool->jobs; i++) {
        if (pool->job_owners[i] != NOBODY) continue;
        pool->job_owners[i] = run;
        snprintf(name, 256, "%ld", i);
        return true;
    }
    return false;
}

static void give_back(Pool *pool, int64_t run) {
    for (int64_t i = 0; i < pool->gpus.count; i++)
        if (pool->gpu_owners[i] == run) pool->gpu_owners[i] = NOBODY;
    for (int64_t i = 0; i < pool->jobs; i++)
        if (pool->job_owners[i] == run) pool->job_owners[i] = NOBODY;
}

// Memory is planned for runs on the CPU alone; one that has the machine for itself may try.
bool pool_has_room(const Pool *pool, bool host, double bytes) {
    int64_t jobs = 0, free_gpus = 0;
    if (pool->most > 0 && pool->count >= pool->most) return false;
    for (int64_t i = 0; i < pool->count; i++)
        if (pool->runs[i].host) bytes += pool->runs[i].bytes, jobs++;
    if (host) return jobs < pool->jobs && (jobs == 0 || pool->memory == 0 || bytes <= pool->memory);
    for (int64_t i = 0; i < pool->gpus.count; i++) free_gpus += pool->gpu_owners[i] == NOBODY;
    return free_gpus >= pool->gpus_per_run;
}

// ---- processes ----

static void run_child(const Pool *pool, const PoolTask *task, const char *devices) {
    int log = open(task->log, O_WRONLY | O_CREAT | O_APPEND, 0666), input = open("/dev/null", O_RDONLY);
    dup2(input, STDIN_FILENO);
    dup2(log >= 0 ? log : open("/dev/null", O_WRONLY), STDOUT_FILENO);
    dup2(STDOUT_FILENO, STDERR_FILENO);
    if (log > STDERR_FILENO) close(log);
    if (input > STDERR_FILENO) close(input);
    launch_forget();
    if (devices) setenv("CUDA_VISIBLE_DEVICES", devices, true);
    if (pool->jobs > 1) setenv("OMP_WAIT_POLICY", "passive", false);
    unsetenv("OMP_NUM_THREADS"); // `threads` says it
    execv("/proc/self/exe", task->arguments->items);
    fprintf(stderr, "train_gpt: this program cannot be started again: %s\n", strerror(errno));
    fflush(NULL);
    _exit(EXIT_INTERNAL);
}

const PoolRun *pool_start(Pool *pool, const PoolTask *task, Errors *errors) {
    char names[256];
    bool several = !task->host && pool->gpus_per_run > 1;
    PoolRun run = {.run = task->run, .host = task->host, .bytes = task->host ? task->bytes : 0};
    if (!(task->host ? take_job : take_gpus)(pool, task->run, names)) return NULL;
    snprintf(run.slot, sizeof run.slot, "%s %.240s", task->host ? "cpu" : several ? "gpus" : "gpu", names);
    if (several) {
        char ranks[32];
        snprintf(ranks, sizeof ranks, "%ld", pool->gpus_per_run);
        text_list_add(task->arguments, "--ranks");
        text_list_add(task->arguments, ranks);
    }
    text_list_add(task->arguments, ""); // the end of what execv takes
    char **last = &task->arguments->items[task->arguments->count - 1];
    free(*last);
    *last = NULL;
    fflush(NULL);
    pid_t parent = getpid();
    run.pid = fork();
    if (run.pid == 0) {
        process_begin_child(parent, &pool->before);
        run_child(pool, task, task->host ? NULL : names);
    }
    if (run.pid < 0) {
        errors_add(errors, EXIT_COMM, "no process for another run can be had: %s", strerror(errno));
        give_back(pool, task->run);
        return NULL;
    }
    setpgid(run.pid, run.pid);
    run.began = clock_seconds();
    pool->runs[pool->count] = run;
    return &pool->runs[pool->count++];
}

int pool_wait(const Pool *pool, double seconds) {
    siginfo_t info;
    struct timespec time = {.tv_sec = (time_t)seconds, .tv_nsec = (long)((seconds - (double)(time_t)seconds) * 1e9)};
    int number = sigtimedwait(&pool->signals, &info, &time);
    return number > 0 ? number : 0;
}

bool pool_reap(Pool *pool, PoolRun *ended, int *status, double *seconds) {
    for (int64_t i = 0; i < pool->count; i++) {
        if (waitpid(pool->runs[i].pid, status, WNOHANG) <= 0) continue;
        *ended = pool->runs[i];
        *seconds = clock_seconds() - ended->began;
        pool->count--;
        memmove(&pool->runs[i], &pool->runs[i + 1], (size_t)(pool->count - i) * sizeof *pool->runs);
        give_back(pool, ended->run);
        return true;
    }
    return false;
}

void pool_signal(Pool *pool, int signal_number) {
    for (int64_t i = 0; i < pool->count; i++) {
        kill(pool->runs[i].pid, signal_number);
        pool->runs[i].killed = pool->runs[i].killed || signal_number == SIGKILL;
    }
}

void pool_rest(Pool *pool) {
    pool_signal(pool, SIGTSTP); // which a launcher of ranks passes on
    raise(SIGSTOP);
    for (int64_t i = 0; i < pool->count; i++) kill(pool->runs[i].pid, SIGCONT);
}
