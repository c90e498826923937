// Writing the record of a sweep, which several processes and hosts may share. See data/sweep_log.h.
#pragma once

#include "runtime/json.h"

typedef struct {
    char path[4096]; // of state.jsonl
    int descriptor;  // -1: closed
    Text unwritten;  // whole lines that could not be written yet
    int64_t read;    // bytes that there were when journal_grown was last asked
} Journal;

bool journal_open(Journal *journal, const char *sweep_dir, Errors *errors); // makes the file
void journal_close(Journal *journal, Errors *errors); // what was not written yet is told

// A line: journal_begin, members by the writer, journal_end. It becomes one write, while no other process writes. What
// cannot be written waits for the next line; the first failure of several is told. `sync`: fsync, too.
void journal_begin(JsonWriter *writer, Text *line, const char *event);
bool journal_end(Journal *journal, JsonWriter *writer, bool sync, Errors *errors); // closes the line
bool journal_flush(Journal *journal, Errors *errors); // true if every line is in the file

bool journal_grown(Journal *journal); // whether there are bytes that were not there the last time

// No other process appends, or does what is done in between, until journal_unlock.
void journal_lock(const Journal *journal);
void journal_unlock(const Journal *journal);
