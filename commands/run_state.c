// Runs and checkpoints: how what was saved is found again, and what is made of it.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "commands/console.h"
#include "commands/run.h"
#include "runtime/integers.h"
#include "runtime/json.h"
#include "runtime/memory.h"

// ---- loading ----

enum { RUN_JSON_LIMIT = 1 << 22 };

static bool found_none(const char *run_or_checkpoint, Errors *errors) {
    return errors_add(errors, EXIT_NO_INPUT,
                      "%s: neither a checkpoint nor a run with one (checkpoints/step_*/manifest.json), nor a Hugging "
                      "Face directory (model.safetensors) or a file of llm.c; name a run directory that `train_gpt "
                      "train` made", run_or_checkpoint);
}

bool run_find(const char *run_or_checkpoint, char checkpoint[4096], Errors *errors) {
    if (!checkpoint_find(run_or_checkpoint, checkpoint, errors)) return false;
    return *checkpoint ? checkpoint_verify(checkpoint, errors) : found_none(run_or_checkpoint, errors);
}

bool run_find_valid(const char *run_dir, bool own, char checkpoint[4096], Errors *errors) {
    Errors damage = {0};
    bool good = checkpoint_find_valid(run_dir, own, checkpoint, &damage, errors);
    if (damage.count) console_note("%s", text_string(&damage.text));
    errors_close(&damage);
    return good;
}

bool run_find_state(const char *run_or_checkpoint, bool own, char checkpoint[4096], Errors *errors) {
    if (checkpoint_is(run_or_checkpoint))
        return run_find(run_or_checkpoint, checkpoint, errors) && checkpoint_check_state(checkpoint, errors);
    return run_find_valid(run_or_checkpoint, own, checkpoint, errors) &&
           (*checkpoint || found_none(run_or_checkpoint, errors));
}

static Json *open_run_json(const char *checkpoint, Errors *errors) {
    char path[4096];
    path_join(path, checkpoint, "run.json");
    Json *json = json_open(path, RUN_JSON_LIMIT, EXIT_CHECKPOINT, errors);
    if (json && cJSON_IsObject(json_member(json_root(json), "options"))) return json;
    if (json) {
        errors_add(errors, EXIT_CHECKPOINT, "%s: holds no options; this is not a checkpoint of this program", path);
        json_close(json);
    }
    return NULL;
}

static bool wrong(const char *checkpoint, const char *key, const char *expected, Errors *errors) {
    return errors_add(errors, EXIT_CHECKPOINT, "%s/run.json: \"%s\" must be %s", checkpoint, key, expected);
}

static bool is_count(const cJSON *node, int64_t *value) { return json_is_integer(node, value) && *value >= 0; }

// Absent: no rollback. What it adds up to is a place that the data has.
static bool read_skipped_data(Run *run, const char *checkpoint, const cJSON *root, Errors *errors) {
    const cJSON *list = json_member(root, "skipped_data"), *node;
    RunState *s = &run->state;
    bool good = !list || cJSON_IsArray(list);
    s->rollbacks = 0;
    if (!good || cJSON_GetArraySize(list) > ROLLBACKS) return wrong(checkpoint, "skipped_data", "a short list", errors);
    cJSON_ArrayForEach(node, list) {
        SkippedData *one = &s->skipped_data[s->rollbacks++];
        good = good && is_count(json_member(node, "step"), &one->step) &&
               is_count(json_member(node, "steps"), &one->steps) && one->step <= s->step;
    }
    good = good && (double)run_data_step(run, s->step) * (double)run_step_tokens(run) <= 0x1p62;
    return good || wrong(checkpoint, "skipped_data", "a list of {\"step\", \"steps\"}, counts", errors);
}

