// Reading the record of a sweep: the lines of state.jsonl, one after the other, on top of what they found.
#include "data/sweep_log.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "runtime/file.h"
#include "runtime/json.h"
#include "runtime/memory.h"

enum { STATE_LIMIT = 1 << 30 }; // bytes

// ---- statuses ----

static const struct {
    const char *tag, *name;
    bool ends; // a line "ended" may have it
} statuses[SWEEP_STATUSES] = {
    [SWEEP_PLANNED] = {"planned", "planned", false},
    [SWEEP_RUNNING] = {"running", "running", false},
    [SWEEP_PAUSED] = {"paused", "paused", true},
    [SWEEP_INTERRUPTED] = {"interrupted", "interrupted", true},
    [SWEEP_FINISHED] = {"finished", "finished", true},
    [SWEEP_DIVERGED] = {"diverged", "diverged", true},
    [SWEEP_PRUNED] = {"pruned", "pruned", false},
    [SWEEP_OUT_OF_MEMORY] = {"out_of_memory", "out of memory", true},
    [SWEEP_NO_DATA] = {"no_data", "no data", true},
    [SWEEP_CANNOT_WRITE] = {"cannot_write", "cannot write", true},
    [SWEEP_REFUSED] = {"refused", "refused", true},
    [SWEEP_FAILED] = {"failed", "failed", true},
};

const char *sweep_status_name(SweepStatus status) { return statuses[status].name; }
const char *sweep_status_tag(SweepStatus status) { return statuses[status].tag; }
bool sweep_status_is_result(SweepStatus status) { return status >= SWEEP_FINISHED && status <= SWEEP_PRUNED; }
bool sweep_status_is_failure(SweepStatus status) { return status >= SWEEP_OUT_OF_MEMORY; }

// ---- memory ----

static void *grow(void *items, int64_t count, size_t size) {
    if (count & (count - 1)) return items; // its room is the next power of two
    return memory_grow(items, count ? 2 * count : 1, size, "the record of a sweep");
}

static const char *keep(SweepHistory *history, const char *string) {
    if (!*string) return "";
    text_list_add(&history->strings, string);
    return history->strings.items[history->strings.count - 1];
}

static const char *keep_key(SweepHistory *history, const char *key) {
    for (int64_t i = 0; i < history->key_count; i++)
        if (strcmp(history->keys[i], key) == 0) return history->keys[i];
    history->keys = grow(history->keys, history->key_count, sizeof *history->keys);
    return history->keys[history->key_count++] = keep(history, key);
}

// ---- records ----

// Where an id is, or would be.
static int64_t *place_of(const SweepHistory *history, const char *id) {
    uint64_t mask = (uint64_t)history->place_count - 1, place = XXH3_64bits(id, strlen(id)) & mask;
    while (history->places[place] && strcmp(history->records[history->places[place] - 1].id, id) != 0)
        place = (place + 1) & mask;
    return &history->places[place];
}

static void place_records(SweepHistory *history) {
    int64_t count = 64;
    while (count < 4 * history->count) count *= 2;
    free(history->places);
    history->places = memory_take(count, sizeof *history->places, "the record of a sweep");
    history->place_count = count;
    for (int64_t i = 0; i < history->count; i++) *place_of(history, history->records[i].id) = i + 1;
}

const SweepRecord *sweep_record(const SweepHistory *history, const char *id) {
    int64_t number = history->place_count ? *place_of(history, id) : 0;
    return number ? &history->records[number - 1] : NULL;
}

static SweepRecord *find_or_add(SweepHistory *history, const char *id) {
    SweepRecord *record = (SweepRecord *)sweep_record(history, id);
    if (record) return record;
    history->records = grow(history->records, history->count, sizeof *history->records);
    record = &history->records[history->count++];
    *record = (SweepRecord){.arm = "", .reason = "", .host = "", .slot = "", .metric = NAN, .best = NAN,
                            .tokens_per_second = NAN, .energy = NAN};
    memcpy(record->id, id, SWEEP_ID);
    if (2 * history->count > history->place_count) place_records(history);
    else *place_of(history, id) = history->count;
    return record;
}

// ---- members of a line ----

// Absent: it stays as it is.
static bool read_count(const cJSON *object, const char *key, int64_t *value) {
    const cJSON *node = json_member(object, key);
    int64_t read;
    if (!node) return true;
    if (!json_is_integer(node, &read) || read < 0) return false;
    *value = read;
    return true;
}

static bool read_number(const cJSON *object, const char *key, double *value) {
    const cJSON *node = json_member(object, key);
    if (!node || cJSON_IsNull(node)) return true;
    if (!cJSON_IsNumber(node)) return false;
    *value = node->valuedouble;
    return true;
}

