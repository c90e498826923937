// Walks over the segments of the flat buffers.
#pragma once

#include "kernels/cpu/cpu.h"

// The part of a segment that lies in a range of the flat buffers.
typedef struct {
    const Segment *segment;
    int64_t index;        // of the segment in its list
    int64_t begin, count; // elements of the flat buffers
    int64_t from;         // begin, counted from the segment's first element
} Part;

// Calls `visit` on all threads for all parts; cut by the segments alone.
void segments_visit(Segments segments, void (*visit)(const void *context, Part part), const void *context);

// The first segment that ends after `offset`, and from there the parts in [begin, end) one after the other: false after
// the last.
int64_t segments_find(Segments segments, int64_t offset);
bool segments_next(Part *part, Segments segments, int64_t *next, int64_t begin, int64_t end);
