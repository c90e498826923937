// A sweep at work: which run is begun next, and what is written down when one ends. All that it knows of the runs it
// reads in state.jsonl, where other processes may write, too.
#pragma once

#include "sweep/claims.h"
#include "sweep/follow.h"
#include "sweep/forecast.h"
#include "sweep/halving.h"
#include "sweep/journal.h"
#include "sweep/pool.h"

typedef struct {
    int64_t number;    // in Search.runs
    bool ours;         // of this shard
    bool host;         // it takes a place of the CPU
    Claim claim;       // held while it is at work here
    Follow follow;     // its metrics, from then on
    int64_t until;     // the rung that it goes for
    int64_t log_from;  // size of its log, and
    int64_t step_before; // its step, before it began
    int64_t failures;  // when this process began
    bool left;         // it ended by a signal that is not ours: not again by this process
    double try_at;     // clock_seconds(), where another process had it
    bool given_up;     // its lock file cannot be had
    const SweepRecord *record; // NULL: in no line yet
} WorkRun;

typedef struct {
    const Search *search;
    const Forecast *forecasts;
    int64_t *order;   // numbers of runs, longest first
    Pool pool;
    Journal journal;
    SweepHistory history;
    WorkRun *runs;
    HalvingMove *moves;
    HalvingRun *halving; // NULL: nothing is pruned
    bool has_threads;    // the configuration says how many; else the pool does
    double begun;        // clock_seconds()
    bool stopping;       // no more runs are begun
    bool interrupted;    // by SIGINT
    double idle_since;   // clock_seconds() when something was at work last
    bool told_of_waiting;
    double summary_at, reported; // clock_seconds() of the next summary, of the last report
    bool stale, report_due;     // something came since
    pid_t reporter;      // who makes one; 0: nobody
    bool report_failed;
    Text told;           // the last message of what hinders
    int trouble;         // its exit code; 0: there was none
} Work;

typedef struct {
    const Search *search;
    const Forecast *forecasts;
    bool has_threads;      // the configuration says how many
    int64_t shard, shards; // of the file's order, every shards-th run from `shard` on
} WorkSetup;

// Makes the folder, writes what is planned, takes over what the folder has. `pool` becomes the work's.
bool work_open(Work *work, const WorkSetup *setup, Pool *pool, Errors *errors);
int work_run(Work *work); // until all is done, or a signal: the exit code
void work_close(Work *work);

void work_run_dir(const Work *work, int64_t run, char out[4096]);
bool work_is_open(const Work *work, int64_t run); // it may still be begun, now or later, by this process
// The parts of work_run: reads what came to the record since, of any process; and takes a run, looks what others wrote
// of it meanwhile, and begins or prunes it where that is still to be done. False: not now.
void work_look(Work *work);
bool work_take(Work *work, int64_t run, bool prune, Errors *errors);