static bool read_ring(double *ring, const cJSON *list, int64_t accepted) {
    const cJSON *node;
    int64_t count = 0, expected = accepted < SPIKE_WINDOW ? accepted : SPIKE_WINDOW;
    if (!cJSON_IsArray(list) || cJSON_GetArraySize(list) != expected) return false;
    cJSON_ArrayForEach(node, list) {
        if (!cJSON_IsNumber(node)) return false;
        ring[count++] = node->valuedouble;
    }
    return true;
}

// Absent: nothing was accepted yet.
static bool read_window(Run *run, const char *checkpoint, const cJSON *root, Errors *errors) {
    const cJSON *node = json_member(root, "window");
    double window[WINDOW_SIZE] = {0};
    int64_t accepted = 0;
    bool good = !node || (is_count(json_member(node, "accepted"), &accepted) &&
                          read_ring(window + WINDOW_LOSSES, json_member(node, "losses"), accepted) &&
                          read_ring(window + WINDOW_NORMS, json_member(node, "grad_norms"), accepted));
    window[WINDOW_COUNT] = (double)accepted;
    if (good) run->kernels->upload(run->optim.window, window);
    return good || wrong(checkpoint, "window", "{\"accepted\", \"losses\", \"grad_norms\"} of the last steps", errors);
}

static bool read_state(Run *run, const char *checkpoint, const cJSON *root, Errors *errors) {
    const struct {
        const char *key;
        int64_t *value;
    } integers[] = {{"step", &run->state.step},
                    {"skipped", &run->state.skipped},
                    {"bad_steps", &run->state.bad_steps},
                    {"metrics_bytes", &run->state.metrics_bytes}};
    for (size_t i = 0; i < sizeof integers / sizeof integers[0]; i++) {
        const cJSON *node = json_member(root, integers[i].key);
        if (!node || !is_count(node, integers[i].value)) return wrong(checkpoint, integers[i].key, "a count", errors);
    }
    const cJSON *repeated = json_member(root, "repeated_steps");
    run->state.repeated_steps = 0;
    if (repeated && !is_count(repeated, &run->state.repeated_steps))
        return wrong(checkpoint, "repeated_steps", "a count", errors);
    const cJSON *seconds = json_member(root, "seconds"), *best = json_member(root, "best_val_loss");
    const cJSON *unwritten = json_member(root, "metrics_unwritten");
    text_clear(&run->metrics.unwritten);
    if (cJSON_IsString(unwritten)) text_add(&run->metrics.unwritten, unwritten->valuestring);
    run->state.evaluated = cJSON_IsTrue(json_member(root, "evaluated"));
    run->state.seconds = cJSON_IsNumber(seconds) ? seconds->valuedouble : 0;
    run->state.best_val_loss = cJSON_IsNumber(best) ? best->valuedouble : INFINITY;
    if (!json_is_integer(json_member(root, "best_step"), &run->state.best_step)) run->state.best_step = 0;
    return read_skipped_data(run, checkpoint, root, errors) && read_window(run, checkpoint, root, errors);
}

// Whether some rank asks for every tensor there is.
static bool check_used(Run *run, const StateFiles *files, bool good, Errors *errors) {
    Text used = {0}, *all = memory_take(run->comm.size, sizeof *all, "texts of ranks");
    if (good) state_used(files, &used);
    good = run_gather(run, good, &used, all, errors);
    bool known = !good || run->comm.rank > 0 || state_check_used(files, all, run->comm.size, errors);
    good = good && run_agree(run, known, errors);
    for (int rank = 0; rank < run->comm.size; rank++) text_close(&all[rank]);
    text_close(&used);
    free(all);
    return good;
}

// All ranks come here, each for what its optimizer keeps. Nothing is written before all is checked.
static bool read_optimizer(Run *run, const char *checkpoint, Errors *errors) {
    NamedTensors state = {0};
    optim_state(&run->optim, &state);
    ranks_patient(run->comm.ranks, true);
    StateFiles *files = state_open(checkpoint, errors);
    bool good = files && state_check(files, state.items, state.count, errors);
    good = check_used(run, files, good, errors);
    if (good) state_fill(files, run->kernels, state.items, state.count);
    ranks_patient(run->comm.ranks, false);
    state_close(files);
    named_tensors_close(&state);
    run->optim.stale = run->optim.sharded; // where the weights are z itself
    if (good) run_show(run, ITERATE_Y);
    return good;
}

