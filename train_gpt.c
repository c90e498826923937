// Thalweg: GPT pretraining. The training loop, and the table of commands.
#include <limits.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "commands/arguments.h"
#include "commands/command.h"
#include "commands/console.h"
#include "commands/evaluation.h"
#include "commands/telemetry.h"
#include "commands/telling.h"
#include "commands/trouble.h"
#include "data/metrics_table.h"
#include "runtime/process.h"
#include "runtime/version.h"

// ---- signals ----

static volatile sig_atomic_t stop_signal, save_signal, interrupted;

static void on_stop(int signal_number) {
    if (signal_number == SIGINT && interrupted) {
        console_abandon();
        _exit(EXIT_INTERRUPTED);
    }
    interrupted = interrupted || signal_number == SIGINT;
    stop_signal = signal_number;
}

static void on_save(int signal_number) { save_signal = signal_number; }

static void catch_signals(void) {
    static const struct {
        int number;
        void (*handler)(int);
    } rows[] = {{SIGTERM, on_stop}, {SIGINT, on_stop}, {SIGUSR1, on_stop}, {SIGHUP, on_stop}, {SIGUSR2, on_save},
                {SIGPIPE, SIG_IGN}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct sigaction action = {.sa_handler = rows[i].handler, .sa_flags = SA_RESTART}, before;
        sigaction(rows[i].number, NULL, &before);
        if (rows[i].number != SIGHUP || before.sa_handler != SIG_IGN) sigaction(rows[i].number, &action, NULL);
    } // nohup stays what it is
}

// ---- the loop ----

static bool due(int64_t step, int64_t every) { return every > 0 && step % every == 0; }

// What was told, what a checkpoint took the last time, the checkpoints there are, and the exit code of evaluations that
// failed.
typedef struct {
    Telling told;
    double saving;
    int64_t saved_step, saved_best; // of the last checkpoint, and of the best one
    double saved_loss;              // of that one
    int trouble;
    int lost; // exit code: the state is not finite, or another process took the run directory
} Pace;

// Seconds of the call that was just made, which `began`.
static double since(double began) { return clock_seconds() - began; }

// A checkpoint is begun before this, so that it is written by train.max_seconds even if it takes twice as long as the
// last one.
static void set_deadline(Run *run, Pace *pace) {
    if (pace->saving == 0) pace->saving = run_first_save_seconds(run->gpt.params.elements);
    if (run->config.train.max_seconds > 0) // 0 would be never, and the clock may be young
        run->deadline = fmax(1e-9, run->begun + run->config.train.max_seconds - 2 * pace->saving);
}

// Whether one more step, with the evaluation that is due before or after it, would pass the deadline.
static bool is_late(const Run *run, const Pace *pace, double step_seconds) {
    double next = clock_seconds() + step_seconds;
    if (evaluation_due(run, run->state.step) || evaluation_due(run, run->state.step + 1))
        next += pace->told.spent[SPENT_EVALUATING].last;
    return run->deadline > 0 && next >= run->deadline;
}

static void evaluate_if_due(Run *run, Pace *pace) {
    double began = clock_seconds();
    if (!evaluation_pending(run)) return;
    int exit_code = evaluation_run(run);
    if (exit_code) pace->trouble = exit_code;
    if (run->state.evaluated) tell_spent(&pace->told, SPENT_EVALUATING, since(began));
}

static void remember_best(const Run *run, Pace *pace) {
    pace->saved_best = run->state.best_step;
    pace->saved_loss = run->state.best_val_loss;
}

// What became of the checkpoint on its way, if there is one: waits for it. That it fails is told each time: by then
// there is more to lose.
static bool end_save(Run *run, Pace *pace) {
    SaveResult result;
    console_doing(run->save ? "saving" : NULL);
    bool ended = run_end_save(run, &result);
    console_doing(NULL);
    if (!ended) return true;
    if (result.saved) {
        char waited[TEXT_NUMBER] = "";
        if (result.held_up < result.seconds)
            snprintf(waited, sizeof waited, ", training waited %.0f ms", 1e3 * result.held_up);
        console_note("step %ld: checkpoint in %s (%.1f s%s)", result.step, run->dir, result.seconds, waited);
        pace->saved_step = result.step;
        if (result.step == run->state.best_step) remember_best(run, pace);
    } else if (result.step == run->state.best_step) {
        run->state.best_step = pace->saved_best; // that one is still the best there is
        run->state.best_val_loss = pace->saved_loss;
    }
    console_errors(&result.errors);
    if (result.differing) pace->lost = EXIT_DIVERGED;
    pace->saving = result.seconds;
    tell_spent(&pace->told, SPENT_SAVING, result.held_up);
    set_deadline(run, pace);
    return result.saved;
}

