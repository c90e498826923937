// What metrics.jsonl tells, for TensorBoard: event files in the run directory, one for each process that trained. They
// follow the lines of the metrics, so that nothing about them needs to be kept in a checkpoint.
#pragma once

#include "data/metrics.h"

typedef struct {
    GrowingFile file;
    int64_t followed; // bytes of the metrics' lines (metrics_end) that are in it
    int64_t restart;  // step of a mark that the run begins again, which is still to be written; -1: none
    bool told;        // that it cannot be written
} TensorBoard;

// A new file, behind all others in the order of their names, of a run that goes on at `step`. It begins again where the
// last one still tells what the metrics do; else, as where none was written for a while, with the beginning. The
// metrics' lines from there on are written again. A failure is told and stops nothing: the file is closed then.
void tensorboard_open(TensorBoard *board, const char *run_dir, const Metrics *metrics, int64_t step, Errors *errors);
// Metrics went back to `step`.
void tensorboard_go_back(TensorBoard *board, const Metrics *metrics, int64_t step, Errors *errors);
// Writes what is missing, in one write where that is the last line, `line`. What cannot be written waits for the next
// call; the first failure of several is told. Does nothing while closed.
void tensorboard_follow(TensorBoard *board, const Metrics *metrics, const char *line, Errors *errors);

// The record of a line, added to `out`: of one that tells of no step, none.
void tensorboard_add_line(Text *out, double time, const char *line, size_t size);
