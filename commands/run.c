#include "commands/run.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "commands/tasks.h"
#include "commands/telemetry.h"
#include "runtime/file.h"
#include "runtime/integers.h"
#include "runtime/memory.h"

// ---- plan ----

static bool open_backend(Run *run, Errors *errors) {
    static const char *const devices[] = {"cpu", "cuda"};
    const MachineOptions *m = &run->config.machine;
    run->kernels = kernels_find(m->device == OPTION_AUTO ? "auto" : devices[m->device], errors);
    if (!run->kernels) return false;
    bool cpu = run->kernels->is_host();
    if (cpu && m->precision == PRECISION_BF16)
        return errors_add(errors, EXIT_USAGE, "precision: bf16 needs device=cuda; the CPU computes in fp32");
    bool bf16 = m->precision == PRECISION_BF16 || (m->precision == OPTION_AUTO && !cpu);
    run->compute = bf16 ? DTYPE_BF16 : DTYPE_F32;
    run->wide = DTYPE_F32;
    run->backend_open = run->kernels->open(run_threads(run), run_device(run), errors);
    if (run->backend_open) run->peak = run->kernels->peak_flops(run->compute);
    return run->backend_open && run_open_comm(run, errors);
}

static bool open_shards(Run *run, Shards **shards, const char *key, const TextList *globs, Errors *errors) {
    *shards = NULL;
    if (globs->count == 0)
        return errors_add(errors, EXIT_NO_INPUT,
                          "data.%s: no shards are named; make some with `train_gpt prepare FILE... --out DIR` and set "
                          "data.%s to \"DIR/%s_*.bin\"", key, key, key);
    *shards = shards_open(globs, (ShardFormat)run->config.data.format, errors);
    return *shards != NULL;
}

// The tokenizer that the options name, or the one beside the shards; none is not an error.
static bool open_tokenizer(Run *run, Errors *errors) {
    if (run->tokenizer) return true; // a checkpoint's own
    const char *which = run->config.data.tokenizer;
    char beside[4096] = "", path[4096];
    const Shards *first = run->train ? run->train : run->val;
    if (first) path_directory(beside, shards_path(first, 0));
    path_join(path, beside, "tokenizer.json");
    if (!*which && first && path_exists(path)) which = path;
    if (!*which) return true;
    run->tokenizer = tokenizer_open(which, errors);
    return run->tokenizer != NULL;
}

// dataset.json, where there is one, must agree with the tokenizer.
static void check_directory(const Run *run, const char *directory, DatasetFacts *facts, Errors *errors) {
    if (!dataset_facts(directory, facts, errors) || !facts->present || !run->tokenizer) return;
    if (strcmp(facts->tokenizer_hash, tokenizer_hash(run->tokenizer)) == 0) return;
    errors_add(errors, EXIT_DATA,
               "%s/dataset.json: the shards were made with another tokenizer than %s; run `train_gpt prepare` again "
               "with that one, or name shards that are alike", directory, tokenizer_name(run->tokenizer));
}

// Of every directory that shards come from; the facts of the first one are kept.
static bool check_facts(Run *run, Errors *errors) {
    const Shards *sets[] = {run->train, run->val};
    char directory[4096], before[4096] = "";
    int count = errors->count;
    for (int set = 0; set < 2; set++)
        for (int64_t i = 0; sets[set] && i < shards_count(sets[set]); i++) {
            DatasetFacts facts;
            path_directory(directory, shards_path(sets[set], i));
            if (strcmp(directory, before) == 0) continue; // paths of one glob are sorted
            check_directory(run, directory, *before ? &facts : &run->facts, errors);
            strcpy(before, directory);
        }
    return errors->count == count;
}

enum { HOST_SEQUENCES = 4, DEVICE_TOKENS = 1 << 16 }; // of a micro-batch that keeps it busy

