// HellaSwag: of four endings the model should find the right one the likeliest.
#include <stdlib.h>

#include "commands/console.h"
#include "commands/tasks.h"
#include "data/metric.h"
#include "model/score.h"
#include "runtime/file.h"
#include "runtime/memory.h"

const char *const hellaswag_names[HELLASWAG_STYLES] = {"hellaswag_llmc", "hellaswag_lmeval"};

bool hellaswag_plan(Run *run, Errors *errors) {
    const EvalOptions *options = &run->config.eval;
    char path[4096];
    path_of_data(path, "hellaswag/hellaswag_val.jsonl");
    HellaswagSetup setup = {.path = *options->hellaswag ? options->hellaswag : path, .tokenizer = run->tokenizer,
                            .vocab = run->shape.vocab, .length = run->config.train.sequence_length,
                            .limit = options->examples};
    if (!hellaswag_open(&run->hellaswag, &setup, errors)) return false;
    for (int style = 0; style < HELLASWAG_STYLES; style++)
        if (run->hellaswag.cut[style] > 0)
            console_note("%s: %ld of %ld rows are longer than the %ld tokens that the model sees; their contexts are "
                         "cut from the left", hellaswag_names[style], run->hellaswag.cut[style],
                         run->hellaswag.examples * HELLASWAG_ENDINGS, setup.length);
    return true;
}

// ---- scoring ----

// Rows of every `ranks`-th example, from this rank's first one on; freed by the caller.
static ScoreRow *list_rows(const Run *run, HellaswagStyle style, int64_t *count) {
    const Hellaswag *set = &run->hellaswag;
    ScoreRow *rows = memory_take(set->examples * HELLASWAG_ENDINGS, sizeof *rows, "endings of examples");
    *count = 0;
    for (int64_t example = run->comm.rank; example < set->examples; example += run->comm.size)
        for (int ending = 0; ending < HELLASWAG_ENDINGS; ending++) {
            int64_t number = example * HELLASWAG_ENDINGS + ending;
            const HellaswagRow *row = &set->rows[style][number];
            rows[(*count)++] = (ScoreRow){.context = set->ids.items + row->context.first,
                                          .context_count = row->context.count,
                                          .ending = set->ids.items + row->ending.first,
                                          .ending_count = row->ending.count, .number = number};
        }
    score_sort(rows, *count);
    return rows;
}

// False where it was stopped. Ranks come to the end together, whatever each has left to do.
static bool score_rows(Run *run, HellaswagStyle style, ScoreRow *rows, int64_t count) {
    enum { STOP = 1, MORE = 2 };
    Scorer scorer;
    unsigned wishes;
    int64_t done = 0;
    score_open(&scorer, &run->gpt);
    do {
        console_progress(hellaswag_names[style], done, count);
        wishes = ranks_any(run->ranks, (run_stopped(run) ? STOP : 0) | (done < count ? MORE : 0));
        if (!(wishes & STOP) && done < count) done += score_run(&scorer, rows + done, count - done);
    } while (wishes == MORE);
    score_close(&scorer);
    console_wipe();
    return wishes == 0;
}

typedef struct {
    int64_t right, right_norm, not_finite;
} Counts;

static Counts judge(const Run *run, HellaswagStyle style, const double *losses) {
    const Hellaswag *set = &run->hellaswag;
    Counts counts = {0};
    for (int64_t example = run->comm.rank; example < set->examples; example += run->comm.size) {
        int64_t first = example * HELLASWAG_ENDINGS;
        const HellaswagRow *rows = &set->rows[style][first];
        counts.right += hellaswag_choose(rows, losses + first, false) == set->labels[example];
        counts.right_norm += hellaswag_choose(rows, losses + first, true) == set->labels[example];
        for (int i = 0; i < HELLASWAG_ENDINGS; i++) counts.not_finite += !isfinite(losses[first + i]);
    }
    return counts;
}

static double standard_error(double share, int64_t count) {
    return count > 1 ? sqrt(share * (1 - share) / (double)(count - 1)) : NAN;
}

