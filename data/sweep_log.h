// The record of a sweep, SWEEP/state.jsonl: one JSON object per line, only ever appended to. All that a sweep shows is
// made from it: the table, summary.csv, summary.json, report.html. The lines are described in docs/sweeps.md.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "runtime/error.h"
#include "runtime/text.h"

enum { SWEEP_ID = 13 }; // 12 hex digits of what a run is, and the terminator

// How a line ends that a crash or a full disk cut short, once another line stands behind it: it is passed over.
#define SWEEP_TORN "#torn"

// What became of a run. Results are never run again; the rest is, when the sweep is called again.
typedef enum {
    SWEEP_PLANNED,
    SWEEP_RUNNING,       // by a process that is at work, or was when it was killed
    SWEEP_PAUSED,        // at a rung, with a checkpoint: it may be promoted
    SWEEP_INTERRUPTED,   // by a signal, to it or to the sweep, with a checkpoint where it had begun
    SWEEP_FINISHED,      // a result
    SWEEP_DIVERGED,      // a result
    SWEEP_PRUNED,        // a result: others were better at its rung
    SWEEP_OUT_OF_MEMORY,
    SWEEP_NO_DATA,       // missing or damaged
    SWEEP_CANNOT_WRITE,  // a full disk, permissions
    SWEEP_REFUSED,       // its configuration
    SWEEP_FAILED,        // anything else
    SWEEP_STATUSES
} SweepStatus;
const char *sweep_status_name(SweepStatus status); // "out of memory"
const char *sweep_status_tag(SweepStatus status);  // "out_of_memory", as the lines have it
bool sweep_status_is_result(SweepStatus status);
bool sweep_status_is_failure(SweepStatus status); // from SWEEP_OUT_OF_MEMORY on

// What sets a run apart, in the order of the axes.
typedef struct {
    const char *key, *value; // the value as key=value takes it
    double number;           // NaN where it is none
} SweepSetting;

// A rung of successive halving that a run reached.
typedef struct {
    int64_t step;
    double metric; // NaN: it had none
} SweepRung;

typedef struct {
    char id[SWEEP_ID];
    const char *arm; // "" where the sweep has none
    SweepSetting *settings;
    int64_t setting_count;
    int64_t steps, step_tokens; // planned; 0: not known
    bool planned;               // by the newest plan; else it is of an older one
    SweepStatus status;
    const char *reason;  // of a failure or divergence; ""
    int exit_code, signal; // of its last process; signal 0: it ended by itself
    int64_t attempts, failures; // that were started, that failed
    SweepRung *rungs;    // where it was paused, in the order of the steps
    int64_t rung_count;
    int64_t until;       // the rung that its last process went for; 0: the end
    int64_t step;        // reached
    double metric, best; // the sweep's metric at `step`, and the best so far; NaN: none
    double seconds;      // of training, over all attempts
    double wall;         // of its processes, over all attempts
    double tokens_per_second, energy; // energy in joules, over all attempts; NaN: not known
    const char *host, *slot; // where it ran last; "": nowhere yet
} SweepRecord;

typedef struct {
    const char *name, *metric; // "val_loss"
    bool maximise, at_best;    // the result of a run is its best metric, else its last one
    SweepRecord *records;      // in the order in which they were first planned
    int64_t count;
    int64_t *places;   // numbers of records + 1, by a hash of their ids; 0: free
    int64_t place_count; // a power of two
    const char **keys; // of all settings, each once
    int64_t key_count;
    uint64_t plan;     // a hash of what the newest plan says
    int64_t bytes, lines; // that were read
    TextList strings;  // keeps all texts alive
} SweepHistory;

// Reads SWEEP/state.jsonl. A last line without its newline is passed over; lines that are none of ours are damage (65,
// with the line's number). False and 66 where there is no such file.
bool sweep_history_read(SweepHistory *history, const char *sweep_dir, Errors *errors);
bool sweep_history_read_on(SweepHistory *history, const char *sweep_dir, Errors *errors); // what came since
uint64_t sweep_plan_hash(const char *line); // of a line "plan"
void sweep_history_close(SweepHistory *history);
bool sweep_dir_is(const char *path); // whether it has a state.jsonl

// Whether the first of two metrics is the better one. NaN is worse than all numbers.
bool sweep_better(bool maximise, double a, double b);

const SweepRecord *sweep_record(const SweepHistory *history, const char *id); // NULL: none

// What a run gave that finished, as `at_best` says; NaN for all others.
double sweep_result(const SweepHistory *history, const SweepRecord *record);
const SweepRecord *sweep_best(const SweepHistory *history); // of those planned; NULL: none has a finite result

// Takes the runs of older plans out: their settings tell nothing of what the newest one has for all runs. The history
// is not to be read on.
void sweep_history_keep_planned(SweepHistory *history);

// Mean and standard error over runs of the newest plan that differ in nothing but run.seed.
typedef struct {
    const SweepRecord *first;
    int64_t seeds;        // with a finite result
    double mean, error;   // error NaN below two
} SweepGroup;
// Returns how many; `out` is to be freed by the caller. `of` gets the number of each run's group, or is NULL.
int64_t sweep_groups(const SweepHistory *history, SweepGroup **out, int64_t *of);

// summary.csv and summary.json in the sweep's directory, each replaced as a whole: docs/sweeps.md.
bool sweep_summary_write(const SweepHistory *history, const char *sweep_dir, Errors *errors);
