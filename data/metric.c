#include "data/metric.h"

#include <string.h>

const MetricFacts metric_facts[METRICS] = {
#define METRIC(id, name, tag, task, more_is_better) {name, tag, task, more_is_better},
#include "data/metric_rows.def"
};

void metric_json(JsonWriter *writer, Metric metric, double value) {
    json_number(writer, metric_facts[metric].name, value);
}

const MetricFacts *metric_find(const char *name) {
    for (int i = 0; i < METRICS; i++)
        if (strcmp(metric_facts[i].name, name) == 0) return &metric_facts[i];
    return NULL;
}

const char *metric_nearest(const char *name) {
    const char *names[METRICS];
    for (int i = 0; i < METRICS; i++) names[i] = metric_facts[i].name;
    return text_nearest(name, names, METRICS);
}
