#include "commands/tasks.h"

#include <string.h>

#include "data/metric.h"

// ---- val: the loss on validation shards ----

static bool val_run(Run *run, TaskResults *results, Errors *errors) {
    return run_evaluate(run, &results->val, errors);
}

static void val_json(const TaskResults *results, bool full, JsonWriter *w) {
    const Evaluation *e = &results->val;
    metric_json(w, METRIC_VAL_LOSS, e->loss);
    if (full) json_number(w, "perplexity", exp(e->loss));
    if (!isnan(e->bits_per_byte) && full) json_number(w, "bits_per_byte", e->bits_per_byte);
    if (!isnan(e->bits_per_byte) && !full) metric_json(w, METRIC_VAL_BITS_PER_BYTE, e->bits_per_byte);
    if (!full) return;
    json_integer(w, "tokens", e->tokens);
    json_integer(w, "bytes", e->bytes);
    json_number(w, "seconds", e->seconds);
}

static void val_print(const Run *run, const TaskResults *results, Text *out) {
    const Evaluation *e = &results->val;
    text_printf(out, "validation loss  %.4f nats per token over %ld tokens (%.1f s)\n", e->loss, e->tokens, e->seconds);
    text_printf(out, "perplexity       %.2f\n", exp(e->loss));
    if (isnan(e->bits_per_byte)) return;
    text_printf(out, "bits per byte    %.4f\n", e->bits_per_byte);
    if (run->facts.present)
        text_printf(out, "                 %.4f is the byte-bigram entropy of the corpus\n", run->facts.bigram_bits);
}

static void val_note(const TaskResults *results, Text *out) {
    const Evaluation *e = &results->val;
    text_printf(out, "validation loss %.4f over %ld tokens", e->loss, e->tokens);
    if (!isnan(e->bits_per_byte)) text_printf(out, ", %.4f bits per byte", e->bits_per_byte);
}

// ---- the table ----

// What it needs, how it runs, and what it tells.
static const struct {
    const char *name;
    bool (*plan)(Run *run, Errors *errors); // may be NULL
    bool (*run)(Run *run, TaskResults *results, Errors *errors);
    void (*json)(const TaskResults *results, bool full, JsonWriter *writer);
    void (*print)(const Run *run, const TaskResults *results, Text *out);
    void (*note)(const TaskResults *results, Text *out);
} tasks[] = {
    {"val", NULL, val_run, val_json, val_print, val_note},
    {"hellaswag", hellaswag_plan, hellaswag_run, hellaswag_json, hellaswag_print, hellaswag_note},
};
enum { TASKS = sizeof tasks / sizeof tasks[0] };

static unsigned find(const char *name, size_t size) {
    for (int i = 0; i < TASKS; i++)
        if (strlen(tasks[i].name) == size && strncmp(tasks[i].name, name, size) == 0) return 1u << i;
    return 0;
}

bool tasks_has(const Run *run, const char *name) { return run->tasks & find(name, strlen(name)); }

static bool refuse(const char *list, Errors *errors) {
    Text names = {0};
    for (int i = 0; i < TASKS; i++) text_printf(&names, "%s%s", i ? ", " : "", tasks[i].name);
    errors_add(errors, EXIT_USAGE, "eval.tasks: \"%s\" is not a list of tasks; there are %s", list,
               text_string(&names));
    text_close(&names);
    return false;
}

bool tasks_find(Run *run, Errors *errors) {
    const TextList *list = &run->config.eval.tasks;
    run->tasks = 0;
    for (int64_t i = 0; i < list->count; i++)
        for (const char *at = list->items[i], *next; at; at = next) {
            size_t size = strcspn(at, ",");
            unsigned task = find(at, size);
            if (!task) return refuse(list->items[i], errors);
            run->tasks |= task;
            next = at[size] ? at + size + 1 : NULL;
        }
    return list->count > 0 || refuse("", errors);
}

// A run that trains may never evaluate.
static bool evaluates(const Run *run) {
    return run->parts & RUN_VALIDATION && (!(run->parts & RUN_DATA) || run->config.eval.every > 0);
}

bool tasks_check(Run *run, Errors *errors) {
    const Config *c = &run->config;
    bool good = true, val = tasks_has(run, "val");
    if (!run->tasks || !evaluates(run) || !(run->parts & RUN_DATA)) return true; // `eval` says later what it has not
    if (val && c->data.val.count == 0)
        good = errors_add(errors, EXIT_USAGE, "data.val: eval.every is %ld but no validation shards are named; name "
                          "them or set eval.every=0", c->eval.every);
    if (!val && c->checkpoint.best)
        good = errors_add(errors, EXIT_USAGE, "checkpoint.best: the best is known by its validation loss; add val to "
                          "eval.tasks");
    return good;
}

bool tasks_plan(Run *run, Errors *errors) {
    bool good = true;
    for (int i = 0; i < TASKS && evaluates(run); i++)
        if (run->tasks >> i & 1 && tasks[i].plan) good = tasks[i].plan(run, errors) && good;
    return good;
}

bool tasks_run(Run *run, TaskResults *results, Errors *errors) {
    *results = (TaskResults){.tasks = run->tasks};
    for (int i = 0; i < TASKS; i++)
        if (run->tasks >> i & 1 && !tasks[i].run(run, results, errors)) return false;
    return true;
}

bool tasks_finite(const TaskResults *results) {
    return (!(results->tasks & find("val", 3)) || isfinite(results->val.loss)) &&
           (!(results->tasks & find("hellaswag", 9)) || results->hellaswag.finite);
}

void tasks_json(const TaskResults *results, bool full, JsonWriter *writer) {
    for (int i = 0; i < TASKS; i++)
        if (results->tasks >> i & 1) tasks[i].json(results, full, writer);
}

void tasks_print(const Run *run, const TaskResults *results, Text *out) {
    for (int i = 0; i < TASKS; i++)
        if (results->tasks >> i & 1) tasks[i].print(run, results, out);
}

void tasks_note(const TaskResults *results, Text *out) {
    for (int i = 0; i < TASKS; i++) {
        if (!(results->tasks >> i & 1)) continue;
        if (out->size) text_add(out, "; ");
        tasks[i].note(results, out);
    }
}
