// Run: what a command works on, opened part by part from a configuration: backend, data, network, optimizer, run
// directory. The wings model, optim and data meet here.
#pragma once

#include <math.h>
#include <signal.h>

#include "comm/comm.h"
#include "commands/config.h"
#include "data/checkpoint.h"
#include "data/corpus.h"
#include "data/hellaswag.h"
#include "data/loader.h"
#include "data/metrics.h"
#include "data/model_files.h"
#include "data/state_files.h"
#include "data/tensorboard.h"
#include "data/tokenizer.h"
#include "kernels/kernels.h"
#include "model/gpt.h"
#include "optim/optim.h"

enum { STATUS_SLOTS = 2 }; // steps whose results may be on their way

// A rollback: from `step` on, the data of so many further steps is left out.
typedef struct {
    int64_t step, steps;
} SkippedData;
enum { ROLLBACKS = 64 }; // of a run, at most

typedef struct {
    int64_t step;      // finished
    int64_t skipped;   // steps that moved nothing: not finite, or spikes
    int64_t bad_steps; // consecutive ones, up to now
    int64_t repeated_steps; // that a passing fault of the hardware spoilt and that were done again
    SkippedData skipped_data[ROLLBACKS]; // none behind `step`
    int64_t rollbacks;
    double seconds;    // spent training, over all resumes
    bool evaluated;    // at this step, where that is due
    double best_val_loss;
    int64_t best_step; // whose checkpoint is kept for its validation loss; 0: none
    int64_t metrics_bytes;
} RunState;

// What this process found by evaluating; steps are -1 where it did not.
typedef struct {
    double loss;
    int64_t step, best_step; // of the last one, and of RunState.best_val_loss
} Evaluated;

typedef struct Save Save; // a checkpoint on its way
typedef struct Telemetry Telemetry; // commands/telemetry.h

// A model that is there: of the newest checkpoint of a run or a checkpoint, every byte of it verified; of a Hugging
// Face directory; or of a checkpoint file of llm.c.
typedef struct {
    char path[4096]; // of the checkpoint, the directory or the file
    bool own;        // a checkpoint of ours
    GptShape shape;
    ModelFiles *files;
    NamedTensors tensors; // that the shape has, by the names of its class; without data
    char tokenizer[4096]; // path of its tokenizer.json; empty: it has none
    Text bos, eos;        // what its config.json says, as GptTokens
} ModelSource;

typedef struct {
    Config config;
    Launch launch;
    Ranks *ranks;      // NULL: this process alone
    int planned_ranks; // of a plan that is only looked at; 0: those that there are
    const Kernels *kernels;
    Comm comm;
    Tokenizer *tokenizer; // NULL where no tokenizer is known
    Shards *train, *val;  // NULL where not asked for
    DatasetFacts facts;   // of the dataset.json beside the shards
    unsigned tasks;       // of an evaluation: see tasks.h
    Hellaswag hellaswag;  // where that is a task
    char fingerprint[33]; // of the training shards
    ModelSource *beginning; // whose weights the run begins with, until they are loaded; NULL: none
    GptShape shape;
    DType compute, wide;
    double peak; // floating-point operations a second of this rank, as the maker says; 0: not known

    int64_t steps;              // of the run
    int64_t sequences_per_step; // over all ranks
    int64_t micro_steps;        // of this rank
    int64_t cache;              // positions for generation, at most; 0: what sample.every asks for

    Gpt gpt;
    Optim optim;
    double *status; // (STATUS_SLOTS, STATUS_COUNT) of the last steps, host memory of the backend; only for training
    int64_t marks[STATUS_SLOTS];
    int64_t *unit_marks; // by unit: of what is on its way for it
    unsigned place;      // of the micro-batch that is queued: MICRO_FIRST, MICRO_LAST
    int64_t ended, looked_at; // steps that were queued, and waited for
    int64_t repeated_here;    // of state.repeated_steps, by this process
    Loader *loader;
    Metrics metrics;
    TensorBoard tensorboard;
    Telemetry *telemetry; // NULL: nobody looks at GPUs
    RunState state;
    Evaluated validation;
    Arena copies; // host memory for what a checkpoint holds, where one is written beside training; else empty
    Save *save;   // NULL: none is on its way
    char dir[4096]; // run directory
    int lock;       // descriptor, -1 while not locked
    bool fresh, made; // the directory held nothing; was not there
    const char *origin; // the checkpoint that a branch begins with; NULL for all other runs
    const volatile sig_atomic_t *stop; // not 0: evaluation and samples end early; NULL: never
    double begun, deadline;            // clock_seconds(): of the process; from it on as if stopped, 0: never
    int parts;
    bool backend_open;
} Run;

