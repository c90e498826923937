// Thalweg: GPT pretraining. The training loop, and the table of commands.
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "commands/arguments.h"
#include "commands/command.h"
#include "commands/console.h"
#include "commands/run.h"
#include "runtime/json.h"

// ---- signals ----

static volatile sig_atomic_t stop_signal, save_signal;

static void on_stop(int signal_number) {
    if (signal_number == SIGINT && stop_signal == SIGINT) _exit(EXIT_INTERRUPTED);
    stop_signal = signal_number;
}

static void on_save(int signal_number) { save_signal = signal_number; }

static void catch_signals(void) {
    static const struct {
        int number;
        void (*handler)(int);
    } rows[] = {{SIGTERM, on_stop}, {SIGINT, on_stop}, {SIGUSR1, on_stop}, {SIGUSR2, on_save}, {SIGPIPE, SIG_IGN},
                {SIGXFSZ, SIG_IGN}}; // a file that may not grow is a write that fails
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct sigaction action = {.sa_handler = rows[i].handler, .sa_flags = SA_RESTART};
        sigaction(rows[i].number, &action, NULL);
    }
}

// ---- one step ----

typedef struct {
    double loss, grad_norm, lr, seconds;
    bool skipped;
} StepResult;

static StepResult train_step(Run *run) {
    double status[STATUS_COUNT], begin = clock_seconds();
    StepScalars scalars = {.inverse_weight = 1.0 / (double)run_step_tokens(run)};
    optim_scalars(&run->optim, run->state.step + 1, &scalars);
    gpt_begin_step(&run->gpt, &scalars);
    for (int64_t micro = 0; micro < run->micro_steps; micro++) {
        gpt_load_batch(&run->gpt, loader_next(run->loader));
        gpt_forward(&run->gpt, GPT_TRAIN);
        gpt_backward(&run->gpt);
    }
    run->comm.sum(&run->comm, run->gpt.grads);
    run->comm.sum(&run->comm, run->gpt.status);
    optim_step(&run->optim);
    run->kernels->download(status, run->gpt.status);
    return (StepResult){.loss = status[STATUS_LOSS_SUM] / status[STATUS_WEIGHT_SUM],
                        .grad_norm = status[STATUS_GRAD_NORM],
                        .lr = scalars.recipe[RECIPE_MATRIX].eta,
                        .seconds = clock_seconds() - begin,
                        .skipped = status[STATUS_SKIP] != 0};
}

static void count_step(RunState *state, const StepResult *result) {
    state->step++;
    state->seconds += result->seconds;
    state->skipped += result->skipped;
    state->bad_steps = result->skipped ? state->bad_steps + 1 : 0;
}

// ---- what is told about it ----

static void complain(Errors *errors) {
    if (errors->count) console_note("%s", text_string(&errors->text));
    errors_close(errors);
}

static void write_metrics(Run *run, Text *line) {
    Errors errors = {0};
    metrics_write(&run->metrics, text_string(line), &errors);
    complain(&errors);
    text_close(line);
}

static void log_step(Run *run, const StepResult *result, const Console *console) {
    Text line = {0};
    JsonWriter w = {.out = &line};
    json_begin(&w, NULL, '{');
    json_integer(&w, "step", run->state.step);
    json_integer(&w, "tokens", run->state.step * run_step_tokens(run));
    json_number(&w, "loss", result->loss);
    json_number(&w, "lr", result->lr);
    json_number(&w, "grad_norm", result->grad_norm);
    json_integer(&w, "skipped", run->state.skipped);
    json_number(&w, "tokens_per_second", console->tokens_per_second);
    json_number(&w, "seconds", run->state.seconds);
    json_end(&w, '}');
    write_metrics(run, &line);
    console_step(console, &(ConsoleStep){run->state.step, run->steps, result->loss, result->lr, result->grad_norm,
                                         result->skipped});
}

static void evaluate(Run *run) {
    Errors errors = {0};
    Evaluation result;
    if (!run_evaluate(run, &result, &errors)) {
        complain(&errors);
        return;
    }
    if (result.loss < run->state.best_val_loss) run->state.best_val_loss = result.loss;
    Text line = {0};
    JsonWriter w = {.out = &line};
    json_begin(&w, NULL, '{');
    json_integer(&w, "step", run->state.step);
    json_integer(&w, "tokens", run->state.step * run_step_tokens(run));
    json_number(&w, "val_loss", result.loss);
    if (!isnan(result.bits_per_byte)) json_number(&w, "val_bits_per_byte", result.bits_per_byte);
    json_number(&w, "seconds", run->state.seconds);
    json_end(&w, '}');
    write_metrics(run, &line);
    console_note("step %ld: validation loss %.4f over %ld tokens%s", run->state.step, result.loss, result.tokens,
                 console_bits(&(ConsoleBits){{0}}, result.bits_per_byte));
}