static bool plan_steps(Run *run, Errors *errors) {
    TrainOptions *t = &run->config.train;
    int64_t sequences = t->micro_batch != OPTION_AUTO ? t->micro_batch : HOST_SEQUENCES; // the same on every device
    int64_t batch_tokens = t->batch_tokens == OPTION_AUTO ? sequences * t->sequence_length : t->batch_tokens;
    int before = errors->count;
    if (batch_tokens % t->sequence_length != 0)
        errors_add(errors, EXIT_USAGE,
                   "train.batch_tokens: %ld is not a multiple of train.sequence_length %ld; a step is whole sequences",
                   batch_tokens, t->sequence_length);
    if (t->steps == OPTION_AUTO && t->tokens == OPTION_AUTO)
        errors_add(errors, EXIT_USAGE, "train.steps: say how long to train, as train.steps=1000 or train.tokens=300M");
    if (t->steps != OPTION_AUTO && (double)t->steps * (double)batch_tokens > 0x1p53)
        errors_add(errors, EXIT_USAGE, "train.steps: %ld steps of %ld tokens are more than 2^53 tokens; lower one of "
                   "them", t->steps, batch_tokens);
    if (t->on_spike == ON_SPIKE_ROLLBACK && run->config.checkpoint.every == 0)
        errors_add(errors, EXIT_USAGE, "train.on_spike: rollback goes back to a checkpoint, and there is none in time; "
                   "set checkpoint.every");
    if (t->steps != OPTION_AUTO && t->tokens != OPTION_AUTO)
        errors_add(errors, EXIT_USAGE,
                   "train.tokens: train.steps is set too; leave one of them out, or set it to auto");
    if (errors->count > before) return false;
    t->batch_tokens = batch_tokens; // from here on it does not follow train.micro_batch
    run->sequences_per_step = batch_tokens / t->sequence_length;
    run->steps = t->steps != OPTION_AUTO ? t->steps : divide_up(t->tokens, batch_tokens);
    return true;
}

static LoaderSetup loader_setup(const Run *run) {
    const DataOptions *d = &run->config.data;
    int64_t length = run->config.train.sequence_length;
    return (LoaderSetup){.shards = run->train,
                         .sampler = {(SamplerKind)d->sampler, (uint64_t)run->config.run.seed,
                                     run->train ? shards_windows(run->train, length) : 0},
                         .sequence_length = length,
                         .micro_batch = run->config.train.micro_batch,
                         .sequences_per_step = run->sequences_per_step,
                         .vocab = run->shape.vocab,
                         .rank = run->comm.rank,
                         .ranks = run->comm.size,
                         .prefetch = (int)d->prefetch};
}

static bool check_windows(const Shards *shards, const char *key, int64_t length, Errors *errors) {
    if (!shards || shards_windows(shards, length) > 0) return true;
    return errors_add(
        errors, EXIT_DATA,
        "data.%s: %ld tokens, and no shard holds one sequence of train.sequence_length %ld; use longer text "
        "or shorter sequences",
        key, shards_tokens(shards), length);
}

// ---- the whole plan ----

static bool plan_shape(Run *run, Errors *errors) {
    int64_t vocab = run->tokenizer ? tokenizer_vocab(run->tokenizer) : 0;
    return gpt_shape(&run->shape, &run->config.model, vocab, run->config.train.sequence_length, errors);
}

static OptimSetup optim_setup(Run *run) {
    const Config *c = &run->config;
    return (OptimSetup){.options = &c->optim,
                        .route = {&c->route_matrix, &c->route_other},
                        .hyper = {&c->hyper, &c->hyper_matrix, &c->hyper_other},
                        .steps = run->steps,
                        .step_tokens = run->config.train.batch_tokens,
                        .wide = run->wide,
                        .comm = &run->comm,
                        .sharded = run_is_sharded(run)};
}

// What auto became belongs to the run: it must not follow another train.steps.
static void settle_optimizer(Run *run) {
    Config *c = &run->config;
    HyperOptions *own[RECIPE_ROUTES] = {&c->hyper_matrix, &c->hyper_other};
    const Route *routes = run->optim.routes;
    if (c->optim.warmup_steps == OPTION_AUTO && c->optim.warmup_tokens == OPTION_AUTO)
        c->optim.warmup_steps = routes[RECIPE_MATRIX].schedule.warmup;
    for (int i = 0; i < RECIPE_ROUTES; i++)
        if (recipe_reads(routes[i].recipe) >> HYPER_ramp_steps & 1) own[i]->ramp_steps = routes[i].hyper.ramp_steps;
}

