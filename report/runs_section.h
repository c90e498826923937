// Runs on a page: one by itself or several on top of each other.
#pragma once

#include "report/page.h"
#include "report/run_facts.h"

typedef struct {
    const RunFacts *runs;
    int64_t count;
    TextList names;     // what each is called here: of the same colour everywhere
    const char *metric; // of evaluations
    bool maximise;
} RunSet;

void runs_names(RunSet *set); // the names of their directories, or the paths where two would be alike
void runs_section(Page *page, const RunSet *set);
void runs_curves(Page *page, const RunSet *set);  // the metric and the loss along steps, tokens, time and FLOPs
void runs_troubles(Page *page, const RunSet *set); // what could not be read

// Cards: facts at a glance, between cards_begin and cards_end.
void cards_begin(Page *page);
void card(Page *page, const char *name, const char *value); // an empty value: no card
void cards_end(Page *page);

// "1.2 kWh"; "" where it is not known.
const char *energy_text(char out[TEXT_NUMBER], double joules);
const char *count_text(char out[TEXT_NUMBER], double count);
const char *duration_text(char out[TEXT_NUMBER], double seconds);
