#include "report/run_facts.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/file.h"
#include "runtime/json.h"
#include "runtime/memory.h"

enum { JSON_LIMIT = 4 << 20, KEYS_TOLD = 2000, EVENTS_TOLD = 12, LEAST_POINTS = 60 };

const TraceRow trace_rows[TRACES] = {
    [TRACE_METRIC] = {METRIC_VAL_LOSS, "Validation loss", "nats per token", UNIT_PLAIN, false, false},
    [TRACE_LOSS] = {METRIC_LOSS, "Training loss", "nats per token", UNIT_PLAIN, false, true},
    [TRACE_RATE_OF_LEARNING] = {METRIC_LR, "Learning rate", "of the matrices", UNIT_PLAIN, false, false},
    [TRACE_NORM] = {METRIC_GRAD_NORM, "Gradient norm", "before clipping", UNIT_PLAIN, true, true},
    [TRACE_SPEED] = {METRIC_TOKENS_PER_SECOND, "Speed", "tokens per second", UNIT_COUNT, false, false},
    [TRACE_MFU] = {METRIC_MFU, "Use of the peak", "share of the maker's peak", UNIT_SHARE, false, false},
    [TRACE_POWER] = {METRIC_GPU_POWER, "GPU power", "watts, sum over GPUs", UNIT_PLAIN, false, false},
    [TRACE_UTILIZATION] = {METRIC_GPU_UTILIZATION, "GPU utilization", "mean over GPUs", UNIT_SHARE, false, false},
    [TRACE_TEMPERATURE] = {METRIC_GPU_TEMPERATURE, "GPU temperature", "degrees C, highest", UNIT_PLAIN, false, false},
    [TRACE_CLOCK] = {METRIC_GPU_CLOCK, "GPU clock", "MHz, lowest", UNIT_PLAIN, false, false},
    [TRACE_MEMORY] = {METRIC_GPU_MEMORY, "GPU memory", "used, highest", UNIT_BYTES, false, false},
    [TRACE_BITS] = {METRIC_VAL_BITS_PER_BYTE, "Bits per byte", "of validation text", UNIT_PLAIN, false, false},
    [TRACE_HELLASWAG] = {METRIC_LMEVAL_ACC_NORM, "HellaSwag", "accuracy, normalised", UNIT_SHARE, false, false},
};

bool run_dir_is(const char *path) {
    static const char *const names[] = {"run.json", "metrics.jsonl"};
    char file[4096];
    for (int i = 0; i < 2; i++) {
        path_join(file, path, names[i]);
        if (path_exists(file)) return true;
    }
    return false;
}

// ---- configuration and provenance ----

static void add_setting(RunFacts *facts, const Text *key, const cJSON *node) {
    Text value = {0};
    JsonWriter writer = {.out = &value};
    if (cJSON_IsString(node)) text_add(&value, node->valuestring);
    else json_node(&writer, NULL, node);
    text_list_add(&facts->keys, text_string(key));
    text_list_add(&facts->values, text_string(&value));
    text_close(&value);
}

// Depth is limited by the parser. What begins with _ is about the file.
static void flatten(RunFacts *facts, const cJSON *object, const char *prefix) {
    for (const cJSON *node = object->child; node; node = node->next) {
        Text key = {0};
        if (node->string[0] == '_' || facts->keys.count == KEYS_TOLD) continue;
        text_printf(&key, "%s%s%s", prefix, *prefix ? "." : "", node->string);
        if (cJSON_IsObject(node)) flatten(facts, node, text_string(&key));
        else add_setting(facts, &key, node);
        text_close(&key);
    }
}

// NULL where there is no such file; one that cannot be read is told.
static Json *open_member(RunFacts *facts, const char *name) {
    char path[4096];
    path_join(path, facts->dir, name);
    return path_exists(path) ? json_open(path, JSON_LIMIT, EXIT_DATA, &facts->trouble) : NULL;
}

static double number_of(const cJSON *object, const char *key) {
    const cJSON *node = json_member(object, key);
    return cJSON_IsNumber(node) ? node->valuedouble : NAN;
}

static char *string_of(const cJSON *object, const char *key) {
    const cJSON *node = json_member(object, key);
    return memory_string(cJSON_IsString(node) ? node->valuestring : "");
}

static void read_provenance(RunFacts *facts) {
    Json *json = open_member(facts, "run.json");
    const cJSON *root = json ? json_root(json) : NULL, *word;
    facts->program = string_of(root, "program");
    facts->host = string_of(root, "host");
    facts->device = string_of(root, "device");
    facts->parameters = number_of(root, "parameters");
    facts->flops_per_token = number_of(root, "flops_per_token");
    facts->step_tokens = number_of(root, "step_tokens");
    facts->anytime = cJSON_IsTrue(json_member(root, "anytime"));
    cJSON_ArrayForEach(word, json_member(root, "command"))
        if (cJSON_IsString(word)) text_list_add(&facts->command, word->valuestring);
    json_close(json);
}

const char *run_facts_setting(const RunFacts *facts, const char *key) {
    for (int64_t i = 0; i < facts->keys.count; i++)
        if (strcmp(facts->keys.items[i], key) == 0) return facts->values.items[i];
    return "";
}

static double setting_number(const RunFacts *facts, const char *key) {
    double value;
    const char *text = run_facts_setting(facts, key), *end = text_read_number(text, &value);
    return end && !*end ? value : NAN;
}

static void read_configuration(RunFacts *facts) {
    Json *json = open_member(facts, "config.json");
    if (json && cJSON_IsObject(json_root(json))) flatten(facts, json_root(json), "");
    json_close(json);
    facts->planned_steps = setting_number(facts, "train.steps");
    double tokens = setting_number(facts, "train.tokens"), batch = setting_number(facts, "train.batch_tokens");
    if (isnan(facts->step_tokens)) facts->step_tokens = batch;
    if (isnan(facts->planned_steps)) facts->planned_steps = ceil(tokens / facts->step_tokens);
}