// Of the cache: what was asked for, or what the samples of a training run need.
static int64_t cache_positions(const Run *run) {
    const SampleOptions *s = &run->config.sample;
    bool samples = run->parts & RUN_DATA && s->every > 0;
    int64_t wanted = samples ? tokenizer_most_tokens(s->prompt) + s->tokens : run->cache;
    return wanted < run->shape.context ? wanted : run->shape.context;
}

static bool plan_with_micro_batch(Run *run, Errors *errors) {
    bool training = run->parts & RUN_TRAINING;
    const TrainOptions *t = &run->config.train;
    GptSetup setup = {.compute = run->compute, .wide = run->wide, .batch = t->micro_batch, .length = t->sequence_length,
                      .recompute = (int)t->recompute, .training = training, .cache = cache_positions(run),
                      .comm = &run->comm};
    gpt_plan(&run->gpt, run->kernels, &run->shape, &setup);
    if (!training) return true;
    OptimSetup optim = optim_setup(run);
    if (!optim_plan(&run->optim, run->kernels, &run->gpt.params, run->compute, &optim, errors)) return false;
    settle_optimizer(run);
    return true;
}

// Settles train.micro_batch where it is auto: as many sequences as keep the device busy and fit its memory, in micro-
// batches of one size.
static bool plan_network(Run *run, Errors *errors) {
    TrainOptions *t = &run->config.train;
    if (t->micro_batch != OPTION_AUTO) return plan_with_micro_batch(run, errors);
    int64_t most = run->kernels->is_host() ? HOST_SEQUENCES : DEVICE_TOKENS / t->sequence_length;
    int64_t ours = divide_up(run->sequences_per_step, run->comm.size); // of a step
    if (run->parts & RUN_TRAINING && most > ours) most = ours;
    t->micro_batch = 1;
    if (!plan_with_micro_batch(run, errors)) return false;
    int64_t fitting = run_fitting_micro_batch(run, most);
    if (run->parts & RUN_TRAINING) optim_close(&run->optim);
    gpt_close(&run->gpt);
    int64_t sequences = run->parts & RUN_TRAINING ? ours : fitting;
    t->micro_batch = divide_up(sequences, divide_up(sequences, fitting));
    return plan_with_micro_batch(run, errors);
}

static bool open_data(Run *run, Errors *errors) {
    const Config *c = &run->config;
    int before = errors->count;
    if (run->parts & RUN_DATA) open_shards(run, &run->train, "train", &c->data.train, errors);
    if ((run->parts & RUN_VALIDATION) && c->data.val.count > 0 && tasks_has(run, "val"))
        open_shards(run, &run->val, "val", &c->data.val, errors);
    check_windows(run->train, "train", c->train.sequence_length, errors);
    check_windows(run->val, "val", c->train.sequence_length, errors);
    if (run->train) shards_fingerprint(run->train, run->fingerprint);
    return open_tokenizer(run, errors) && errors->count == before && check_facts(run, errors);
}

bool run_plan(Run *run, int parts, Errors *errors) {
    run->parts = parts;
    if (!open_backend(run, errors)) return false;
    bool good = tasks_find(run, errors);
    good = open_data(run, errors) && good;
    good = tasks_check(run, errors) && good;
    good = run_check_milestones(&run->config, errors) && good;
    good = (!(parts & RUN_TRAINING) || plan_steps(run, errors)) && good;
    good = plan_shape(run, errors) && good; // all mistakes at once
    if (!good || !tasks_plan(run, errors) || !plan_network(run, errors)) return false;
    LoaderSetup setup = loader_setup(run);
    if (parts & RUN_TRAINING) run->micro_steps = loader_micro_steps(&setup);
    if (parts & RUN_TRAINING && parts & RUN_DATA) run_plan_copies(run);
    return run_check_memory(run, errors);
}

enum { STATUS_BYTES = STATUS_SLOTS * STATUS_COUNT * sizeof(double) };

// Without it checkpoints are written while training waits.
static void open_copies(Run *run) {
    void *memory = run->copies.used ? run->kernels->take_host_memory(run->copies.used) : NULL;
    if (memory) arena_begin_placing(&run->copies, memory);
}

