#include "data/metrics.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "runtime/file.h"

// What stands behind `keep` goes to a file of its own, then is cut off.
static bool set_aside(const char *run_dir, Metrics *metrics, int64_t keep, int64_t step, Errors *errors) {
    File file;
    if (!file_map(&file, metrics->path, EXIT_DATA, errors)) return false;
    char name[64], path[4096];
    snprintf(name, sizeof name, "metrics.%ld.orphan.jsonl", step);
    path_join(path, run_dir, name);
    bool good = true;
    if ((int64_t)file.size < keep)
        good = errors_add(errors, EXIT_DATA,
                          "%s: %zu bytes, but the checkpoint was written after %ld; bring the file back", metrics->path,
                          file.size, keep);
    bool tail = good && (int64_t)file.size > keep;
    if (tail) good = file_replace(path, file.bytes + keep, file.size - (size_t)keep, errors);
    file_close(&file);
    return good && (!tail || file_cut(metrics->descriptor, metrics->path, (uint64_t)keep, errors));
}

bool metrics_open(Metrics *metrics, const char *run_dir, int64_t keep, int64_t step, Errors *errors) {
    *metrics = (Metrics){.descriptor = -1};
    path_join(metrics->path, run_dir, "metrics.jsonl");
    metrics->descriptor = file_open_append(metrics->path, errors);
    if (metrics->descriptor < 0) return false;
    if (keep >= 0 && !set_aside(run_dir, metrics, keep, step, errors)) {
        metrics_close(metrics);
        return false;
    }
    uint64_t size = 0;
    path_size(metrics->path, &size); // a device has none
    metrics->size = (int64_t)size;
    return true;
}

bool metrics_write(Metrics *metrics, const char *json_line, Errors *errors) {
    Text line = {0};
    text_add(&line, json_line);
    text_add(&line, "\n");
    bool good = file_append(metrics->descriptor, metrics->path, line.data, line.size, errors);
    if (good) metrics->size += (int64_t)line.size;
    text_close(&line);
    return good;
}

void metrics_close(Metrics *metrics) {
    Errors ignored = {0}; // every line was checked as it was written
    if (metrics->descriptor >= 0) file_close_append(metrics->descriptor, metrics->path, &ignored);
    errors_close(&ignored);
    metrics->descriptor = -1;
}