// A run of which nothing is open yet.
#define RUN_CLOSED ((Run){.lock = -1, .metrics.file.descriptor = -1, .tensorboard.file.descriptor = -1, \
                          .state.best_val_loss = INFINITY, .validation.step = -1, .validation.best_step = -1})

// What a command needs of a run.
enum {
    RUN_TRAINING = 1,   // gradients, optimizer, the number of steps
    RUN_DATA = 2,       // training shards
    RUN_VALIDATION = 4, // what eval.tasks needs; validation shards, where data.val names some
};

// Several processes as one run. `ranks` processes are made of this one where it is not 0 and no launcher made them; the
// one that was called ends with their exit code. All make the same calls from here on; rank 0 writes, and tells.
bool run_meet(Run *run, int64_t ranks, double timeout, Errors *errors);
void run_part(Run *run); // when all have come here, as by run_close; a process that ends without it ends all (71)
bool run_leads(const Run *run); // rank 0
void run_same_configuration(Run *run);        // ends all (71) where they differ
void run_share(Run *run, char text[4096]);    // rank 0's to all
void run_collect(Run *run, Text *text);       // on rank 0: those of all ranks, one behind the other
int64_t run_sum(Run *run, int64_t value);     // over all ranks

// Several ranks come here together: true where all of them are `good`. Where one is not, rank 0 gets the messages of
// all, to tell them, and the others one without words with the exit code. One process: `good`. `given` goes to rank 0,
// which gets all of it by rank in `all`, where all are good; to be closed by the caller.
bool run_agree(Run *run, bool good, Errors *errors);
bool run_gather(Run *run, bool good, const Text *given, Text *all, Errors *errors);

// Of this rank, where the options leave it open.
int64_t run_threads(const Run *run);
int64_t run_device(const Run *run);
bool run_open_comm(Run *run, Errors *errors); // behind the backend
bool run_is_sharded(const Run *run);          // each rank keeps a part of the optimizer's state
void run_report_ranks(const Run *run, Text *out);

// What a configuration means, without taking memory: backend, tokenizer, shards, shape, plans. All that is wrong is
// collected.
bool run_plan(Run *run, int parts, Errors *errors);
bool run_open(Run *run, Errors *errors); // takes memory; after run_plan
void run_close(Run *run);
void run_report(const Run *run, Text *out); // model, data, memory plan: what the banner and `check` print
size_t run_planned_bytes(const Run *run);
size_t run_memory_bytes(const Run *run); // of the device, for this rank; 0: not known
void run_report_memory(const Run *run, Text *out);
int64_t run_fitting_micro_batch(const Run *run, int64_t most); // of a planned run: most, or what halving it gives
bool run_check_memory(const Run *run, Errors *errors); // after the plan; says what would fit where it does not (exit 2)
int64_t run_step_tokens(const Run *run); // of one optimizer step, over all ranks
double run_first_save_seconds(int64_t parameters); // of a checkpoint, before one was written: at 100 MB/s
int64_t run_last_step(const Run *run);   // that this process makes: the run's, or train.stop_at before it
int64_t run_data_step(const Run *run, int64_t step); // whose data the step behind `step` gets, from 0
// The step of the checkpoint that a rollback would want if the attempted step `step` were a spike: a multiple of
// checkpoint.every, or where the last rollback went back to. It never falls, so that a run needs no checkpoint before
// the one of its next step. 0: none.
int64_t run_rollback_step(const Run *run, int64_t step);

