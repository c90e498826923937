#include "data/tensorboard.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "data/event_file.h"
#include "data/metric.h"
#include "runtime/file.h"
#include "runtime/json.h"

// ---- lines ----

static void name_tag(const char *key, EventScalar *scalar) {
    const MetricFacts *row = metric_find(key);
    snprintf(scalar->tag, sizeof scalar->tag, "%s%s", row ? row->tag : "train/", row ? "" : key);
}

// Lines that are no step's repeat where the run is: a tag has one number a step.
static bool is_shown(const cJSON *node, bool of_step) {
    if (!cJSON_IsNumber(node) && !cJSON_IsNull(node)) return false;
    if (strcmp(node->string, "step") == 0) return false;
    const MetricFacts *row = metric_find(node->string);
    return of_step || (row != &metric_facts[METRIC_TOKENS] && row != &metric_facts[METRIC_SECONDS]);
}

void tensorboard_add_line(Text *out, double time, const char *line, size_t size) {
    enum { SCALARS = 64 };
    EventScalar scalars[SCALARS];
    Errors ignored = {0};
    int count = 0;
    int64_t step;
    Json *json = json_parse("metrics.jsonl", line, size, EXIT_DATA, &ignored);
    const cJSON *root = json ? json_root(json) : NULL, *event = json_member(root, "event"), *node;
    if (json_is_integer(json_member(root, "step"), &step) && step >= 0) {
        bool of_step = json_member(root, "loss") != NULL;
        cJSON_ArrayForEach(node, root) {
            if (event || count == SCALARS || !is_shown(node, of_step)) continue;
            name_tag(node->string, &scalars[count]);
            scalars[count++].value = cJSON_IsNull(node) ? NAN : (float)node->valuedouble; // null: not finite
        }
        if (cJSON_IsString(event)) { // its step has a line of its own, with the same numbers
            snprintf(scalars[0].tag, sizeof scalars[0].tag, "stability/%s", event->valuestring);
            scalars[count++].value = 1;
        }
        if (count) events_add_scalars(out, time, step, scalars, count);
    }
    json_close(json);
    errors_close(&ignored);
}

// ---- following ----

static void add_lines(Text *out, const char *lines, size_t size) {
    double time = clock_unix();
    for (size_t at = 0, length; at < size; at += length + 1) {
        const char *newline = memchr(lines + at, '\n', size - at);
        length = newline ? (size_t)(newline - lines) - at : strnlen(lines + at, size - at);
        tensorboard_add_line(out, time, lines + at, length);
    }
}

static bool append(TensorBoard *board, const Text *records, Errors *errors) {
    Errors again = {0};
    bool good = records->size == 0 ||
                growing_append(&board->file, records->data, records->size, board->told ? &again : errors);
    if (!good && !board->told)
        errors_add(errors, EXIT_CANNOT_WRITE, "%s: the run goes on without it until it can be written",
                   board->file.path);
    board->told = !good;
    errors_close(&again);
    return good;
}

static bool write_lines(TensorBoard *board, const char *lines, size_t size, Errors *errors) {
    Text records = {0};
    if (board->file.size == 0) events_add_version(&records, clock_unix());
    if (board->restart >= 0) events_add_restart(&records, clock_unix(), board->restart);
    add_lines(&records, lines, size);
    bool good = append(board, &records, errors);
    if (good) board->followed += (int64_t)size;
    if (good) board->restart = -1;
    text_close(&records);
    return good;
}

void tensorboard_follow(TensorBoard *board, const Metrics *metrics, const char *line, Errors *errors) {
    int64_t most = board->told ? 1 << 12 : 1 << 16; // where it may well fail again, not much is spent on it
    int64_t end = metrics_end(metrics);
    size_t size = strlen(line) + 1;
    if (board->file.descriptor < 0) return;
    if (board->followed + (int64_t)size == end) {
        write_lines(board, line, size, errors);
        return;
    }
    Text lines = {0};
    for (bool good = true; good && (board->followed < end || board->restart >= 0);) {
        text_clear(&lines);
        metrics_read(metrics, board->followed, most, &lines);
        if (lines.size == 0) board->followed = end; // they cannot be read
        good = write_lines(board, text_string(&lines), lines.size, errors);
    }
    text_close(&lines);
}