static void close_copies(Run *run) {
    if (run->copies.base) run->kernels->return_host_memory(run->copies.base, run->copies.capacity);
    arena_close(&run->copies);
}

bool run_open(Run *run, Errors *errors) {
    if (!gpt_open(&run->gpt, errors)) return false;
    OptimTarget target = {run->gpt.params, run->gpt.weights, run->gpt.grads, run->gpt.status, run->gpt.scalars};
    if ((run->parts & RUN_TRAINING) && !optim_open(&run->optim, &target, errors)) return false;
    if (run->parts & RUN_TRAINING) run->status = run->kernels->take_host_memory(STATUS_BYTES);
    if ((run->parts & RUN_TRAINING) && !run->status) DIE(EXIT_INTERNAL, "out of memory: %d numbers", STATUS_COUNT);
    run->unit_marks = memory_take(run->shape.layers + 2, sizeof *run->unit_marks, "marks of blocks");
    open_copies(run);
    LoaderSetup setup = loader_setup(run);
    if (run->parts & RUN_DATA) run->loader = loader_open(&setup, errors);
    return errors->count == 0;
}

void run_close(Run *run) {
    telemetry_end(run->telemetry);
    run_close_save(run);
    close_copies(run);
    run_close_beginning(run);
    if (run->loader) loader_close(run->loader);
    if (run->optim.kernels) optim_close(&run->optim);
    if (run->gpt.kernels) gpt_close(&run->gpt);
    if (run->train) shards_close(run->train);
    if (run->val) shards_close(run->val);
    hellaswag_close(&run->hellaswag);
    if (run->tokenizer) tokenizer_close(run->tokenizer);
    growing_close(&run->tensorboard.file);
    metrics_close(&run->metrics);
    if (run->status) run->kernels->return_host_memory(run->status, STATUS_BYTES);
    if (run->lock >= 0) close(run->lock);
    comm_close(&run->comm); // which tells the ranks where it is
    run_part(run);
    free(run->unit_marks);
    if (run->backend_open) run->kernels->close();
    config_close(&run->config);
    *run = RUN_CLOSED;
}

// ---- one step ----

_Static_assert((MICRO_FIRST | MICRO_LAST) < PROGRAM_END_STEP - PROGRAM_MICRO_STEP, "a program for each place");

void run_begin_step(Run *run, StepScalars *scalars, int64_t step) {
    const TrainOptions *t = &run->config.train;
    *scalars = (StepScalars){.inverse_weight = 1.0 / (double)run_step_tokens(run),
                             .spike_sigma = t->on_spike == ON_SPIKE_NONE ? 0 : t->spike_sigma};
    optim_scalars(&run->optim, step, scalars);
    scalars->seen = step - 1 - (run->ended - run->looked_at);
    gpt_begin_step(&run->gpt, scalars);
}

// What is the same every time is recorded, unless the host has to carry a part of it.
static void run_program(Run *run, int64_t program, void (*queue)(void *context)) {
    if (run->comm.row->queued) kernels_run(run->kernels, program, queue, run);
    else queue(run);
}

// Where a micro-batch stands in its step, as far as that changes anything.
static unsigned place_of(const Run *run, int64_t micro) {
    if (run->comm.size == 1) return 0;
    return (micro == 0 ? MICRO_FIRST : 0) | (micro == run->micro_steps - 1 ? MICRO_LAST : 0);
}

static void queue_micro_step(void *context) {
    Run *run = context;
    run_queue_passes(run, run->place);
}

void run_micro_step(Run *run, const Batch *batch, int64_t micro) {
    gpt_load_batch(&run->gpt, batch);
    run->place = place_of(run, micro);
    run->kernels->range_begin("micro-step");
    run_program(run, PROGRAM_MICRO_STEP + run->place, queue_micro_step);
    run->kernels->range_end();
    if (run->place & MICRO_FIRST) run->optim.stale = false; // its forward gathered the weights
}

static void queue_end_step(void *context) {
    Run *run = context;
    optim_step(&run->optim);
}

