// What a sweep came to: results, groups of runs over seeds, summary.csv and summary.json.
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "data/sweep_log.h"
#include "runtime/file.h"
#include "runtime/json.h"
#include "runtime/memory.h"

static const char seed_key[] = "run.seed";

// ---- results ----

bool sweep_better(bool maximise, double a, double b) {
    if (isnan(a) || isnan(b)) return !isnan(a) && isnan(b);
    return maximise ? a > b : a < b;
}

double sweep_result(const SweepHistory *history, const SweepRecord *record) {
    if (record->status != SWEEP_FINISHED) return NAN;
    return history->at_best ? record->best : record->metric;
}

// ---- groups ----

static const SweepSetting *setting(const SweepRecord *record, const char *key) {
    for (int64_t i = 0; i < record->setting_count; i++)
        if (strcmp(record->settings[i].key, key) == 0) return &record->settings[i];
    return NULL;
}

static bool same_but_for_seed(const SweepHistory *history, const SweepRecord *a, const SweepRecord *b) {
    if (a->planned != b->planned || strcmp(a->arm, b->arm) != 0) return false;
    for (int64_t i = 0; i < history->key_count; i++) {
        const char *key = history->keys[i];
        const SweepSetting *in_a = setting(a, key), *in_b = setting(b, key);
        if (strcmp(key, seed_key) == 0 || (!in_a && !in_b)) continue;
        if (!in_a || !in_b || strcmp(in_a->value, in_b->value) != 0) return false;
    }
    return true;
}

// The same for all runs of a group.
static uint64_t group_hash(const SweepRecord *record) {
    uint64_t hash = XXH3_64bits(record->arm, strlen(record->arm));
    for (int64_t i = 0; i < record->setting_count; i++) {
        const SweepSetting *s = &record->settings[i];
        if (strcmp(s->key, seed_key) == 0) continue;
        hash += XXH3_64bits_withSeed(s->value, strlen(s->value), XXH3_64bits(s->key, strlen(s->key)));
    }
    return hash;
}

// Mean and squares of deviations from it (in `error`), by Welford's recurrence.
static void add_result(SweepGroup *group, double result) {
    if (!isfinite(result)) return;
    if (group->seeds == 0) group->mean = group->error = 0;
    double deviation = result - group->mean;
    group->mean += deviation / (double)++group->seeds;
    group->error += deviation * (result - group->mean);
}

int64_t sweep_groups(const SweepHistory *history, SweepGroup **out, int64_t *of) {
    int64_t mask = 1, count = 0;
    while (mask < 2 * history->count) mask = 2 * mask + 1;
    // Numbers of groups + 1, by their hash; 0: free.
    int64_t *places = memory_take(mask + 1, sizeof *places, "places of groups");
    SweepGroup *groups = *out = memory_take(history->count, sizeof *groups, "groups of runs");
    for (int64_t i = 0; i < history->count; i++) {
        const SweepRecord *r = &history->records[i];
        int64_t place = (int64_t)group_hash(r) & mask;
        while (places[place] && !same_but_for_seed(history, groups[places[place] - 1].first, r))
            place = (place + 1) & mask;
        if (places[place] == 0) {
            groups[count] = (SweepGroup){.first = r, .mean = NAN, .error = NAN};
            places[place] = ++count;
        }
        if (r->planned) add_result(&groups[places[place] - 1], sweep_result(history, r));
        if (of) of[i] = places[place] - 1;
    }
    free(places);
    for (int64_t g = 0; g < count; g++) {
        double seeds = (double)groups[g].seeds;
        groups[g].error = seeds > 1 ? sqrt(groups[g].error / (seeds - 1) / seeds) : NAN;
    }
    return count;
}

// ---- what both files say of a run ----

typedef struct {
    const char *name;
    double value; // NaN: not known
} Number;
enum { NUMBERS = 13 };

static double known(int64_t count) { return count > 0 ? (double)count : NAN; }

static void list_numbers(const SweepHistory *history, const SweepRecord *r, const SweepGroup *group,
                         Number out[NUMBERS]) {
    const Number numbers[NUMBERS] = {
        {"result", sweep_result(history, r)},
        {"metric", r->metric},
        {"best", r->best},
        {"step", (double)r->step},
        {"steps", known(r->steps)},
        {"tokens", (double)r->step * known(r->step_tokens)},
        {"tokens_per_second", r->tokens_per_second},
        {"seconds", r->seconds},
        {"wall", r->wall},
        {"energy", r->energy},
        {"attempts", (double)r->attempts},
        {"group_mean", group->mean},
        {"group_error", group->error},
    };
    memcpy(out, numbers, sizeof numbers);
}

static void path_of(const SweepRecord *record, char out[32]) { snprintf(out, 32, "runs/%s", record->id); }

// ---- summary.csv ----

// A field as RFC 4180 has it: in quotes where it must be, quotes in it twice.
static void add_field(Text *out, const char *field) {
    bool quoted = strpbrk(field, ",\"\r\n") != NULL || field[strspn(field, " \t")] != *field;
    if (quoted) text_add(out, "\"");
    for (; *field; field++) {
        if (*field == '"') text_add(out, "\"");
        text_append(out, field, 1);
    }
    if (quoted) text_add(out, "\"");
}

static void add_csv_head(const SweepHistory *history, Text *out) {
    Number names[NUMBERS];
    const SweepRecord none = {.metric = NAN};
    text_add(out, "run,arm");
    for (int64_t i = 0; i < history->key_count; i++) text_add(out, ","), add_field(out, history->keys[i]);
    text_add(out, ",status");
    list_numbers(history, &none, &(SweepGroup){.first = &none}, names);
    for (int i = 0; i < NUMBERS; i++) text_printf(out, ",%s", names[i].name);
    text_add(out, ",host,slot,path,reason\n");
}