// A run that diverged may need its older checkpoints: none is removed then. `wait`: until it is written.
static bool save(Run *run, Pace *pace, bool diverged, bool wait) {
    double began = clock_seconds();
    Errors errors = {0};
    end_save(run, pace);
    save_signal = 0;
    if (!trouble_state_is_good(run)) pace->lost = EXIT_DIVERGED;
    else if (ranks_any(run->ranks, run_leads(run) && !run_hold_lock(run, &errors))) pace->lost = EXIT_CANNOT_WRITE;
    console_errors(&errors);
    if (pace->lost) return false;
    console_doing("saving");
    run_begin_save(run, !diverged, began);
    console_doing(NULL);
    bool later = run->ranks || run_saving(run); // several ranks first agree that all parts are written
    return !wait && later ? true : end_save(run, pace);
}

// What was trained so far is kept.
static int end_early(Run *run, Pace *pace, int exit_code) {
    end_save(run, pace);
    if (run->state.step > pace->saved_step) save(run, pace, exit_code == EXIT_DIVERGED, true);
    return exit_code;
}

// Damaged data.
static int give_up(Run *run, Pace *pace, Errors *errors) {
    int exit_code = errors->exit_code;
    console_errors(errors);
    return end_early(run, pace, exit_code);
}

// The checkpoint on its way may be the one to go back to.
static Trouble meet(Run *run, const StepResult *result, Pace *pace) {
    end_save(run, pace);
    Trouble trouble = trouble_meet(run, result);
    if (pace->saved_step > run->state.step) pace->saved_step = run->state.step;
    if (pace->saved_best > run->state.step) remember_best(run, pace);
    return trouble;
}

static bool save_due(const Run *run, int64_t step) {
    return due(step, run->config.checkpoint.every) || run_is_milestone(run, step) || run->state.best_step == step;
}

// What one rank is asked for between two steps, and then all do.
enum { WISH_STOP = 1, WISH_SAVE = 2, WISH_WAIT = 4 }; // to wait: a checkpoint is still being written

static unsigned agree(Run *run, const Pace *pace, double step_seconds) {
    bool stop = stop_signal || is_late(run, pace, step_seconds);
    return ranks_any(run->ranks, (stop ? WISH_STOP : 0) | (save_signal ? WISH_SAVE : 0) |
                                 (run_saving(run) ? WISH_WAIT : 0));
}

static bool stopped(Run *run) { return ranks_any(run->ranks, run_stopped(run)); }

// Whether nothing is to be done between the queued step and the next, so that the device need not wait for the host.
static bool runs_ahead(const Run *run, const Pipeline *pipeline, unsigned wishes) {
    const Config *c = &run->config;
    int64_t step = pipeline->queued;
    bool interrupted_here = wishes & (WISH_STOP | WISH_SAVE) || run->state.bad_steps > 0 || step == run_last_step(run);
    return !run->kernels->is_host() && !interrupted_here && run->deadline == 0 && !evaluation_due(run, step) &&
           !due(step, c->sample.every) && !save_due(run, step);
}