static bool read_string(SweepHistory *history, const cJSON *object, const char *key, const char **value) {
    const cJSON *node = json_member(object, key);
    if (!node) return true;
    if (!cJSON_IsString(node)) return false;
    *value = keep(history, node->valuestring);
    return true;
}

static const char *string_of(const cJSON *object, const char *key) {
    const cJSON *node = json_member(object, key);
    return cJSON_IsString(node) ? node->valuestring : "";
}

static SweepRecord *read_record(SweepHistory *history, const cJSON *object, const char *key) {
    const char *id = string_of(object, key);
    bool good = strlen(id) == SWEEP_ID - 1 && strspn(id, "0123456789abcdef") == SWEEP_ID - 1;
    return good ? find_or_add(history, id) : NULL;
}

// ---- plan ----

uint64_t sweep_plan_hash(const char *line) {
    const char *name = strstr(line, "\"name\""); // the time before it tells nothing
    if (!name) name = line;
    return XXH3_64bits(name, strlen(name));
}

static bool read_setting(SweepHistory *history, const cJSON *node, SweepSetting *setting) {
    char number[TEXT_NUMBER];
    const char *value = NULL, *end;
    if (cJSON_IsNumber(node)) value = text_double(number, node->valuedouble);
    if (cJSON_IsBool(node)) value = cJSON_IsTrue(node) ? "true" : "false";
    if (cJSON_IsString(node)) value = node->valuestring;
    if (!value) return false;
    *setting = (SweepSetting){.key = keep_key(history, node->string), .value = keep(history, value)};
    end = text_read_number(value, &setting->number);
    if (!end || *end) setting->number = NAN;
    return true;
}

static bool read_settings(SweepHistory *history, const cJSON *run, SweepRecord *record) {
    const cJSON *settings = json_member(run, "settings"), *node;
    free(record->settings);
    record->settings = NULL;
    record->setting_count = 0;
    if (!settings) return true;
    if (!cJSON_IsObject(settings)) return false;
    cJSON_ArrayForEach(node, settings) {
        record->settings = grow(record->settings, record->setting_count, sizeof *record->settings);
        if (!read_setting(history, node, &record->settings[record->setting_count])) return false;
        record->setting_count++;
    }
    return true;
}

// One of two words; absent: the first.
static bool read_choice(const cJSON *object, const char *key, const char *no, const char *yes, bool *value) {
    const char *word = json_member(object, key) ? string_of(object, key) : no;
    *value = strcmp(word, yes) == 0;
    return *value || strcmp(word, no) == 0;
}

static bool read_plan(SweepHistory *history, const cJSON *line) {
    const cJSON *runs = json_member(line, "runs"), *run;
    bool good = cJSON_IsArray(runs) && read_string(history, line, "name", &history->name) &&
                read_string(history, line, "metric", &history->metric) &&
                read_choice(line, "goal", "min", "max", &history->maximise) &&
                read_choice(line, "at", "last", "best", &history->at_best);
    for (int64_t i = 0; good && i < history->count; i++) history->records[i].planned = false;
    if (!good) return false;
    cJSON_ArrayForEach(run, runs) {
        SweepRecord *record = read_record(history, run, "id");
        if (!record || !read_string(history, run, "arm", &record->arm) || !read_settings(history, run, record) ||
            !read_count(run, "steps", &record->steps) || !read_count(run, "step_tokens", &record->step_tokens))
            return false;
        record->planned = true;
    }
    return true;
}

// ---- what became of a run ----

static bool read_started(SweepHistory *history, const cJSON *line) {
    SweepRecord *record = read_record(history, line, "run");
    if (!record) return false;
    record->status = SWEEP_RUNNING;
    record->reason = "";
    record->attempts++;
    record->until = 0;
    return read_count(line, "until", &record->until) && read_string(history, line, "host", &record->host) &&
           read_string(history, line, "slot", &record->slot);
}

static bool read_status(const cJSON *line, SweepStatus *status) {
    const char *tag = string_of(line, "status");
    for (int s = 0; s < SWEEP_STATUSES; s++) {
        *status = (SweepStatus)s;
        if (statuses[s].ends && strcmp(statuses[s].tag, tag) == 0) return true;
    }
    return false;
}

// A rung is reached once, whatever comes again behind a crash.
static void add_rung(SweepRecord *record) {
    if (record->rung_count > 0 && record->rungs[record->rung_count - 1].step >= record->step) return;
    record->rungs = grow(record->rungs, record->rung_count, sizeof *record->rungs);
    record->rungs[record->rung_count++] = (SweepRung){record->step, record->metric};
}

