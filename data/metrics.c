#include "data/metrics.h"

#include <stdio.h>
#include <string.h>

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

// What stands behind `keep` goes to a file of its own, then is cut off.
bool metrics_go_back(Metrics *metrics, const char *run_dir, int64_t keep, int64_t step, Errors *errors) {
    GrowingFile *file = &metrics->file;
    File content;
    char path[4096];
    if (!growing_restore(file, errors) || !file_map(&content, file->path, EXIT_DATA, errors)) return false;
    int64_t size = (int64_t)content.size;
    bool good = true;
    if (size < keep)
        errors_add(errors, EXIT_DATA, "%s: %ld bytes, but the checkpoint was written after %ld; the run goes on "
                   "without the lines that are missing", file->path, size, keep);
    if (size > keep) {
        orphan_path(path, run_dir, step);
        good = file_replace(path, content.bytes + keep, (size_t)(size - keep), errors);
    }
    file_close(&content);
    if (size > keep) return good && growing_cut(file, keep, errors);
    file->size = size;
    file->torn = false;
    return true;
}

bool metrics_open(Metrics *metrics, const char *run_dir, int64_t keep, int64_t step, Errors *errors) {
    path_join(metrics->file.path, run_dir, "metrics.jsonl");
    metrics->file.descriptor = file_open_append(metrics->file.path, errors);
    if (metrics->file.descriptor < 0) return false;
    if (metrics_go_back(metrics, run_dir, keep, step, errors)) return true;
    metrics_close(metrics);
    return false;
}

bool metrics_flush(Metrics *metrics, Errors *errors) {
    const Text *lines = &metrics->unwritten;
    if (lines->size == 0) return true;
    if (!growing_append(&metrics->file, lines->data, lines->size, errors)) return false;
    text_clear(&metrics->unwritten);
    return true;
}

bool metrics_write(Metrics *metrics, const char *json_line, Errors *errors) {
    Errors again = {0};
    bool behind = metrics->unwritten.size > 0;
    if (behind && metrics->unwritten.size + strlen(json_line) >= UNWRITTEN_LIMIT && !metrics_flush(metrics, &again)) {
        errors_close(&again);
        return errors_add(errors, EXIT_CANNOT_WRITE, "%s: too many lines wait to be written; this one is lost: %s",
                          metrics->file.path, json_line);
    }
    text_add(&metrics->unwritten, json_line);
    text_add(&metrics->unwritten, "\n");
    bool good = metrics_flush(metrics, behind ? &again : errors);
    if (!good && !behind)
        errors_add(errors, EXIT_CANNOT_WRITE, "%s: its lines wait until they can be written", metrics->file.path);
    errors_close(&again);
    return good;
}

void metrics_close(Metrics *metrics) {
    growing_close(&metrics->file);
    text_close(&metrics->unwritten);
}

// ---- reading along ----

int64_t metrics_end(const Metrics *metrics) { return metrics->file.size + (int64_t)metrics->unwritten.size; }

// The bytes that the run appended, whatever the file's name means by now.
static bool map_lines(const Metrics *metrics, File *content) {
    char opened[64];
    Errors ignored = {0};
    snprintf(opened, sizeof opened, "/proc/self/fd/%d", metrics->file.descriptor);
    bool good = file_map(content, opened, EXIT_DATA, &ignored);
    errors_close(&ignored);
    if (good && (int64_t)content->size >= metrics->file.size) return true;
    if (good) file_close(content); // somebody cut it
    return false;
}

// As this program begins each line. What stands on one that it did not write belongs to the line before.
static bool is_before(const char *line, size_t size, int64_t step) {
    static const char key[] = "{\"step\":";
    int64_t value = 0;
    size_t i = sizeof key - 1;
    if (size <= i || memcmp(line, key, i) != 0 || line[i] < '0' || line[i] > '9') return false;
    for (; i < size && line[i] >= '0' && line[i] <= '9' && value < step; i++) value = 10 * value + line[i] - '0';
    return value < step;
}

// Where the last lines begin of which none is before `step`.
static int64_t find_last(const char *lines, int64_t size, int64_t step) {
    while (size > 0) {
        const char *line = size > 1 ? memrchr(lines, '\n', (size_t)size - 1) : NULL;
        int64_t begin = line ? line + 1 - lines : 0;
        if (is_before(lines + begin, (size_t)(size - begin), step)) break;
        size = begin;
    }
    return size;
}

int64_t metrics_find(const Metrics *metrics, int64_t step) {
    int64_t begin = find_last(text_string(&metrics->unwritten), (int64_t)metrics->unwritten.size, step);
    File content;
    if (begin > 0) return metrics->file.size + begin;
    if (!map_lines(metrics, &content)) return metrics->file.size;
    begin = find_last(content.bytes, metrics->file.size, step);
    file_close(&content);
    return begin;
}

static void add_lines(Text *out, const char *lines, int64_t size, int64_t most) {
    const char *end = size > most ? memchr(lines + most, '\n', (size_t)(size - most)) : NULL;
    text_append(out, lines, end ? (size_t)(end + 1 - lines) : (size_t)size);
}

void metrics_read(const Metrics *metrics, int64_t offset, int64_t most, Text *out) {
    int64_t behind = offset - metrics->file.size;
    File content;
    if (behind >= 0) {
        add_lines(out, text_string(&metrics->unwritten) + behind, (int64_t)metrics->unwritten.size - behind, most);
    } else if (map_lines(metrics, &content)) {
        add_lines(out, content.bytes + offset, -behind, most);
        file_close(&content);
    }
}
