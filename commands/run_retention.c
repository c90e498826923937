// Which checkpoints of a run stay.
#include <stdlib.h>
#include <string.h>

#include "commands/run.h"
#include "runtime/memory.h"

// Reads one step of "1000,5000": where the next begins (or the end is), or NULL where it is no step.
static const char *read_step(const char *text, int64_t *step) {
    enum { DIGITS = 12 };
    size_t digits = strspn(text, "0123456789");
    const char *end = text + digits;
    *step = digits <= DIGITS ? strtoll(text, NULL, 10) : 0;
    if (digits == 0 || *step < 1 || (*end && (*end != ',' || !end[1]))) return NULL;
    return end + (*end == ',');
}

// Hands every step of checkpoint.milestones to `each`; an item that is not a list of steps, or NULL.
typedef void EachStep(int64_t step, void *context);
static const char *read_milestones(const Config *config, EachStep *each, void *context) {
    const TextList *list = &config->checkpoint.milestones;
    for (int64_t i = 0; i < list->count; i++) {
        const char *rest = list->items[i];
        do {
            int64_t step;
            rest = read_step(rest, &step);
            if (!rest) return list->items[i];
            if (each) each(step, context);
        } while (*rest);
    }
    return NULL;
}

bool run_check_milestones(const Config *config, Errors *errors) {
    const char *wrong = read_milestones(config, NULL, NULL);
    return !wrong || errors_add(errors, EXIT_USAGE, "checkpoint.milestones: \"%s\" is not a list of steps; expected "
                                "positive integers such as 1000,5000", wrong);
}

static void look_for(int64_t step, void *context) {
    int64_t *wanted = context;
    if (step == *wanted) *wanted = 0;
}

bool run_is_milestone(const Run *run, int64_t step) {
    read_milestones(&run->config, look_for, &step);
    return step == 0;
}

// ---- retention ----

typedef struct {
    int64_t *steps;
    int64_t count, capacity;
} StepList;

static void add_step(int64_t step, void *context) {
    StepList *list = context;
    list->steps = memory_room(list->steps, list->count + 1, &list->capacity, sizeof step, "milestones");
    list->steps[list->count++] = step;
}

// A rollback from any later step may want the regular checkpoints behind the one that the next step would want: other
// ones, of a stop or the hour, must not oust them, or a run that was stopped would go back further.
Retention run_retention(const Run *run) {
    StepList always = {0};
    int64_t rollback = run_rollback_step(run, run->state.step + 1);
    read_milestones(&run->config, add_step, &always);
    int64_t wanted[] = {run->state.best_step, rollback}; // 0: none
    for (int i = 0; i < 2; i++)
        if (wanted[i] > 0) add_step(wanted[i], &always);
    return (Retention){.keep = run->config.checkpoint.keep, .keep_models = run->config.checkpoint.keep_models,
                       .always = always.steps, .always_count = always.count,
                       .every = rollback ? run->config.checkpoint.every : 0, .since = rollback};
}