static int train(Run *run, Pace *pace) {
    const Config *c = &run->config;
    Pipeline pipeline = {.queued = run->state.step};
    Errors errors = {0};
    bool evaluated_before = run->state.evaluated;
    int64_t end = run_last_step(run);
    remember_best(run, pace);
    set_deadline(run, pace);
    steps_seek(run, &pipeline);
    evaluate_if_due(run, pace); // before the first step, or what a stop left out
    if (run->state.step >= end && run->state.evaluated != evaluated_before && !save(run, pace, false, true))
        return pace->lost ? pace->lost : EXIT_CANNOT_WRITE;

    unsigned wishes = agree(run, pace, 0);
    while (run->state.step < end && !(wishes & WISH_STOP && run->state.step == pace->saved_step)) {
        bool queued = pipeline.queued > run->state.step || steps_queue(run, &pipeline, &errors);
        if (queued && runs_ahead(run, &pipeline, wishes)) steps_queue(run, &pipeline, &errors);
        if (!queued) return give_up(run, pace, &errors);
        StepResult result = steps_wait(run, &pipeline);
        Trouble trouble = result.skip != SKIP_NONE ? meet(run, &result, pace) : (Trouble){0};
        if (trouble.exit_code)
            return trouble.keep ? end_early(run, pace, trouble.exit_code) : trouble.exit_code;
        if (!trouble.again) steps_count(run, &result);
        if (result.skip != SKIP_NONE) steps_seek(run, &pipeline);
        if (trouble.again) {
            errors_close(&errors); // of a step ahead, which comes again or is left out
            evaluate_if_due(run, pace);
            continue;
        }
        int64_t step = run->state.step;
        bool ends = step == end;
        bool diverged = run->state.bad_steps >= c->train.max_bad_steps;
        wishes = agree(run, pace, result.seconds);
        bool stop = wishes & WISH_STOP || diverged;
        tell_step(run, &result, &pace->told, pace->saving, due(step, c->log.every) || step == run->steps || diverged);
        if (!(wishes & WISH_WAIT)) end_save(run, pace);
        if (pace->lost) return pace->lost;
        if (pipeline.queued > step) continue; // there is nothing to be done here
        if (errors.count) return give_up(run, pace, &errors);
        if (!stop || ends) evaluate_if_due(run, pace);
        stop = stop || stopped(run);
        if (!stop && due(step, c->sample.every)) tell_sample(run, &pace->told);
        stop = stopped(run) || stop;
        if (save_due(run, step) || ends || stop || wishes & WISH_SAVE) {
            bool saved = save(run, pace, diverged, ends || stop); // beside training, where that goes on
            if (pace->lost) return pace->lost;
            if (!saved && (ends || stop)) return EXIT_CANNOT_WRITE;
        }
        if (diverged) return EXIT_DIVERGED;
        if (stop && !ends) return EXIT_STOPPED;
    }
    if (pace->trouble) return pace->trouble;
    return run->state.step >= run->steps && !evaluation_pending(run) ? 0 : EXIT_STOPPED;
}

static int train_and_tell(Run *run) {
    Errors errors = {0};
    Pace pace = {.told = tell_begin(run), .saved_step = run->state.step};
    int exit_code = train(run, &pace);
    if (!metrics_flush(&run->metrics, &errors) && exit_code == 0) exit_code = errors.exit_code;
    tensorboard_follow(&run->tensorboard, &run->metrics, "", &errors);
    tell_end(run, &pace.told, pace.saved_step, exit_code);
    console_errors(&errors);
    return exit_code;
}

// ---- train and resume ----

// Checkpoints of steps that this run is about to do again.
static bool set_aside(const Run *run, Errors *errors) {
    int64_t count;
    bool good = checkpoint_set_aside(run->dir, run->state.step, &count, errors);
    if (count) console_note("%ld later checkpoints of %s are kept as checkpoints/step_*.orphan-*", count, run->dir);
    return good;
}

// A branch has metrics of its own, and of the checkpoints only the one that it begins with.
static void begin_branch(Run *run) {
    RunState *state = &run->state;
    state->metrics_bytes = 0;
    text_clear(&run->metrics.unwritten);
    if (state->best_step == state->step) return;
    state->best_step = 0;
    state->best_val_loss = INFINITY;
}

// How a run begins: anew, or from `checkpoint` ("": anew) of a run that is continued with `resume`, or branched off.
typedef struct {
    bool resume;
    const char *checkpoint;
} Beginning;

static bool plan(Run *run, const Beginning *b, Errors *errors) {
    bool resumed = *b->checkpoint;
    return (resumed ? run_adopt(run, b->checkpoint, errors) : run_find_beginning(run, errors)) &&
           run_plan(run, RUN_TRAINING | RUN_DATA | RUN_VALIDATION, errors) &&
           (resumed ? run_check_resume(&run->config, b->checkpoint, errors) : run_check_beginning(run, errors));
}

static bool take_directory(Run *run, const Beginning *b, Errors *errors) {
    run_same_configuration(run); // as it was settled by the plan
    ranks_same(run->ranks, "training data", run->fingerprint);
    return !run_leads(run) || run_take_directory(run, b->resume, errors);
}