static void add_csv_run(const SweepHistory *history, const SweepRecord *record, const SweepGroup *group, Text *out) {
    char text[TEXT_NUMBER], path[32];
    Number numbers[NUMBERS];
    text_printf(out, "%s,", record->id);
    add_field(out, record->arm);
    for (int64_t i = 0; i < history->key_count; i++) {
        const SweepSetting *one = setting(record, history->keys[i]);
        text_add(out, ","), add_field(out, one ? one->value : "");
    }
    text_printf(out, ",%s", sweep_status_tag(record->status));
    list_numbers(history, record, group, numbers);
    for (int i = 0; i < NUMBERS; i++)
        text_printf(out, ",%s", isfinite(numbers[i].value) ? text_double(text, numbers[i].value) : "");
    path_of(record, path);
    const char *ends[] = {record->host, record->slot, path, record->reason};
    for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++) text_add(out, ","), add_field(out, ends[i]);
    text_add(out, "\n");
}

// ---- summary.json ----

static void add_settings(JsonWriter *w, const SweepRecord *record, bool with_seed) {
    json_begin(w, "settings", '{');
    for (int64_t i = 0; i < record->setting_count; i++) {
        const SweepSetting *s = &record->settings[i];
        if (!with_seed && strcmp(s->key, seed_key) == 0) continue;
        if (isnan(s->number)) json_string(w, s->key, s->value);
        else json_number(w, s->key, s->number);
    }
    json_end(w, '}');
}

static void add_json_run(const SweepHistory *history, const SweepRecord *record, const SweepGroup *group,
                         JsonWriter *w) {
    char path[32];
    Number numbers[NUMBERS];
    json_begin(w, NULL, '{');
    json_string(w, "run", record->id);
    json_string(w, "arm", record->arm);
    add_settings(w, record, true);
    json_string(w, "status", sweep_status_tag(record->status));
    list_numbers(history, record, group, numbers);
    for (int i = 0; i < NUMBERS; i++) json_number(w, numbers[i].name, numbers[i].value);
    path_of(record, path);
    json_string(w, "host", record->host);
    json_string(w, "slot", record->slot);
    json_string(w, "path", path);
    json_string(w, "reason", record->reason);
    json_end(w, '}');
}

static void add_counts(const SweepHistory *history, JsonWriter *w) {
    int64_t counts[SWEEP_STATUSES] = {0};
    for (int64_t i = 0; i < history->count; i++)
        if (history->records[i].planned) counts[history->records[i].status]++;
    json_begin(w, "counts", '{');
    for (int s = 0; s < SWEEP_STATUSES; s++)
        if (counts[s] > 0) json_integer(w, sweep_status_tag((SweepStatus)s), counts[s]);
    json_end(w, '}');
}

static void add_groups(const SweepGroup *groups, int64_t count, JsonWriter *w) {
    json_begin(w, "groups", '[');
    for (int64_t i = 0; i < count; i++) {
        const SweepGroup *group = &groups[i];
        json_begin(w, NULL, '{');
        json_string(w, "arm", group->first->arm);
        add_settings(w, group->first, false);
        json_integer(w, "seeds", group->seeds);
        json_number(w, "mean", group->mean);
        json_number(w, "error", group->error);
        json_end(w, '}');
    }
    json_end(w, ']');
}

const SweepRecord *sweep_best(const SweepHistory *history) {
    const SweepRecord *best = NULL;
    for (int64_t i = 0; i < history->count; i++) {
        double result = sweep_result(history, &history->records[i]);
        if (!history->records[i].planned || !isfinite(result)) continue;
        if (!best || sweep_better(history->maximise, result, sweep_result(history, best)))
            best = &history->records[i];
    }
    return best;
}

// Groups, and the number of each run's.
typedef struct {
    SweepGroup *items;
    int64_t count, *of;
} Groups;

static void add_json(const SweepHistory *history, const Groups *groups, Text *out) {
    JsonWriter w = {.out = out, .indent = 1};
    const SweepRecord *best = sweep_best(history);
    json_begin(&w, NULL, '{');
    json_string(&w, "name", history->name);
    json_string(&w, "metric", history->metric);
    json_string(&w, "goal", history->maximise ? "max" : "min");
    json_string(&w, "at", history->at_best ? "best" : "last");
    json_string(&w, "best_run", best ? best->id : "");
    add_counts(history, &w);
    json_begin(&w, "runs", '[');
    for (int64_t i = 0; i < history->count; i++)
        add_json_run(history, &history->records[i], &groups->items[groups->of[i]], &w);
    json_end(&w, ']');
    add_groups(groups->items, groups->count, &w);
    json_end(&w, '}');
    text_add(out, "\n");
}

// ---- both ----

static bool replace(const char *sweep_dir, const char *name, Text *content, Errors *errors) {
    char path[4096];
    path_join(path, sweep_dir, name);
    bool good = file_replace(path, content->data, content->size, errors);
    text_close(content);
    return good;
}

bool sweep_summary_write(const SweepHistory *history, const char *sweep_dir, Errors *errors) {
    Text csv = {0}, json = {0};
    Groups groups = {.of = memory_take(history->count, sizeof *groups.of, "groups of runs")};
    groups.count = sweep_groups(history, &groups.items, groups.of);
    add_csv_head(history, &csv);
    for (int64_t i = 0; i < history->count; i++)
        add_csv_run(history, &history->records[i], &groups.items[groups.of[i]], &csv);
    add_json(history, &groups, &json);
    free(groups.items);
    free(groups.of);
    bool good = replace(sweep_dir, "summary.csv", &csv, errors);
    return replace(sweep_dir, "summary.json", &json, errors) && good;
}
