// Options across a resume: what a run that goes on takes from its checkpoint, and what may change.
#include <string.h>

#include "commands/run.h"

// What a resume may change, keys and (with a point) sections. Everything else decides what the finished steps were and
// must stay. train.batch_tokens was resolved when the run began; data.train may name the same data by another path.
static const char *const changeable[] = {
    "device", "threads", "run.dir", "train.steps", "train.tokens", "train.max_seconds", "train.stop_at",
    "train.max_bad_steps", "train.on_spike", "train.spike_sigma", "train.rollback_steps", "train.rollback_skip",
    "train.max_rollbacks", "train.micro_batch", "train.recompute", "data.train", "data.val", "data.prefetch", "eval.",
    "log.", "checkpoint.", "sample.", "optim.", "dist.", NULL};

// Of the optimizer, in any of its sections: what the state holds, and what the past steps meant.
static const char *const kept[] = {"name",   "readout",       "precondition_max",
                                   "compat", "beta_schedule", "ramp_steps", NULL};

// What `auto` was when the run began; it does not follow another train.steps.
static const char *const settled[] = {"optim.ramp_steps", "optim.matrix.ramp_steps", "optim.other.ramp_steps"};

static bool is_listed(const char *const *list, const char *key) {
    for (; *list; list++) {
        size_t size = strlen(*list);
        bool section = (*list)[size - 1] == '.';
        if (section ? strncmp(key, *list, size) == 0 : strcmp(key, *list) == 0) return true;
    }
    return false;
}

static bool is_kept(const char *key) {
    return strncmp(key, "optim.", 6) == 0 && is_listed(kept, strrchr(key, '.') + 1);
}

static void refuse(const char *key, const char *was, const char *is, Errors *errors) {
    errors_add(errors, EXIT_USAGE, "%s: a resume cannot change it from %s to %s, the finished steps depend on it; "
               "start another run for that", key, was, is);
}

static void refuse_kept(const char *key, const char *was, const char *is, void *errors) {
    if (is_kept(key)) refuse(key, was, is, errors);
}

static void refuse_change(const char *key, const char *was, const char *is, void *errors) {
    if (is_kept(key) || !is_listed(changeable, key)) refuse(key, was, is, errors);
}

// Weights that a run began with gave their shape to its options; they need not be there any more.
static void adopt_beginning(Config *config, const Config *saved) {
    if (!gpt_init_is_path(&saved->model) || strcmp(config->model.init, saved->model.init) != 0) return;
    for (int i = 0; i < model_option_rows.count; i++) {
        Text key = {0};
        text_printf(&key, "model.%s", model_option_rows.rows[i].name);
        config_adopt(config, saved, text_string(&key));
        text_close(&key);
    }
}

bool run_adopt(Run *run, const char *checkpoint, Errors *errors) {
    Config saved;
    bool good = run_config_from(checkpoint, &saved, NULL, 0, errors);
    const OptimOptions *o = &run->config.optim;
    if (good && o->warmup_tokens == OPTION_AUTO) config_adopt(&run->config, &saved, "optim.warmup_steps");
    if (good) config_adopt(&run->config, &saved, "train.micro_batch"); // results depend on it, by rounding
    if (good) adopt_beginning(&run->config, &saved);
    for (size_t i = 0; i < sizeof settled / sizeof settled[0] && good; i++)
        config_adopt(&run->config, &saved, settled[i]);
    int before = errors->count;
    if (good) config_differences(&saved, &run->config, refuse_kept, errors);
    config_close(&saved);
    return good && errors->count == before;
}

bool run_check_resume(const Config *config, const char *checkpoint, Errors *errors) {
    Config saved;
    int before = errors->count;
    if (run_config_from(checkpoint, &saved, NULL, 0, errors))
        config_differences(&saved, config, refuse_change, errors);
    config_close(&saved);
    return errors->count == before;
}