static void sample(Run *run) {
    Text text = {0};
    run_sample(run, &run->config.sample, (uint64_t)run->config.run.seed + (uint64_t)run->state.step, false, &text);
    console_note("step %ld: sample\n%s", run->state.step, text_string(&text));
    text_close(&text);
}

static bool save(Run *run, double *seconds) {
    Errors errors = {0};
    double begin = clock_seconds();
    bool saved = run_save(run, &errors);
    *seconds = clock_seconds() - begin;
    if (saved) console_note("step %ld: checkpoint in %s (%.1f s)", run->state.step, run->dir, *seconds);
    complain(&errors);
    return saved;
}

// ---- the loop ----

static bool due(int64_t step, int64_t every) { return every > 0 && step % every == 0; }

static int train(Run *run) {
    const Config *c = &run->config;
    Console console = console_begin(run_gemm_rate(run->kernels), run_step_tokens(run),
                                    gpt_flops_per_token(&run->shape, c->train.sequence_length));
    double started = clock_seconds(), save_seconds = 0;
    loader_seek(run->loader, run->state.step);
    if (run->state.step == 0 && c->eval.every > 0) evaluate(run);

    while (run->state.step < run->steps) {
        StepResult result = train_step(run);
        count_step(&run->state, &result);
        console_count(&console, result.seconds);

        int64_t step = run->state.step;
        bool last = step == run->steps;
        double spent = clock_seconds() - started + result.seconds + 2 * save_seconds; // after one more step and a save
        bool late = c->train.max_seconds > 0 && spent >= c->train.max_seconds;
        bool diverged = run->state.bad_steps >= c->train.max_bad_steps;
        bool stop = stop_signal || late || diverged;
        if (due(step, c->log.every) || last || diverged) log_step(run, &result, &console);
        if (c->eval.every > 0 && (due(step, c->eval.every) || last)) evaluate(run);
        if (due(step, c->sample.every)) sample(run);

        bool saved = true;
        if (due(step, c->checkpoint.every) || last || stop || save_signal) saved = save(run, &save_seconds);
        save_signal = 0;
        if (diverged) {
            console_note("stopped: loss or gradient was not finite in %ld consecutive steps; lower optim.lr or raise "
                         "optim.warmup_steps", run->state.bad_steps);
            return EXIT_DIVERGED;
        }
        if (!saved && (last || stop)) return EXIT_CANNOT_WRITE;
        if (stop && !last) {
            console_note("stopped at step %ld of %ld; continue with: train_gpt resume %s", step, run->steps, run->dir);
            return EXIT_STOPPED;
        }
    }
    return 0;
}

// ---- train and resume ----

// Checkpoints of steps that this run is about to do again.
static bool set_aside(const Run *run, Errors *errors) {
    int64_t count;
    bool good = checkpoint_set_aside(run->dir, run->state.step, &count, errors);
    if (count) console_note("%ld later checkpoints of %s are kept as checkpoints/step_*.orphan-*", count, run->dir);
    return good;
}

// Everything about a run that is the same however it begins. `resume`: an existing run is continued, from `checkpoint`
// if it has one (else NULL, and it begins anew).
static int start(Run *run, bool resume, const char *checkpoint, int argc, char **argv) {
    Errors errors = {0};
    if (!run_plan(run, RUN_TRAINING | RUN_DATA | RUN_VALIDATION, &errors)) goto failed;
    if (checkpoint && !run_check_resume(&run->config, checkpoint, &errors)) goto failed;
    Text banner = {0};
    run_report(run, &banner);
    console_note("%s", text_string(&banner));
    text_close(&banner);
    if (!run_take_directory(run, resume, &errors) || !run_open(run, &errors)) goto failed;
    if (checkpoint) {
        if (!run_load_state(run, checkpoint, &errors)) goto failed;
        console_note("resumed %s at step %ld of %ld", checkpoint, run->state.step, run->steps);
    } else {
        gpt_fill(&run->gpt, run->optim.z, (uint64_t)run->config.run.seed);
        optim_build_weights(&run->optim);
    }
    if (!set_aside(run, &errors) || !run_write_provenance(run, argc, argv, &errors)) goto failed;
    if (!metrics_open(&run->metrics, run->dir, run->state.metrics_bytes, run->state.step, &errors)) goto failed;
    complain(&errors);
    catch_signals();
    int exit_code = train(run);
    if (exit_code == 0)
        console_note("finished: %ld steps in %.1f s; look at it with: train_gpt sample %s", run->state.step,
                     run->state.seconds, run->dir);
    run_close(run);
    return exit_code;
failed:
    run_close(run);
    errors_exit_if_any(&errors);
    return EXIT_INTERNAL;
}