static bool same_text(const cJSON *root, const char *key, const char *expected) {
    const cJSON *node = json_member(root, key);
    return cJSON_IsString(node) && strcmp(node->valuestring, expected) == 0;
}

// A run that goes on multiplies as before, where device and library are the same.
static bool read_choices(Run *run, const char *checkpoint, Errors *errors) {
    char path[4096];
    File file;
    path_join(path, checkpoint, TUNING_FILE);
    if (!checkpoint_lists(checkpoint, TUNING_FILE)) return true;
    if (!file_read(&file, path, RUN_JSON_LIMIT, EXIT_CHECKPOINT, errors)) return false;
    bool good = run->kernels->read_choices(file.bytes, errors);
    file_close(&file);
    return good;
}

// Everything of a checkpoint that goes on but the optimizer's state.
static bool read_facts(Run *run, const char *checkpoint, Errors *errors) {
    Json *json = open_run_json(checkpoint, errors);
    if (!json) return false;
    bool good = read_state(run, checkpoint, json_root(json), errors);
    if (good && !same_text(json_root(json), "data_fingerprint", run->fingerprint))
        good = errors_add(errors, EXIT_DATA,
                          "%s: data.train is not the data this run began with; bring back the shards, or "
                          "start another run",
                          checkpoint);
    const char *hash = run->tokenizer ? tokenizer_hash(run->tokenizer) : "";
    if (good && !same_text(json_root(json), "tokenizer_hash", hash))
        good = errors_add(errors, EXIT_DATA,
                          "%s: the tokenizer is not the one this run began with; bring back the tokenizer.json beside "
                          "the shards, or start another run",
                          checkpoint);
    json_close(json);
    return good && read_choices(run, checkpoint, errors);
}

bool run_load_state(Run *run, const char *checkpoint, Errors *errors) {
    return run_agree(run, read_facts(run, checkpoint, errors), errors) && read_optimizer(run, checkpoint, errors);
}

bool run_load_back(Run *run, const char *checkpoint, Errors *errors) {
    Json *json = open_run_json(checkpoint, errors);
    bool good = json && read_state(run, checkpoint, json_root(json), errors);
    json_close(json);
    return run_agree(run, good, errors) && read_optimizer(run, checkpoint, errors);
}

bool run_load_weights(Run *run, const char *checkpoint, Errors *errors) {
    char path[4096];
    NamedTensors model = {0};
    gpt_export_tensors(&run->gpt, run->gpt.weights, &model);
    path_join(path, checkpoint, MODEL_FILE);
    Safetensors *st = safetensors_open(path, EXIT_CHECKPOINT, errors);
    bool good = st && safetensors_read(st, run->kernels, model.items, model.count, errors);
    safetensors_close(st);
    named_tensors_close(&model);
    return good && read_choices(run, checkpoint, errors);
}

// ---- a configuration ----

bool run_config_from(const char *checkpoint, Config *config, char *const *overrides, int count, Errors *errors) {
    Json *json = open_run_json(checkpoint, errors);
    if (!json) return false;
    Text text = {0}, name = {0};
    JsonWriter w = {.out = &text};
    json_node(&w, NULL, json_member(json_root(json), "options"));
    text_printf(&name, "%s/run.json options", checkpoint);
    bool parsed = config_parse(config, text_string(&name), text_string(&text), overrides, count, errors);
    text_close(&text);
    text_close(&name);
    json_close(json);
    return parsed;
}