static bool open_all(Run *run, const Beginning *b, Errors *errors) {
    Text banner = {0};
    (void)b;
    run_report(run, &banner);
    console_note("%s", text_string(&banner));
    text_close(&banner);
    run->telemetry = telemetry_begin(run);
    return run_open(run, errors);
}

static bool load(Run *run, const Beginning *b, Errors *errors) {
    if (!*b->checkpoint) {
        if (run->beginning) run_load_beginning(run);
        else gpt_fill(&run->gpt, run->gpt.grads, (uint64_t)run->config.run.seed);
        optim_begin(&run->optim, run->gpt.grads);
        return true;
    }
    if (!run_load_state(run, b->checkpoint, errors)) return false;
    if (run->origin) begin_branch(run);
    bool nothing_to_do = run->state.step >= run->steps && !evaluation_pending(run);
    console_note("%s %s at step %ld of %ld%s", run->origin ? "branched off" : "resumed", b->checkpoint, run->state.step,
                 run->steps, nothing_to_do ? ": there is nothing to do; raise train.steps to go on" : "");
    return true;
}

// Joules, by the metrics that there are, also those that are about to be cut off; what is wrong with them is told
// elsewhere.
static double energy_before(const Run *run) {
    MetricsTable table;
    Errors ignored = {0};
    metrics_table_read(&table, run->dir, &ignored);
    double energy = metrics_table_last(&table, "gpu_energy");
    metrics_table_close(&table);
    errors_close(&ignored);
    return isnan(energy) ? 0 : energy;
}

// No checkpoint may count on metrics that are cut off: those come second.
static bool open_files(Run *run, const Beginning *b, Errors *errors) {
    (void)b;
    int64_t step = run->state.step;
    if (!run_leads(run)) return true;
    if (run->telemetry) telemetry_go_on(run->telemetry, energy_before(run));
    if (!run_write_provenance(run, errors) || !set_aside(run, errors) ||
        !metrics_open(&run->metrics, run->dir, run->state.metrics_bytes, step, errors))
        return false;
    if (run->config.log.tensorboard) tensorboard_open(&run->tensorboard, run->dir, &run->metrics, step, errors);
    return true;
}

// Of a branch: from here on it can be resumed.
static bool save_first(Run *run, const Beginning *b, Errors *errors) {
    SaveResult result;
    (void)b;
    if (!run->origin) return true;
    run_begin_save(run, false, clock_seconds());
    run_end_save(run, &result);
    errors_move(errors, &result.errors);
    return result.saved;
}

// All ranks go through these together: where one fails, all end.
static bool begin(Run *run, const Beginning *b, Errors *errors) {
    static bool (*const stages[])(Run *, const Beginning *, Errors *) = {plan, take_directory, open_all,
                                                                         load, open_files,     save_first};
    for (size_t i = 0; i < sizeof stages / sizeof stages[0]; i++) {
        bool good = stages[i](run, b, errors);
        Errors told = {0}; // what is no failure
        if (good) errors_move(&told, errors);
        bool all_good = run_agree(run, good, errors);
        console_errors(&told);
        if (!all_good) return false;
    }
    return true;
}

static int start(Run *run, bool resume, const char *checkpoint) {
    Errors errors = {0};
    catch_signals();
    run->stop = &stop_signal;
    run->begun = clock_seconds();
    bool good = begin(run, &(Beginning){resume, checkpoint}, &errors);
    int exit_code = good ? train_and_tell(run) : errors.exit_code;
    if (run->state.step == 0 || (!good && run->origin)) run_discard(run);
    console_errors(&errors);
    run_close(run);
    return exit_code;
}

// Ends all ranks, with the messages once, where one of them has some.
static void exit_if_any(Run *run, Errors *errors) {
    if (run_agree(run, errors->count == 0, errors)) return;
    run_part(run);
    errors_exit_if_any(errors);
}

// What rank 0 found all go on with: the run directory, and a checkpoint in it or none.
static void share_beginning(Run *run, char checkpoint[4096], Errors *errors) {
    ranks_patient(run->ranks, false);
    exit_if_any(run, errors);
    run_share(run, run->dir);
    run_share(run, checkpoint);
}

