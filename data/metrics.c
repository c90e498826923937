#include "data/metrics.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "runtime/file.h"

// metrics.<step>.orphan.jsonl, or the first such name with a number that is free.
static void orphan_path(char out[4096], const char *run_dir, int64_t step) {
    char name[64];
    snprintf(name, sizeof name, "metrics.%ld.orphan.jsonl", step);
    path_join(out, run_dir, name);
    for (int k = 2; path_exists(out); k++) {
        snprintf(name, sizeof name, "metrics.%ld.orphan-%d.jsonl", step, k);
        path_join(out, run_dir, name);
    }
}

// What stands behind `keep` goes to a file of its own, then is cut off.
static bool set_aside(const char *run_dir, Metrics *metrics, int64_t keep, int64_t step, Errors *errors) {
    File file;
    char path[4096];
    if (!file_map(&file, metrics->path, EXIT_DATA, errors)) return false;
    int64_t size = (int64_t)file.size;
    bool good = true;
    if (size < keep)
        errors_add(errors, EXIT_DATA, "%s: %ld bytes, but the checkpoint was written after %ld; the run goes on "
                   "without the lines that are missing", metrics->path, size, keep);
    if (size > keep) {
        orphan_path(path, run_dir, step);
        good = file_replace(path, file.bytes + keep, (size_t)(size - keep), errors);
    }
    file_close(&file);
    if (good && size > keep) good = file_cut(metrics->descriptor, metrics->path, (uint64_t)keep, errors);
    metrics->size = size < keep ? size : keep;
    return good;
}

bool metrics_open(Metrics *metrics, const char *run_dir, int64_t keep, int64_t step, Errors *errors) {
    *metrics = (Metrics){.descriptor = -1};
    path_join(metrics->path, run_dir, "metrics.jsonl");
    metrics->descriptor = file_open_append(metrics->path, errors);
    if (metrics->descriptor < 0) return false;
    if (set_aside(run_dir, metrics, keep, step, errors)) return true;
    metrics_close(metrics);
    return false;
}

bool metrics_write(Metrics *metrics, const char *json_line, Errors *errors) {
    Text line = {0};
    text_add(&line, json_line);
    text_add(&line, "\n");
    bool good = file_append(metrics->descriptor, metrics->path, line.data, line.size, errors);
    if (good) metrics->size += (int64_t)line.size;
    else file_cut(metrics->descriptor, metrics->path, (uint64_t)metrics->size, errors); // no half line stays
    text_close(&line);
    return good;
}

bool metrics_sync(Metrics *metrics, Errors *errors) {
    return file_sync(metrics->descriptor, metrics->path, errors);
}

void metrics_close(Metrics *metrics) {
    Errors ignored = {0}; // every line was checked as it was written
    if (metrics->descriptor >= 0) file_close_append(metrics->descriptor, metrics->path, &ignored);
    errors_close(&ignored);
    metrics->descriptor = -1;
}
