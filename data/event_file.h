// TensorBoard's event files: records of a length, a payload and the checksums of both; a payload is a protocol buffer
// of a time, a step and either the file's version, scalars by tag, or the mark that a run begins again.
#pragma once

#include "runtime/text.h"

typedef struct {
    char tag[96];
    float value;
} EventScalar;

// Each adds one record. `time` is in seconds since 1970.
void events_add_version(Text *out, double time); // the first one of a file
void events_add_scalars(Text *out, double time, int64_t step, const EventScalar *scalars, int count);
// Readers drop what they have of `step` and later ones.
void events_add_restart(Text *out, double time, int64_t step);

// A record as it stands in a file, with its length and checksums.
typedef struct {
    const void *bytes; // NULL: before the first one
    size_t size;
    double time;
    int64_t step; // 0 as well where the payload has its fields in another order than ours
} EventRecord;
bool events_next(const void *bytes, size_t size, EventRecord *record); // false at the end or the first damage

uint32_t crc32c(const void *bytes, size_t size);