static bool run_style(Run *run, HellaswagStyle style, HellaswagResult *result) {
    const Hellaswag *set = &run->hellaswag;
    int64_t count;
    ScoreRow *rows = list_rows(run, style, &count);
    double *losses = memory_take(set->examples * HELLASWAG_ENDINGS, sizeof *losses, "endings of examples");
    bool done = score_rows(run, style, rows, count);
    for (int64_t i = 0; i < count; i++) losses[rows[i].number] = rows[i].loss;
    if (done) {
        Counts counts = judge(run, style, losses);
        double acc = (double)run_sum(run, counts.right) / (double)set->examples;
        double acc_norm = (double)run_sum(run, counts.right_norm) / (double)set->examples;
        result->finite = run_sum(run, counts.not_finite) == 0 && result->finite;
        result->scores[style] = (HellaswagScore){true, acc, acc_norm, standard_error(acc, set->examples),
                                                 standard_error(acc_norm, set->examples)};
    }
    free(losses);
    free(rows);
    return done;
}

bool hellaswag_run(Run *run, TaskResults *results, Errors *errors) {
    HellaswagResult *result = &results->hellaswag;
    double begin = clock_seconds();
    (void)errors; // all that could be wrong was found by the plan
    *result = (HellaswagResult){.examples = run->hellaswag.examples, .finite = true};
    for (int style = 0; style < HELLASWAG_STYLES; style++)
        if (run->hellaswag.rows[style] && !run_style(run, (HellaswagStyle)style, result)) return false;
    result->seconds = clock_seconds() - begin;
    return true;
}

// ---- what is told ----

void hellaswag_json(const TaskResults *results, bool full, JsonWriter *w) {
    static const Metric shares[HELLASWAG_STYLES][2] = {{METRIC_LLMC_ACC, METRIC_LLMC_ACC_NORM},
                                                       {METRIC_LMEVAL_ACC, METRIC_LMEVAL_ACC_NORM}};
    const HellaswagResult *result = &results->hellaswag;
    for (int style = 0; style < HELLASWAG_STYLES; style++) {
        const HellaswagScore *score = &result->scores[style];
        const double values[] = {score->acc, score->acc_norm}, errors[] = {score->acc_stderr, score->acc_norm_stderr};
        for (int i = 0; i < 2 && score->present; i++) metric_json(w, shares[style][i], values[i]);
        for (int i = 0; i < 2 && score->present && full; i++) {
            char key[64];
            snprintf(key, sizeof key, "%s_stderr", metric_facts[shares[style][i]].name);
            json_number(w, key, errors[i]);
        }
    }
    if (full) json_integer(w, "hellaswag_examples", result->examples);
    if (full) json_number(w, "hellaswag_seconds", result->seconds);
}

// One example has no standard error.
static void print_share(Text *out, const char *name, double share, double error) {
    text_printf(out, "%s %.4f", name, share);
    if (!isnan(error)) text_printf(out, " (+- %.4f)", error);
}

void hellaswag_print(const Run *run, const TaskResults *results, Text *out) {
    const HellaswagResult *result = &results->hellaswag;
    (void)run;
    for (int style = 0; style < HELLASWAG_STYLES; style++) {
        const HellaswagScore *score = &result->scores[style];
        if (!score->present) continue;
        text_printf(out, "%-16s ", hellaswag_names[style]);
        print_share(out, "acc", score->acc, score->acc_stderr);
        print_share(out, ", acc_norm", score->acc_norm, score->acc_norm_stderr);
        text_add(out, "\n");
    }
    text_printf(out, "                 over %ld examples (%.1f s)\n", result->examples, result->seconds);
}

void hellaswag_note(const TaskResults *results, Text *out) {
    const char *between = "";
    for (int style = 0; style < HELLASWAG_STYLES; style++) {
        const HellaswagScore *score = &results->hellaswag.scores[style];
        if (score->present)
            text_printf(out, "%s%s acc %.4f, acc_norm %.4f", between, hellaswag_names[style], score->acc,
                        score->acc_norm);
        if (score->present) between = "; ";
    }
}