int command_train(int argc, char **argv) {
    Run run = RUN_CLOSED;
    Errors errors = {0};
    char checkpoint[4096] = "";
    bool resume = false;
    const char *ranks_text = NULL;
    const Argument arguments[] = {{"--resume", .flag = &resume}, {"--ranks", .text = &ranks_text}, {0}};
    argc = arguments_take(argc, argv, arguments, 1, "train CONFIG.json [key=value ...] [--ranks N] [--resume]");
    int64_t ranks = arguments_ranks(ranks_text);
    if (argc == 0 || ranks < 0) return EXIT_USAGE;
    config_load(&run.config, argv[1], argv + 2, argc - 2, &errors);
    errors_exit_if_any(&errors);
    run_meet(&run, ranks, run.config.dist.timeout, &errors);
    errors_exit_if_any(&errors);
    run_same_configuration(&run);
    run_name_directory(&run);
    ranks_patient(run.ranks, true); // all of a checkpoint is read
    if (resume && run_leads(&run) && run_lock(&run, &errors)) run_find_valid(run.dir, true, checkpoint, &errors);
    share_beginning(&run, checkpoint, &errors);
    return start(&run, resume, checkpoint);
}

// Before the configuration is known, which is in the checkpoint.
static double timeout_of(char *const *overrides, int count) {
    Config config;
    Errors ignored = {0};
    config_load(&config, NULL, overrides, count, &ignored);
    double timeout = config.dist.timeout;
    config_close(&config);
    errors_close(&ignored);
    return timeout;
}

static void refuse_run_dir(char *const *overrides, int count, Errors *errors) {
    for (int i = 0; i < count; i++)
        if (strncmp(overrides[i], "run.dir=", 8) == 0)
            errors_add(errors, EXIT_USAGE, "%s: a run is continued in its own directory; to move it, rename that, "
                       "to branch it use --into NEW_RUN", overrides[i]);
}

// With `into` a branch: a new run that begins with a checkpoint of another one, which stays as it is.
static void find_beginning(Run *run, const char *path, const char *into, char checkpoint[4096], Errors *errors) {
    if (into) run_find_state(path, false, checkpoint, errors);
    else if (checkpoint_run(path, run->dir, errors) && run_lock(run, errors))
        run_find_state(path, true, checkpoint, errors);
}

int command_resume(int argc, char **argv) {
    Run run = RUN_CLOSED;
    Errors errors = {0};
    char checkpoint[4096] = "", origin[PATH_MAX];
    const char *into = NULL, *ranks_text = NULL;
    const Argument arguments[] = {{"--into", .text = &into}, {"--ranks", .text = &ranks_text}, {0}};
    argc = arguments_take(argc, argv, arguments, 1,
                          "resume RUN_OR_CHECKPOINT [--into NEW_RUN] [--ranks N] [key=value ...]");
    int64_t ranks = arguments_ranks(ranks_text);
    if (argc == 0 || ranks < 0) return EXIT_USAGE;
    if (into && !*into) errors_add(&errors, EXIT_USAGE, "--into: name the directory of the new run");
    refuse_run_dir(argv + 2, argc - 2, &errors);
    errors_exit_if_any(&errors);
    run_meet(&run, ranks, timeout_of(argv + 2, argc - 2), &errors);
    errors_exit_if_any(&errors);
    ranks_patient(run.ranks, true); // all of a checkpoint is read
    if (run_leads(&run)) find_beginning(&run, argv[1], into, checkpoint, &errors);
    share_beginning(&run, checkpoint, &errors);
    run_config_from(checkpoint, &run.config, argv + 2, argc - 2, &errors);
    exit_if_any(&run, &errors);
    if (into) run.config.run.dir = into;
    if (into) run.origin = realpath(checkpoint, origin) ? origin : checkpoint;
    if (into) run_name_directory(&run);
    return start(&run, !into, checkpoint);
}

// ---- the program ----