// One step in the order of the calls: run_begin_step, run_micro_step for each micro-batch, run_end_step; they only
// queue work. Nothing of it depends on the step but what run_begin_step and the batches bring to the device.
// run_wait_step waits for the oldest step that was not waited for; at most STATUS_SLOTS may be on their way.
void run_begin_step(Run *run, StepScalars *scalars, int64_t step); // fills `scalars`; all before it are on their way
void run_micro_step(Run *run, const Batch *batch, int64_t micro);  // gradients accumulate
void run_end_step(Run *run);                                       // reduction, norm, clip, skip decision, update
const double *run_wait_step(Run *run);                             // (STATUS_COUNT), until its slot is used again

// Forward and backward of one micro-batch, with what the ranks send in the first and the last one of a step.
enum { MICRO_FIRST = 1, MICRO_LAST = 2 };
void run_queue_passes(Run *run, unsigned place);

// What the network sees from here on: ITERATE_SHOWN to evaluate, sample and save, ITERATE_Y to train. A run without an
// optimizer has one set of weights.
void run_show(Run *run, Iterate iterate);

// The run directory: named after the configuration unless run.dir is set.
void run_name_directory(Run *run);
// Locks it for its one writer if a run is or was in it; what is read from then on stays as it is.
bool run_lock(Run *run, Errors *errors);
// Takes the lock again where its file was removed under the run. False: another process has the directory now.
bool run_hold_lock(Run *run, Errors *errors);
// Makes it and locks it. `resume`: an existing run is continued; without it a non-empty directory is refused.
bool run_take_directory(Run *run, bool resume, Errors *errors);
bool run_directory_used(const Run *run); // it is there and not empty
void run_discard(Run *run); // removes what a run left that never made a step, if the directory was its own

// RUN/config.json (the resolved configuration) and RUN/run.json, or run.STEP.json of a resume (program, command line,
// machine, data, the checkpoint that a branch begins with): how it came about.
bool run_write_provenance(const Run *run, Errors *errors);

// The newest checkpoint of a run, or the one of this path, with every file checked against its manifest: nothing in it
// is read before. Messages are 66 where there is none, 74 where one is damaged.
bool run_find(const char *run_or_checkpoint, char checkpoint[4096], Errors *errors);

// What a resume goes on from: the checkpoint of this path, or the newest one of a run that is whole and holds a state.
// Damaged newer ones of a run are told on the console and, with `own` (its lock is held), set aside. Messages as
// run_find's, and 66 for a checkpoint that holds a model alone.
bool run_find_state(const char *run_or_checkpoint, bool own, char checkpoint[4096], Errors *errors);
// The same of a run that may have none: the path becomes empty.
bool run_find_valid(const char *run_dir, bool own, char checkpoint[4096], Errors *errors);

// The files of a checkpoint.
#define MODEL_FILE "model.safetensors"
#define TUNING_FILE "tuning.json" // which of the vendor library's algorithms multiply: results depend on them

// Saving. What a checkpoint holds is copied at a step's end and written beside training, one at a time; where there is
// no memory for a copy, run_begin_save writes before it returns. `prune`: then old ones go, as run_retention says.
// Failures are messages of the result, never an end by themselves.
//
// Several ranks make the calls together, at the same step. Each writes its own part, and run_saving tells of that
// alone; run_end_save waits for all parts and makes them a checkpoint. What became of it is the same on all ranks;
// messages of any rank are in the result of rank 0 alone, with the rank in front.
typedef struct {
    int64_t step;
    bool saved;
    bool differing; // the weights are not the same on all ranks: nothing was saved, and the run is to end (76)
    double seconds, held_up; // until it was written, and how long training waited for it, from `began` on
    Errors errors;
} SaveResult;
void run_plan_copies(Run *run); // measures run->copies, where checkpoint.async asks for them and they fit
void run_begin_save(Run *run, bool prune, double began);
bool run_saving(const Run *run); // one is still being written
bool run_end_save(Run *run, SaveResult *result); // waits for the one on its way; false: there is none
void run_close_save(Run *run); // waits, but for no other rank: of several, what was not ended is not saved

// As checkpoint.keep, keep_models, milestones and best say; `always` is freed by the caller.
Retention run_retention(const Run *run);
bool run_check_milestones(const Config *config, Errors *errors); // exit 2
bool run_is_milestone(const Run *run, int64_t step);