static bool read_vocab(const char *checkpoint, int64_t *vocab, Errors *errors) {
    Json *json = open_run_json(checkpoint, errors);
    bool good = json && (json_is_integer(json_member(json_root(json), "vocab"), vocab) ||
                         wrong(checkpoint, "vocab", "a count", errors));
    json_close(json);
    return good;
}

bool run_shape_of(const char *checkpoint, GptShape *shape, Errors *errors) {
    Config config = {0};
    int64_t vocab;
    bool good = run_config_from(checkpoint, &config, NULL, 0, errors) && read_vocab(checkpoint, &vocab, errors);
    if (good && config.model.vocab == OPTION_AUTO) config.model.vocab = vocab;
    good = good && gpt_shape(shape, &config.model, 0, config.train.sequence_length, errors);
    config_close(&config);
    return good;
}

bool run_params(const char *checkpoint, ParamList *params, Errors *errors) {
    GptShape shape;
    bool good = run_shape_of(checkpoint, &shape, errors);
    if (good) *params = gpt_param_list(&shape);
    return good;
}

// ---- a model to look at ----

bool run_check_overrides(const ModelRequest *request, Errors *errors) {
    static const struct {
        const char *prefix, *reason;
    } refused[] = {{"model.", "the checkpoint says what the model is"},
                   {"optim.", "the iterates follow from the optimizer as it was"},
                   {"train.steps=", "the iterates follow from the schedule as it was"},
                   {"train.tokens=", "the iterates follow from the schedule as it was"}};
    int kinds = request->iterate == ITERATE_SHOWN ? 1 : sizeof refused / sizeof refused[0], before = errors->count;
    for (int64_t i = 0; i < request->overrides->count; i++)
        for (int kind = 0; kind < kinds; kind++)
            if (strncmp(request->overrides->items[i], refused[kind].prefix, strlen(refused[kind].prefix)) == 0)
                errors_add(errors, EXIT_USAGE, "%s: %s; leave it out", request->overrides->items[i],
                           refused[kind].reason);
    return errors->count == before;
}

// Weights of one iterate, from the optimizer's state.
static bool load_iterate(Run *run, const char *checkpoint, Iterate iterate, Errors *errors) {
    if (!optim_has(&run->optim, iterate))
        return errors_add(errors, EXIT_USAGE, "%s: this run keeps no such average (optim.readout is none); ask "
                          "for x, y or z", checkpoint);
    bool good = run_load_back(run, checkpoint, errors);
    if (good) run_show(run, iterate);
    return good;
}

static bool open_model(Run *run, const ModelRequest *request, char checkpoint[4096], Errors *errors) {
    const TextList *overrides = request->overrides;
    bool shown = request->iterate == ITERATE_SHOWN;
    char path[4096];
    if (run_is_foreign(request->path))
        return run_check_overrides(request, errors) && run_open_foreign(run, request, errors);
    if (!run_find(request->path, checkpoint, errors) || !(shown || checkpoint_check_state(checkpoint, errors)))
        return false;
    if (!run_check_overrides(request, errors)) return false;
    run->cache = request->cache;
    if (!run_config_from(checkpoint, &run->config, overrides->items, (int)overrides->count, errors)) return false;
    if (request->ids) run->config.data.tokenizer = "";
    path_join(path, checkpoint, "tokenizer.json");
    if (!(request->ids && shown) && checkpoint_lists(checkpoint, "tokenizer.json")) {
        run->tokenizer = tokenizer_open(path, errors);
        if (!run->tokenizer) return false;
    }
    int64_t vocab = 0;
    if (!read_vocab(checkpoint, &vocab, errors)) return false;
    if (!run->tokenizer && run->config.model.vocab == OPTION_AUTO) run->config.model.vocab = vocab;
    if (!run_plan(run, request->parts | (shown ? 0 : RUN_TRAINING), errors) || !run_open(run, errors)) return false;
    return shown ? run_load_weights(run, checkpoint, errors) : load_iterate(run, checkpoint, request->iterate, errors);
}

