#include "kernels/cpu/segments.h"

enum { BLOCK = 1 << 16 }; // elements of the flat buffers that one thread visits at a time

int64_t segments_find(Segments segments, int64_t offset) {
    int64_t low = 0, high = segments.count;
    while (low < high) {
        int64_t middle = (low + high) / 2;
        const Segment *segment = &segments.items[middle];
        if (segment->offset + segment->count > offset) high = middle;
        else low = middle + 1;
    }
    return low;
}

bool segments_next(Part *part, Segments segments, int64_t *next, int64_t begin, int64_t end) {
    if (*next == segments.count || segments.items[*next].offset >= end) return false;
    const Segment *segment = &segments.items[*next];
    int64_t from = segment->offset > begin ? segment->offset : begin;
    *part = (Part){segment, (*next)++, from, least(segment->offset + segment->count, end) - from,
                   from - segment->offset};
    return true;
}

void segments_visit(Segments segments, void (*visit)(const void *context, Part part), const void *context) {
    if (segments.count == 0) return;
    const Segment *last = &segments.items[segments.count - 1];
    int64_t elements = last->offset + last->count;
#pragma omp parallel for schedule(dynamic) num_threads(cpu_team(elements))
    for (int64_t begin = 0; begin < elements; begin += BLOCK) {
        int64_t end = least(begin + BLOCK, elements), next = segments_find(segments, begin);
        for (Part part; segments_next(&part, segments, &next, begin, end);) visit(context, part);
    }
}
