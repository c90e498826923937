// Ranks of a run, of one mind: what failed on one has failed on all.
#include <stdlib.h>
#include <string.h>

#include "commands/run.h"
#include "runtime/memory.h"

// What a rank tells: "+" and what it gives, or its exit code, a blank, and messages.
static void report(Text *out, bool good, const Text *given, const Errors *errors) {
    if (good) text_add(out, "+");
    else text_printf(out, "%d %s", errors->count ? errors->exit_code : EXIT_INTERNAL, text_string(&errors->text));
    if (good && given) text_append(out, given->data, given->size);
}

// Messages of a rank, each with the rank in front.
static void add_messages(Errors *errors, int rank, int exit_code, const char *lines) {
    while (*lines) {
        size_t size = strcspn(lines, "\n");
        errors_add(errors, exit_code, "rank %d: %.*s", rank, (int)size, lines);
        lines += size + (lines[size] == '\n');
    }
}

// 0: all are good; else the exit code of the first rank that is not.
static int hear(const Text *told, int ranks, Errors *errors) {
    int failed = 0;
    for (int rank = 0; rank < ranks; rank++) {
        const char *text = text_string(&told[rank]);
        char *rest = NULL;
        if (*text == '+') continue;
        int exit_code = (int)strtol(text, &rest, 10);
        if (!failed) failed = exit_code ? exit_code : EXIT_INTERNAL;
        bool told_before = rank == 0 || strcmp(text, text_string(&told[0])) == 0; // a mistake that all make
        if (!told_before && rest[0] && rest[1]) add_messages(errors, rank, exit_code, rest + 1);
    }
    return failed;
}

bool run_gather(Run *run, bool good, const Text *given, Text *all, Errors *errors) {
    int size = run->ranks ? run->launch.size : 1;
    if (size == 1) {
        if (given) text_append(all, given->data, given->size);
        return good;
    }
    Text mine = {0}, *told = memory_take(size, sizeof *told, "texts of ranks");
    report(&mine, good, given, errors);
    ranks_collect(run->ranks, &mine, told);
    int failed = run_leads(run) ? hear(told, size, errors) : 0;
    failed = (int)ranks_any(run->ranks, (unsigned)failed);
    for (int rank = 0; rank < size; rank++) {
        if (given && !failed && told[rank].size > 1) text_append(&all[rank], told[rank].data + 1, told[rank].size - 1);
        text_close(&told[rank]);
    }
    if (failed && !run_leads(run)) text_clear(&errors->text); // rank 0 tells it
    if (failed && errors->count == 0) {
        errors->count = 1;
        errors->exit_code = failed;
    }
    text_close(&mine);
    free(told);
    return !failed;
}

bool run_agree(Run *run, bool good, Errors *errors) { return run_gather(run, good, NULL, NULL, errors); }

void run_same_configuration(Run *run) {
    Text text = {0};
    if (run->ranks) config_json(&run->config, false, &text);
    ranks_same(run->ranks, "configuration", text_string(&text));
    text_close(&text);
}

void run_share(Run *run, char text[4096]) {
    Text shared = {0};
    if (run_leads(run)) text_add(&shared, text);
    ranks_share(run->ranks, &shared);
    if (shared.size < 4096) strcpy(text, text_string(&shared));
    text_close(&shared);
}

void run_collect(Run *run, Text *text) {
    int others = run->ranks && run_leads(run) ? run->launch.size : 0;
    Text *all = memory_take(others, sizeof *all, "texts of ranks");
    if (run->ranks) ranks_collect(run->ranks, text, all);
    for (int rank = 1; rank < others; rank++) text_append(text, all[rank].data, all[rank].size);
    for (int rank = 0; rank < others; rank++) text_close(&all[rank]);
    free(all);
}

int64_t run_sum(Run *run, int64_t value) {
    int64_t sum = 0;
    char *rest;
    Text text = {0};
    text_printf(&text, "%ld\n", value);
    run_collect(run, &text);
    for (const char *at = text_string(&text); *at; at = rest + 1) sum += strtol(at, &rest, 10);
    text_clear(&text);
    text_printf(&text, "%ld", sum);
    ranks_share(run->ranks, &text);
    sum = strtol(text_string(&text), NULL, 10);
    text_close(&text);
    return sum;
}