void tensorboard_go_back(TensorBoard *board, const Metrics *metrics, int64_t step, Errors *errors) {
    int64_t begin = metrics_find(metrics, step);
    if (board->file.descriptor < 0) return;
    if (begin < board->followed) board->followed = begin;
    if (board->restart < 0 || step < board->restart) board->restart = step;
    tensorboard_follow(board, metrics, "", errors);
}

// ---- files ----

#define NAME_BEGINS "events.out.tfevents."

// Whether the metrics have the line that the record was made of, and so all before it: no run spends the same seconds
// twice.
static bool is_told(const Metrics *metrics, const EventRecord *record) {
    enum { MOST = 1 << 14 }; // bytes; steps have a few lines
    Text lines = {0}, made = {0};
    bool told = false;
    metrics_read(metrics, metrics_find(metrics, record->step), MOST, &lines);
    const char *line = text_string(&lines);
    for (const char *end; !told && (end = strchr(line, '\n')); line = end + 1) {
        text_clear(&made);
        tensorboard_add_line(&made, record->time, line, (size_t)(end - line));
        told = made.size == record->size && memcmp(made.data, record->bytes, made.size) == 0;
    }
    text_close(&lines);
    text_close(&made);
    return told;
}

// The step up to which it shows what the metrics tell until `step`; 0: it does not.
static int64_t known_until(const File *file, const Metrics *metrics, int64_t step) {
    EventRecord record = {0}, last = {0};
    const char *tag = metric_facts[METRIC_SECONDS].tag; // of the lines of steps alone
    while (events_next(file->bytes, file->size, &record))
        if (record.step <= step && memmem(record.bytes, record.size, tag, strlen(tag))) last = record;
    return last.bytes && is_told(metrics, &last) ? last.step : 0;
}

// The last event file in the order of names, which is the order of reading: what is known of it, and the time in its
// name, or 0.
static void look_at_last(const char *run_dir, const Metrics *metrics, int64_t *step, int64_t *time) {
    TextList names = {0};
    Errors ignored = {0};
    const char *last = NULL;
    char path[4096];
    File file;
    int64_t known = 0;
    directory_list(&names, run_dir, &ignored);
    for (int64_t i = 0; i < names.count; i++)
        if (strncmp(names.items[i], NAME_BEGINS, strlen(NAME_BEGINS)) == 0) last = names.items[i];
    *time = 0;
    if (last) {
        sscanf(last + strlen(NAME_BEGINS), "%10ld", time);
        path_join(path, run_dir, last);
        if (file_map(&file, path, EXIT_DATA, &ignored)) {
            known = known_until(&file, metrics, *step);
            file_close(&file);
        }
    }
    *step = known;
    text_list_close(&names);
    errors_close(&ignored);
}

void tensorboard_open(TensorBoard *board, const char *run_dir, const Metrics *metrics, int64_t step, Errors *errors) {
    char host[65] = "", name[128];
    int64_t last_time, begins = (int64_t)clock_unix();
    look_at_last(run_dir, metrics, &step, &last_time);
    if (begins <= last_time) begins = last_time + 1; // two in a second, or clocks that differ
    gethostname(host, sizeof host - 1);
    for (char *c = host; *c; c++)
        if (*c == '/' || (unsigned char)*c <= ' ') *c = '_';
    snprintf(name, sizeof name, NAME_BEGINS "%010ld.%s.%d.0", begins, *host ? host : "localhost", getpid());
    path_join(board->file.path, run_dir, name);
    board->file.descriptor = file_open_append(board->file.path, errors);
    board->followed = metrics_end(metrics);
    board->restart = -1;
    tensorboard_go_back(board, metrics, step, errors);
}