const Command commands[] = {
    {"train", command_train, "CONFIG.json [key=value ...] [--ranks N] [--resume]",
     "start a run (--resume: continue it if it exists), as N processes or as a launcher has it"},
    {"resume", command_resume, "RUN_OR_CHECKPOINT [--into NEW_RUN] [--ranks N] [key=value ...]",
     "continue a run from its newest checkpoint; --into: branch it into another one"},
    {"eval", command_eval,
     "MODEL [--data SHARDS] [--tasks val,hellaswag] [--hellaswag FILE] [--examples N] [--weights x|y|z|ema] [--json] "
     "[key=value ...]",
     "validation loss, perplexity, bits per byte; HellaSwag as llm.c and as lm-evaluation-harness score it"},
    {"sample", command_sample,
     "MODEL [--prompt TEXT | --prompts FILE] [--ids] [--tokens N] [--temperature X] [--top-k K] [--top-p P] "
     "[--min-p P] [--repetition-penalty R] [--stop TEXT] [--ignore-eos] [--seed S] [--weights x|y|z|ema] [--json] "
     "[key=value ...]",
     "generate text: docs/generation.md"},
    {"export", command_export,
     "MODEL --to hf OUT_DIR [--weights shown|x|y|z|ema] [--dtype auto|fp32|bf16|fp16] [--shard-size 5GB] "
     "[key=value ...]",
     "a Hugging Face directory of a run, a checkpoint, another such directory or a file of llm.c"},
    {"prepare", command_prepare,
     "INPUT... --tokenizer byte|gpt2|bpe:N|PATH --out DIR [--field NAME] [--val-fraction F] [--shard-tokens N] "
     "[--threads N]",
     "text files, folders and JSONL, also .gz and .zst, or JSONL from a pipe (-), into token shards; bpe:N trains a "
     "tokenizer of N ids on them"},
    {"config", command_config, "CONFIG.json [key=value ...]", "print the resolved configuration"},
    {"sweep", command_sweep,
     "SWEEP.json [key=value ...] [--dir DIR] [--dry-run] [--gpus 0,1,...] [--jobs N] [--shard I/N]",
     "many runs, each once, on GPUs or N at a time on the CPU; called again, it goes on: docs/sweeps.md"},
    {"check", command_check, "CONFIG.json|MODEL [--ranks N] [--json] [key=value ...]",
     "dry run: validity, memory plan, time estimate; of a run: every checkpoint verified, byte by byte"},
    {"bench", command_bench,
     "[CONFIG.json] [key=value ...] [--optimizer] [--recipes all|NAME,...] [--generate] [--json]",
     "step throughput against the step's own GEMMs; --optimizer: that alone; --generate: tokens of a sample"},
    {"analyze", command_analyze,
     "newton-schulz [--polynomial NAME] [--coefficients LIST] [--safety X] [--steps N] [--dtype fp32|fp64|bf16] "
     "[--matrix gaussian|spectrum:LIST|CHECKPOINT] [--tensor NAME] [--rows N] [--columns N] [--seed S] [--json]",
     "orthogonalisation beside the exact polar factor: error, alignment, singular values, cost"},
    {"report", command_report, "RUN_OR_SWEEP_DIR... [--out report.html]",
     "runs and sweeps as figures and tables in one HTML file: docs/reports.md"},
    {"doctor", command_doctor, "", "what this machine has, how fast it is, what is missing, the fix"},
    {"help", command_help, "[SECTION]", "this text, or every key of a section"},
    {0},
};

static bool asks_for_help(const char *word) { return strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0; }

static int run_command(const Command *command, int argc, char **argv) {
    for (int i = 1; i < argc; i++) // -h behind other words may be the value of an option
        if (strcmp(argv[i], "--help") == 0 || (i == 1 && asks_for_help(argv[i])))
            return command_help(2, (char *[]){"help", argv[0], NULL});
    return command->run(argc, argv);
}

int main(int argc, char **argv) {
    const char *name = argc > 1 ? argv[1] : "help";
    process_begin(argc, argv);
    if (asks_for_help(name)) name = "help";
    if (strcmp(name, "--version") == 0) {
        puts(version_string());
        return process_end(0);
    }
    const char *names[sizeof commands / sizeof commands[0]];
    int count = 0;
    for (const Command *command = commands; command->name; command++) {
        names[count++] = command->name;
        if (strcmp(command->name, name) != 0) continue;
        return process_end(argc > 1 ? run_command(command, argc - 1, argv + 1) : command_help(1, argv));
    }
    const char *nearest = text_nearest(name, names, count);
    text_print(stderr, "train_gpt: there is no command \"%s\"%s%s%s; `train_gpt help` lists them\n", name,
               nearest ? "; did you mean \"" : "", nearest ? nearest : "", nearest ? "\"?" : "");
    return EXIT_USAGE;
}
