// The numbers that lines of metrics.jsonl have besides `step`: one row each in metric_rows.def, for who writes them and
// who compares runs by them.
#pragma once

#include "runtime/json.h"

typedef enum {
#define METRIC(id, name, tag, task, more_is_better) METRIC_##id,
#include "data/metric_rows.def"
    METRICS
} Metric;

typedef struct {
    const char *name, *tag;
    const char *task; // NULL: none, it is a number of training
    bool more_is_better;
} MetricFacts;
extern const MetricFacts metric_facts[METRICS];

void metric_json(JsonWriter *writer, Metric metric, double value); // a member of a line
const MetricFacts *metric_find(const char *name); // NULL: there is none
const char *metric_nearest(const char *name);   // one that is called almost so; NULL: none is