// Checkpoints that run_find found. Several ranks load the state together, each what its optimizer keeps, whatever
// number of ranks wrote it.
bool run_load_state(Run *run, const char *checkpoint, Errors *errors);   // z, slots, step: for resume
bool run_load_back(Run *run, const char *checkpoint, Errors *errors);    // the same from a checkpoint of this very run
bool run_shape_of(const char *checkpoint, GptShape *shape, Errors *errors); // of its network
bool run_params(const char *checkpoint, ParamList *params, Errors *errors); // the same; items are to be freed
bool run_load_weights(Run *run, const char *checkpoint, Errors *errors); // model.safetensors: for eval and sample

// The configuration stored in a checkpoint, with overrides on top.
bool run_config_from(const char *checkpoint, Config *config, char *const *overrides, int count, Errors *errors);

// Before the plan of a run that goes on: what was auto when it began stays what it became then; another optimizer is
// refused (exit 2).
bool run_adopt(Run *run, const char *checkpoint, Errors *errors);

// Whether a checkpoint may be continued under this planned configuration: every option that must not change is named
// (exit 2).
bool run_check_resume(const Config *config, const char *checkpoint, Errors *errors);

// Opens what `path` names; all that its architecture lacks here is told before any weight is looked at. To be closed
// after success.
bool source_open(ModelSource *source, const char *path, Errors *errors);
void source_close(ModelSource *source);
const char *source_dtype(const ModelSource *source); // of its embedding: "f32"
// Its own tokenizer; of strangers without one GPT-2's, where the vocabulary has that size and it is installed; else
// NULL. False for one that is not read here.
bool source_tokenizer(const ModelSource *source, Tokenizer **tokenizer, Errors *errors);
bool run_is_foreign(const char *path); // whether it is no run or checkpoint, but has weights

// model.init, where it names weights: opened before the plan, with the options of the network taken from there;
// compared with the data after it; loaded into the gradients' place, as gpt_fill fills it, and closed.
bool run_find_beginning(Run *run, Errors *errors);
bool run_check_beginning(const Run *run, Errors *errors);
void run_load_beginning(Run *run);
void run_close_beginning(Run *run);

// A model from a run or checkpoint directory, a Hugging Face directory or a file of llm.c, ready for forward passes;
// its tokenizer included, and RUN_VALIDATION if `parts` says so. The overrides may change anything but the model. SHOWN
// is what model.safetensors holds; any other iterate is made from the optimizer's state, which takes the memory of
// training.
typedef struct {
    const char *path;
    const TextList *overrides;
    int parts;
    Iterate iterate;
    int64_t cache; // positions for generation, at most; 0: none
    bool ids;      // no tokenizer is opened, but to check it against an optimizer's state
} ModelRequest;
bool run_open_model(Run *run, const ModelRequest *request, Errors *errors);
// What is asked of the optimizer's state must be what the run made of it.
bool run_check_overrides(const ModelRequest *request, Errors *errors);
bool run_open_foreign(Run *run, const ModelRequest *request, Errors *errors); // of it: what is no checkpoint of ours

typedef struct {
    double loss;   // nats per token
    int64_t tokens, bytes;
    double bits_per_byte; // NaN where no tokenizer tells bytes
    double seconds;
} Evaluation;

// The validation loss over the first eval.tokens tokens of data.val (fewer where there are not so many). False without
// a message where it was stopped.
bool run_evaluate(Run *run, Evaluation *result, Errors *errors);
static inline bool run_stopped(const Run *run) {
    return (run->stop && *run->stop) || (run->deadline > 0 && clock_seconds() >= run->deadline);
}

// Appends a sample with the options of the section `sample`, prompt and continuation, as terminal-safe text (ids where
// no tokenizer is known). A logit that is not finite ends it.
void run_sample(Run *run, uint64_t seed, Text *out);

// Floating-point operations per second of a large matrix product on this backend: what tokens/s are judged by.
double run_gemm_rate(const Kernels *kernels, DType dtype);
void run_fill_random(const Kernels *kernels, Tensor out); // for it and for `bench`; contiguous, of any float dtype