// Whether a run at work has saved another one since, and may have removed this one.
static bool is_outdated(const char *run_or_checkpoint, const char *checkpoint) {
    char newest[4096] = "";
    Errors ignored = {0};
    checkpoint_find(run_or_checkpoint, newest, &ignored);
    errors_close(&ignored);
    return *checkpoint && strcmp(newest, checkpoint) != 0;
}

bool run_open_model(Run *run, const ModelRequest *request, Errors *errors) {
    enum { TRIES = 8 };
    char checkpoint[4096] = "";
    Errors mistakes = {0};
    bool good = open_model(run, request, checkpoint, &mistakes);
    for (int i = 1; !good && i < TRIES && is_outdated(request->path, checkpoint); i++) {
        errors_close(&mistakes);
        run_close(run);
        good = open_model(run, request, checkpoint, &mistakes);
    }
    if (!good) errors_move(errors, &mistakes);
    return good;
}

// ---- evaluation ----

static int64_t target_bytes(const Tokenizer *tokenizer, const Batch *batch) {
    const int32_t *targets = batch->targets.data;
    int64_t bytes = 0;
    for (int64_t i = 0; i < tensor_count(batch->targets); i++)
        if (targets[i] >= 0) bytes += tokenizer_token_bytes(tokenizer, targets[i]);
    return bytes;
}

bool run_evaluate(Run *run, Evaluation *result, Errors *errors) {
    int64_t length = run->config.train.sequence_length;
    if (!run->val)
        return errors_add(errors, EXIT_NO_INPUT,
                          "data.val: no validation shards are named; set it, or give `eval` --data 'DIR/val_*.bin'");
    int64_t windows = shards_windows(run->val, length), wanted = divide_up(run->config.eval.tokens, length);
    int64_t sequences = windows < wanted ? windows : wanted;
    LoaderSetup setup = {.shards = run->val, .sampler = {SAMPLER_SEQUENTIAL, 0, windows}, .sequence_length = length,
                         .micro_batch = run->config.train.micro_batch, .sequences_per_step = sequences,
                         .sequence_limit = sequences, .vocab = run->shape.vocab, .rank = run->comm.rank,
                         .ranks = run->comm.size, .prefetch = (int)run->config.data.prefetch};
    Loader *loader = loader_open(&setup, errors);
    if (!loader) return false;
    double begin = clock_seconds(), status[STATUS_COUNT];
    *result = (Evaluation){0};
    gpt_begin_evaluation(&run->gpt);
    int64_t micro_steps = loader_micro_steps(&setup), micro = 0;
    for (; micro < micro_steps; micro++) {
        const Batch *batch = NULL;
        console_progress("evaluating", micro, micro_steps);
        bool stop = run_stopped(run) || !(batch = loader_next(loader, errors));
        if (ranks_any(run->ranks, stop)) break; // all at the same place
        gpt_load_batch(&run->gpt, batch);
        gpt_forward(&run->gpt, GPT_EVALUATE);
        if (run->tokenizer) result->bytes += target_bytes(run->tokenizer, batch);
    }
    if (micro == micro_steps) {
        comm_wait(&run->comm, comm_sum(&run->comm, run->gpt.status));
        result->bytes = run_sum(run, result->bytes);
    }
    run->kernels->download(status, run->gpt.status);
    loader_close(loader);
    console_wipe();
    if (micro < micro_steps) return false;
    result->tokens = (int64_t)status[STATUS_WEIGHT_SUM];
    result->loss = status[STATUS_LOSS_SUM] / status[STATUS_WEIGHT_SUM];
    double bytes_per_token = (double)result->bytes / (double)result->tokens;
    result->bits_per_byte = result->bytes > 0 ? result->loss / bytes_per_token / log(2) : NAN;
    result->seconds = clock_seconds() - begin;
    return true;
}