void run_facts_model(const RunFacts *facts, Text *out) {
    const char *preset = run_facts_setting(facts, "model.preset");
    if (*preset) text_add(out, preset);
    else if (facts->keys.count)
        text_printf(out, "%s layers of %s", run_facts_setting(facts, "model.depth"),
                    run_facts_setting(facts, "model.width"));
}

// ---- metrics ----

static void find_best(RunFacts *facts, const MetricsTable *table, const FactsRequest *request) {
    const double *column = metrics_table_column(table, request->metric), *step = metrics_table_column(table, "step");
    facts->last = metrics_table_last(table, request->metric);
    facts->best = facts->best_step = NAN;
    for (int64_t i = 0; column && i < table->rows; i++) {
        bool better = request->maximise ? column[i] > facts->best : column[i] < facts->best;
        if (!isfinite(column[i]) || (!better && !isnan(facts->best))) continue;
        facts->best = column[i];
        facts->best_step = step ? step[i] : NAN;
    }
}

static void list_events(RunFacts *facts, const MetricsTable *table) {
    const double *step = metrics_table_column(table, "step");
    for (const MetricsNote *note = table->notes; note < table->notes + table->note_count; note++) {
        Text text = {0};
        if (strcmp(note->key, "event") != 0) continue;
        if (facts->event_count++ >= EVENTS_TOLD) continue;
        text_printf(&text, "%s", note->value);
        for (size_t i = 0; i < text.size; i++)
            if (text.data[i] == '_') text.data[i] = ' ';
        if (step && !isnan(step[note->row])) text_printf(&text, " at step %.0f", step[note->row]);
        text_list_add(&facts->events, text_string(&text));
        text_close(&text);
    }
}

static void make_traces(RunFacts *facts, const MetricsTable *table, const FactsRequest *request) {
    const double *step = metrics_table_column(table, "step"), *tokens = metrics_table_column(table, "tokens");
    double *flops = memory_grow(NULL, table->rows, sizeof *flops, "rows of metrics");
    double *smooth = memory_grow(NULL, table->rows, sizeof *smooth, "rows of metrics");
    for (int64_t i = 0; i < table->rows; i++) flops[i] = tokens ? tokens[i] * facts->flops_per_token : NAN;
    const double *const x[ALONGS] = {step, tokens, metrics_table_column(table, "seconds"), flops};
    for (int t = 0; t < TRACES; t++) {
        const char *key = t == TRACE_METRIC ? request->metric : metric_facts[trace_rows[t].metric].name;
        const double *y = metrics_table_column(table, key);
        int64_t most = t == TRACE_METRIC ? request->metric_points : request->points;
        if (!y) continue;
        if (trace_rows[t].smooth && most > table->rows / 4) // buckets of one or two lines would show no spread
            most = table->rows / 4 > LEAST_POINTS ? table->rows / 4 : LEAST_POINTS;
        if (trace_rows[t].smooth) curve_smooth(smooth, y, table->rows, table->rows / 100);
        curve_thin(&facts->traces[t], x, y, trace_rows[t].smooth ? smooth : y, table->rows, most);
    }
    facts->reach = table->rows / 100;
    free(flops);
    free(smooth);
}

static void read_metrics(RunFacts *facts, const FactsRequest *request) {
    MetricsTable table;
    metrics_table_read(&table, facts->dir, &facts->trouble);
    facts->rows = table.rows;
    double steps = metrics_table_last(&table, "step");
    facts->steps = steps >= 0 && steps < 1e15 ? (int64_t)steps : 0;
    facts->tokens = metrics_table_last(&table, "tokens");
    facts->seconds = metrics_table_last(&table, "seconds");
    facts->speed = metrics_table_last(&table, "tokens_per_second");
    facts->skipped = metrics_table_last(&table, "skipped");
    facts->last_loss = metrics_table_last(&table, "loss");
    facts->energy = metrics_table_last(&table, "gpu_energy");
    find_best(facts, &table, request);
    list_events(facts, &table);
    make_traces(facts, &table, request);
    metrics_table_close(&table);
}

// ---- the whole ----

static char *last_part(const char *dir) {
    size_t size = strlen(dir);
    while (size > 1 && dir[size - 1] == '/') size--;
    size_t begin = size;
    while (begin > 0 && dir[begin - 1] != '/') begin--;
    return memcpy(memory_take((int64_t)(size - begin) + 1, 1, "a name"), dir + begin, size - begin);
}

char *run_dir_name(const char *dir) {
    char *name = last_part(dir), *real;
    if ((strcmp(name, ".") != 0 && strcmp(name, "..") != 0) || !(real = realpath(dir, NULL))) return name;
    free(name);
    name = last_part(real);
    free(real);
    return name;
}

void run_facts_read(RunFacts *facts, const char *dir, const FactsRequest *request) {
    *facts = (RunFacts){.dir = memory_string(dir), .name = run_dir_name(dir)};
    read_provenance(facts);
    read_configuration(facts);
    read_metrics(facts, request);
}

void run_facts_close(RunFacts *facts) {
    for (int t = 0; t < TRACES; t++) curve_close(&facts->traces[t]);
    char *strings[] = {facts->dir, facts->name, facts->program, facts->host, facts->device};
    for (size_t i = 0; i < sizeof strings / sizeof strings[0]; i++) free(strings[i]);
    text_list_close(&facts->keys);
    text_list_close(&facts->values);
    text_list_close(&facts->command);
    text_list_close(&facts->events);
    errors_close(&facts->trouble);
    *facts = (RunFacts){0};
}
