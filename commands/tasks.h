// Tasks: what an evaluation measures (eval.tasks, `eval --tasks`). The table is in tasks.c.
#pragma once

#include "commands/run.h"
#include "runtime/json.h"

typedef struct {
    bool present; // the file holds this style
    double acc, acc_norm; // shares of the examples
    double acc_stderr, acc_norm_stderr;
} HellaswagScore;

typedef struct {
    int64_t examples;
    HellaswagScore scores[HELLASWAG_STYLES];
    double seconds;
    bool finite; // no loss was NaN or infinite
} HellaswagResult;

typedef struct {
    unsigned tasks; // that were run, as run->tasks
    Evaluation val;
    HellaswagResult hellaswag;
} TaskResults;

// Names of eval.tasks to run->tasks; exit 2 where there is none of that name.
bool tasks_find(Run *run, Errors *errors);
bool tasks_check(Run *run, Errors *errors); // exit 2 where a run that trains lacks what its tasks are to have
bool tasks_has(const Run *run, const char *name);
// Opens what the tasks need beside the shards, behind the shape: so that nothing is missing when they are run.
bool tasks_plan(Run *run, Errors *errors);

// All of run->tasks. False without a message where it was stopped: then nothing of it counts.
bool tasks_run(Run *run, TaskResults *results, Errors *errors);
bool tasks_finite(const TaskResults *results);

// Members of a line of metrics; with `full` those of `eval --json`.
void tasks_json(const TaskResults *results, bool full, JsonWriter *writer);
void tasks_print(const Run *run, const TaskResults *results, Text *out); // lines for people
void tasks_note(const TaskResults *results, Text *out);                  // a part of one line

// ---- rows of the table ----

extern const char *const hellaswag_names[HELLASWAG_STYLES]; // "hellaswag_llmc", "hellaswag_lmeval"
bool hellaswag_plan(Run *run, Errors *errors);
bool hellaswag_run(Run *run, TaskResults *results, Errors *errors);
void hellaswag_json(const TaskResults *results, bool full, JsonWriter *writer);
void hellaswag_print(const Run *run, const TaskResults *results, Text *out);
void hellaswag_note(const TaskResults *results, Text *out);