static bool read_ended(SweepHistory *history, const cJSON *line) {
    SweepRecord *record = read_record(history, line, "run");
    int64_t exit_code = 0, signal_number = 0;
    double wall = 0;
    if (!record || !read_status(line, &record->status) || !read_count(line, "exit", &exit_code) ||
        !read_count(line, "signal", &signal_number) || exit_code > 255 || signal_number > 255)
        return false;
    record->exit_code = (int)exit_code;
    record->signal = (int)signal_number;
    record->reason = "";
    record->metric = record->best = NAN;
    bool good = read_string(history, line, "reason", &record->reason) && read_count(line, "step", &record->step) &&
                read_number(line, "metric", &record->metric) && read_number(line, "best", &record->best) &&
                read_number(line, "seconds", &record->seconds) && read_number(line, "wall", &wall) &&
                read_number(line, "tokens_per_second", &record->tokens_per_second) &&
                read_number(line, "energy", &record->energy);
    record->wall += wall;
    record->failures += sweep_status_is_failure(record->status);
    if (good && record->status == SWEEP_PAUSED) add_rung(record);
    return good;
}

static bool read_pruned(SweepHistory *history, const cJSON *line) {
    SweepRecord *record = read_record(history, line, "run");
    if (record) record->status = SWEEP_PRUNED;
    return record != NULL;
}

// ---- the file ----

static bool read_event(SweepHistory *history, const cJSON *line) {
    static const struct {
        const char *event;
        bool (*read)(SweepHistory *, const cJSON *);
    } rows[] = {{"plan", read_plan}, {"started", read_started}, {"ended", read_ended}, {"pruned", read_pruned}};
    int64_t version = 0;
    if (!cJSON_IsObject(line) || !read_count(line, "v", &version) || version != 1) return false;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        if (strcmp(rows[i].event, string_of(line, "event")) == 0) return rows[i].read(history, line);
    return false;
}

static bool is_torn(const char *line, size_t size) {
    size_t mark = strlen(SWEEP_TORN);
    return size >= mark && memcmp(line + size - mark, SWEEP_TORN, mark) == 0;
}

static bool read_line(SweepHistory *history, const char *line, size_t size) {
    Errors ignored = {0}; // one message is enough
    if (is_torn(line, size)) return true;
    Json *json = json_parse("line", line, size, EXIT_DATA, &ignored);
    bool good = json && read_event(history, json_root(json));
    if (good && strcmp(string_of(json_root(json), "event"), "plan") == 0) {
        Text text = {0};
        text_append(&text, line, size);
        history->plan = sweep_plan_hash(text_string(&text));
        text_close(&text);
    }
    json_close(json);
    errors_close(&ignored);
    return good;
}

static void state_path(char out[4096], const char *sweep_dir) { path_join(out, sweep_dir, "state.jsonl"); }

bool sweep_dir_is(const char *path) {
    char state[4096];
    state_path(state, path);
    return path_exists(state);
}

bool sweep_history_read_on(SweepHistory *history, const char *sweep_dir, Errors *errors) {
    char path[4096];
    File file;
    state_path(path, sweep_dir);
    if (!file_read_from(&file, path, (size_t)history->bytes, STATE_LIMIT, EXIT_DATA, errors)) return false;
    bool good = true;
    const char *line = file.bytes, *newline, *end = file.bytes + file.size;
    while (good && (newline = memchr(line, '\n', (size_t)(end - line)))) {
        history->lines++;
        good = read_line(history, line, (size_t)(newline - line)) ||
               errors_add(errors, EXIT_DATA, "%s:%ld: no line of a sweep's record: expected a JSON object with \"v\":1 "
                          "and an event that docs/sweeps.md lists; take that line out", path, history->lines);
        line = newline + 1;
    }
    history->bytes += line - file.bytes;
    file_close(&file);
    return good;
}

bool sweep_history_read(SweepHistory *history, const char *sweep_dir, Errors *errors) {
    *history = (SweepHistory){.name = "", .metric = ""};
    if (sweep_history_read_on(history, sweep_dir, errors)) return true;
    sweep_history_close(history);
    return false;
}

static void close_record(SweepRecord *record) {
    free(record->settings);
    free(record->rungs);
}

void sweep_history_keep_planned(SweepHistory *history) {
    int64_t count = 0;
    for (int64_t i = 0; i < history->count; i++) {
        if (history->records[i].planned) history->records[count++] = history->records[i];
        else close_record(&history->records[i]);
    }
    history->count = count;
    place_records(history);
}

void sweep_history_close(SweepHistory *history) {
    for (int64_t i = 0; i < history->count; i++) close_record(&history->records[i]);
    free(history->records);
    free(history->places);
    free(history->keys);
    text_list_close(&history->strings);
    *history = (SweepHistory){.name = "", .metric = ""};
}