static int64_t slot_of(int64_t step) { return step % STATUS_SLOTS; }

void run_end_step(Run *run) {
    REQUIRE(run->ended - run->looked_at < STATUS_SLOTS, "more than %d steps on their way", STATUS_SLOTS);
    int64_t slot = slot_of(run->ended++);
    run->kernels->range_begin("optimizer");
    run_program(run, PROGRAM_END_STEP, queue_end_step);
    run->kernels->range_end();
    run->optim.stale = run_is_sharded(run); // whether it was queued or replayed
    run->kernels->download_later(run->status + slot * STATUS_COUNT, run->gpt.status);
    run->marks[slot] = run->kernels->mark();
}

const double *run_wait_step(Run *run) {
    REQUIRE(run->looked_at < run->ended, "no step is on its way");
    int64_t slot = slot_of(run->looked_at++);
    run->kernels->wait(run->marks[slot]);
    return run->status + slot * STATUS_COUNT;
}

void run_show(Run *run, Iterate iterate) {
    if (run->parts & RUN_TRAINING) optim_load_weights(&run->optim, iterate, run->state.step);
}

int64_t run_data_step(const Run *run, int64_t step) {
    for (int64_t i = 0; i < run->state.rollbacks; i++) step += run->state.skipped_data[i].steps;
    return step;
}

int64_t run_rollback_step(const Run *run, int64_t step) {
    const TrainOptions *t = &run->config.train;
    const RunState *s = &run->state;
    int64_t every = run->config.checkpoint.every, last = s->rollbacks ? s->skipped_data[s->rollbacks - 1].step : 0;
    if (t->on_spike != ON_SPIKE_ROLLBACK || every == 0) return 0;
    int64_t wanted = step > t->rollback_steps ? (step - t->rollback_steps) / every * every : 0;
    if (wanted < last) wanted = last;
    if (wanted == 0) wanted = every; // the first that there is
    return wanted < step ? wanted : 0;
}

// ---- report ----

int64_t run_step_tokens(const Run *run) { return run->sequences_per_step * run->config.train.sequence_length; }

double run_first_save_seconds(int64_t parameters) { return 16 * (double)parameters / 100e6; }

int64_t run_last_step(const Run *run) {
    int64_t stop = run->config.train.stop_at;
    return stop > 0 && stop < run->steps ? stop : run->steps;
}

void run_report(const Run *run, Text *out) {
    char a[TEXT_NUMBER], b[TEXT_NUMBER];
    text_printf(out, "model   ");
    gpt_print(&run->shape, out);
    Text misfits = {0};
    gpt_misfits(&run->shape, &misfits);
    if (misfits.size == 0) text_add(out, "\n        checkpoints load into transformers\n");
    else text_printf(out, "\n        no Hugging Face class (%s): checkpoints are ours alone\n", text_string(&misfits));
    text_close(&misfits);
    if (run->beginning) text_printf(out, "begin   with the weights of %s\n", run->beginning->path);
    if (run->train)
        text_printf(out, "data    %s tokens, %s\n", text_count(a, (double)shards_tokens(run->train)),
                    run->tokenizer ? tokenizer_name(run->tokenizer) : "tokenizer unknown");
    if (run->train && run->facts.present && shards_tokens(run->train) < run->facts.train_tokens)
        text_printf(out, "        dataset.json counts %s: data.train does not name all of its shards\n",
                    text_count(a, (double)run->facts.train_tokens));
    if (run->train)
        text_printf(out, "train   %ld steps of %s tokens (%ld micro-batch%s of %ld x %ld), %s in all\n", run->steps,
                    text_count(a, (double)run_step_tokens(run)), run->micro_steps, run->micro_steps == 1 ? "" : "es",
                    run->config.train.micro_batch, run->config.train.sequence_length,
                    text_count(b, (double)(run->steps * run_step_tokens(run))));
    if (run->optim.kernels) {
        text_add(out, "optim   ");
        optim_print(&run->optim, out);
    }
    run_report_ranks(run, out);
    run_report_memory(run, out);
}

// ---- run directory ----