int command_train(int argc, char **argv) {
    Run run = RUN_CLOSED;
    Errors errors = {0};
    char checkpoint[4096] = "";
    bool resume = false;
    const Argument arguments[] = {{"--resume", .flag = &resume}, {0}};
    argc = arguments_take(argc, argv, arguments, 1, "train CONFIG.json [key=value ...] [--resume]");
    if (argc == 0) return EXIT_USAGE;
    config_load(&run.config, argv[1], argv + 2, argc - 2, &errors);
    errors_exit_if_any(&errors);
    run_name_directory(&run);
    if (resume && run_lock(&run, &errors) && checkpoint_find(run.dir, checkpoint, &errors) && *checkpoint)
        checkpoint_verify(checkpoint, &errors);
    errors_exit_if_any(&errors);
    return start(&run, resume, *checkpoint ? checkpoint : NULL, argc, argv);
}

int command_resume(int argc, char **argv) {
    Run run = RUN_CLOSED;
    Errors errors = {0};
    char checkpoint[4096];
    const Argument none[] = {{0}};
    argc = arguments_take(argc, argv, none, 1, "resume RUN_OR_CHECKPOINT [key=value ...]");
    if (argc == 0) return EXIT_USAGE;
    for (int i = 2; i < argc; i++)
        if (strncmp(argv[i], "run.dir=", 8) == 0)
            errors_add(&errors, EXIT_USAGE, "%s: a run is continued in its own directory; to move it, rename that",
                       argv[i]);
    errors_exit_if_any(&errors);
    if (checkpoint_run(argv[1], run.dir, &errors) && run_lock(&run, &errors) && run_find(argv[1], checkpoint, &errors))
        run_config_from(checkpoint, &run.config, argv + 2, argc - 2, &errors);
    errors_exit_if_any(&errors);
    return start(&run, true, checkpoint, argc, argv);
}

// ---- the program ----

const Command commands[] = {
    {"train", command_train, "CONFIG.json [key=value ...] [--resume]", "start a run (--resume: continue it if it exists)"},
    {"resume", command_resume, "RUN_OR_CHECKPOINT [key=value ...]", "continue a run from its newest checkpoint"},
    {"eval", command_eval, "MODEL [--data SHARDS] [--json] [key=value ...]", "validation loss, perplexity, bits per byte"},
    {"sample", command_sample, "MODEL [--prompt TEXT] [--tokens N] [--temperature X] [--top-k K] [--seed S]",
     "generate text"},
    {"prepare", command_prepare, "INPUT... --tokenizer byte|gpt2|PATH --out DIR [--val-fraction F]",
     "text files, folders and JSONL into token shards"},
    {"config", command_config, "CONFIG.json [key=value ...]", "print the resolved configuration"},
    {"check", command_check, "CONFIG.json [key=value ...]", "dry run: validity, memory plan, time estimate"},
    {"bench", command_bench, "[CONFIG.json] [key=value ...] [--json]", "step throughput against the step's own GEMMs"},
    {"doctor", command_doctor, "", "what this machine has, what is missing, the fix"},
    {"help", command_help, "[SECTION]", "this text, or every key of a section"},
    {0},
};

int main(int argc, char **argv) {
    const char *name = argc > 1 ? argv[1] : "help";
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0) name = "help";
    const char *names[sizeof commands / sizeof commands[0]];
    int count = 0;
    for (const Command *command = commands; command->name; command++) {
        names[count++] = command->name;
        if (strcmp(command->name, name) != 0) continue;
        return argc > 1 ? command->run(argc - 1, argv + 1) : command->run(1, (char *[]){"help", NULL});
    }
    const char *nearest = text_nearest(name, names, count);
    fprintf(stderr, "train_gpt: there is no command \"%s\"%s%s%s; `train_gpt help` lists them\n", name,
            nearest ? "; did you mean \"" : "", nearest ? nearest : "", nearest ? "\"?" : "");
    return EXIT_USAGE;
}
