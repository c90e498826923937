#include "data/metrics.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "runtime/file.h"

enum { UNWRITTEN_LIMIT = 1 << 20 }; // bytes; they have room in a checkpoint's run.json

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

bool metrics_restore(Metrics *metrics, Errors *errors) {
    char opened[64];
    File file;
    if (path_names(metrics->path, metrics->descriptor)) return true;
    snprintf(opened, sizeof opened, "/proc/self/fd/%d", metrics->descriptor);
    if (!file_map(&file, opened, EXIT_CANNOT_WRITE, errors)) return false;
    bool good = file_replace(metrics->path, file.bytes, file.size, errors);
    int descriptor = good ? file_open_append(metrics->path, errors) : -1;
    file_close(&file);
    if (descriptor < 0) return false;
    close(metrics->descriptor);
    metrics->descriptor = descriptor;
    return true;
}

// What stands behind `keep` goes to a file of its own, then is cut off.
bool metrics_go_back(Metrics *metrics, const char *run_dir, int64_t keep, int64_t step, Errors *errors) {
    File file;
    char path[4096];
    if (!metrics_restore(metrics, errors) || !file_map(&file, metrics->path, EXIT_DATA, errors)) return false;
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
    metrics->torn = metrics->torn && !good;
    return good;
}

bool metrics_open(Metrics *metrics, const char *run_dir, int64_t keep, int64_t step, Errors *errors) {
    path_join(metrics->path, run_dir, "metrics.jsonl");
    metrics->descriptor = file_open_append(metrics->path, errors);
    if (metrics->descriptor < 0) return false;
    if (metrics_go_back(metrics, run_dir, keep, step, errors)) return true;
    metrics_close(metrics);
    return false;
}

bool metrics_flush(Metrics *metrics, Errors *errors) {
    const Text *lines = &metrics->unwritten;
    Errors again = {0}; // of the same
    if (lines->size == 0) return true;
    if (metrics->torn && !file_cut(metrics->descriptor, metrics->path, (uint64_t)metrics->size, errors)) return false;
    metrics->torn = !file_append(metrics->descriptor, metrics->path, lines->data, lines->size, errors);
    if (!metrics->torn) {
        metrics->size += (int64_t)lines->size;
        text_clear(&metrics->unwritten);
        return true;
    }
    metrics->torn = !file_cut(metrics->descriptor, metrics->path, (uint64_t)metrics->size, &again);
    errors_close(&again);
    return false;
}

bool metrics_write(Metrics *metrics, const char *json_line, Errors *errors) {
    Errors again = {0};
    bool behind = metrics->unwritten.size > 0;
    if (behind && metrics->unwritten.size + strlen(json_line) >= UNWRITTEN_LIMIT && !metrics_flush(metrics, &again)) {
        errors_close(&again);
        return errors_add(errors, EXIT_CANNOT_WRITE, "%s: too many lines wait to be written; this one is lost: %s",
                          metrics->path, json_line);
    }
    text_add(&metrics->unwritten, json_line);
    text_add(&metrics->unwritten, "\n");
    bool good = metrics_flush(metrics, behind ? &again : errors);
    if (!good && !behind)
        errors_add(errors, EXIT_CANNOT_WRITE, "%s: its lines wait until they can be written", metrics->path);
    errors_close(&again);
    return good;
}

bool metrics_sync(Metrics *metrics, Errors *errors) {
    return file_sync(metrics->descriptor, metrics->path, errors);
}

void metrics_close(Metrics *metrics) {
    Errors ignored = {0}; // every line was checked as it was written
    if (metrics->descriptor >= 0) file_close_append(metrics->descriptor, metrics->path, &ignored);
    errors_close(&ignored);
    text_close(&metrics->unwritten);
    metrics->descriptor = -1;
}