static bool open_lock(Run *run, const char *path, Errors *errors) {
    run->lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    return run->lock >= 0 ||
           errors_add(errors, EXIT_CANNOT_WRITE, "%s: cannot be made; check the permissions of run.dir", path);
}

// A run that ended before its first step removes its lock: then another file has the name.
static bool lock_directory(Run *run, Errors *errors) {
    char path[4096];
    path_join(path, run->dir, "lock");
    while (run->lock < 0) {
        if (!open_lock(run, path, errors)) return false;
        if (flock(run->lock, LOCK_EX | LOCK_NB) == 0 && path_names(path, run->lock)) return true;
        int error = errno;
        bool gone = !path_names(path, run->lock);
        close(run->lock);
        run->lock = -1;
        if (gone && directory_make(run->dir, errors)) continue;
        if (error != EWOULDBLOCK)
            return errors_add(errors, EXIT_CANNOT_WRITE,
                              "%s: locking failed: %s; choose a run.dir on a file system that has locks", path,
                              strerror(error));
        return errors_add(errors, EXIT_USAGE,
                          "%s: another process is training in this run directory; choose another run.dir", run->dir);
    }
    return true;
}

bool run_hold_lock(Run *run, Errors *errors) {
    char path[4096];
    int held = run->lock;
    path_join(path, run->dir, "lock");
    if (path_names(path, run->lock)) return true;
    run->lock = -1;
    bool locked = directory_make(run->dir, errors) && lock_directory(run, errors);
    if (locked) close(held);
    else run->lock = held;
    return locked;
}

bool run_lock(Run *run, Errors *errors) {
    static const char *const marks[] = {"checkpoints", "lock"};
    char path[4096];
    for (int i = 0; i < 2; i++) {
        path_join(path, run->dir, marks[i]);
        if (path_exists(path)) return lock_directory(run, errors);
    }
    return true;
}

// Whether it holds nothing, or only the lock where that is held.
static bool is_empty(const Run *run) {
    Errors ignored = {0};
    TextList names = {0};
    bool readable = !path_is_directory(run->dir) || directory_list(&names, run->dir, &ignored);
    bool only_lock = run->lock >= 0 && names.count == 1 && strcmp(names.items[0], "lock") == 0;
    bool empty = readable && (names.count == 0 || only_lock);
    text_list_close(&names);
    errors_close(&ignored);
    return empty;
}

void run_name_directory(Run *run) {
    const char *preset = *run->config.model.preset ? run->config.model.preset : "gpt";
    if (*run->config.run.dir)
        snprintf(run->dir, sizeof run->dir, "%s", run->config.run.dir);
    else
        snprintf(run->dir, sizeof run->dir, "runs/%s-%06lx", preset, (unsigned long)(config_hash(&run->config) >> 40));
}

static bool refuse_occupied(const Run *run, Errors *errors) {
    return errors_add(errors, EXIT_USAGE, "%s: the run directory is not empty; %s", run->dir,
                      run->origin ? "a branch needs a new one"
                                  : "continue it with --resume, or choose another run.dir");
}

bool run_take_directory(Run *run, bool resume, Errors *errors) {
    if (!resume && !is_empty(run)) return refuse_occupied(run, errors); // before anything is made in it
    run->made = !path_exists(run->dir);
    if (!directory_make(run->dir, errors) || !lock_directory(run, errors)) return false;
    run->fresh = is_empty(run);
    return resume || run->fresh || refuse_occupied(run, errors);
}

bool run_directory_used(const Run *run) { return !is_empty(run); }

void run_discard(Run *run) {
    static const char *const names[] = {"config.json", "run.json", "metrics.jsonl", "lock"};
    Errors ignored = {0};
    char path[4096];
    if (!run->fresh || run->lock < 0) return;
    path_join(path, run->dir, "checkpoints");
    if (rmdir(path) != 0 && errno != ENOENT) return; // there is one: that is to be kept
    metrics_close(&run->metrics);
    growing_close(&run->tensorboard.file);
    if (*run->tensorboard.file.path) file_remove(run->tensorboard.file.path, &ignored);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        path_join(path, run->dir, names[i]);
        file_remove(path, &ignored);
    }
    if (run->made) rmdir(run->dir);
    errors_close(&ignored);
}
