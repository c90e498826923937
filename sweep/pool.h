// Places for runs, and the runs at work in them: each a process of its own, which ends where the sweep ends. A run
// takes `gpus_per_run` GPUs, or one of the jobs on the CPU.
#pragma once

#include <signal.h>
#include <sys/types.h>

#include "runtime/error.h"

typedef struct {
    int64_t run;      // its number; -1: nobody's
    pid_t pid;
    bool host;        // on the CPU
    double bytes;     // of memory that it will take there
    char slot[256];   // "gpu 0", "gpus 0,1", "cpu 2"
    double began;     // clock_seconds()
    bool killed;      // by us
} PoolRun;

typedef struct {
    TextList gpus;         // names as CUDA_VISIBLE_DEVICES takes them
    int64_t gpus_per_run;
    int64_t jobs, cores;   // on the CPU at a time
    int64_t most;          // runs at a time; 0: as many as there are places
    double memory;         // of this machine, in bytes; 0: not known
    int64_t *gpu_owners, *job_owners; // number of a run, or -1
    PoolRun *runs;         // at work, in the order in which they began
    int64_t count;
    sigset_t signals, before; // taken by pool_wait; the mask that processes get
} Pool;

typedef struct {
    const char *gpus;  // "0,1,..."; NULL: all that this process may see
    int64_t gpus_per_run;
    int64_t jobs;      // 0: as many as cores, at most `runs`
    int64_t runs;      // there are, at most
    int64_t most;
} PoolSetup;

bool pool_open(Pool *pool, const PoolSetup *setup, Errors *errors); // finds places; nothing is begun
void pool_close(Pool *pool);
int64_t pool_places(const Pool *pool, bool host); // runs at a time
int64_t pool_threads(const Pool *pool, bool host); // of each run
// For CUDA_VISIBLE_DEVICES of the first run: what all others get is like it. NULL: no GPUs are in use.
const char *pool_first_devices(const Pool *pool, char out[256]);

typedef struct {
    int64_t run;
    bool host;
    double bytes;
    TextList *arguments; // of train_gpt, after its name; gets --ranks where a run takes several GPUs
    const char *log;     // gets what it prints
} PoolTask;

bool pool_has_room(const Pool *pool, bool host, double bytes);
const PoolRun *pool_start(Pool *pool, const PoolTask *task, Errors *errors); // NULL: no process can be had now

// From here on signals wait for pool_wait; before, they end this process.
void pool_take_signals(Pool *pool);
// Until a signal comes, at most so long: its number; 0: none. A process that ended is SIGCHLD.
int pool_wait(const Pool *pool, double seconds);
// One that ended is taken out: true, how (waitpid(2)), and how long it was there.
bool pool_reap(Pool *pool, PoolRun *ended, int *status, double *seconds);
void pool_signal(Pool *pool, int signal_number); // to all
void pool_rest(Pool *pool); // Ctrl-Z: they rest as long as this process does
