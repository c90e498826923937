// What a run saves: its provenance, and checkpoints.
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "commands/run.h"
#include "runtime/json.h"
#include "runtime/memory.h"
#include "runtime/process.h"
#include "runtime/thread.h"
#include "runtime/version.h"

static void write_options(JsonWriter *w, const Config *config) {
    Text text = {0};
    Errors errors = {0};
    config_json(config, false, &text);
    Json *json = json_parse("options", text_string(&text), text.size, EXIT_INTERNAL, &errors);
    REQUIRE(json, "the configuration does not read back: %s", text_string(&errors.text));
    json_node(w, "options", json_root(json));
    json_close(json);
    text_close(&text);
}

static void write_skipped_data(JsonWriter *w, const RunState *s) {
    json_begin(w, "skipped_data", '[');
    for (int64_t i = 0; i < s->rollbacks; i++) {
        json_begin(w, NULL, '{');
        json_integer(w, "step", s->skipped_data[i].step);
        json_integer(w, "steps", s->skipped_data[i].steps);
        json_end(w, '}');
    }
    json_end(w, ']');
}

static void write_ring(JsonWriter *w, const char *key, const double *ring, double accepted) {
    json_begin(w, key, '[');
    for (int64_t i = 0; i < SPIKE_WINDOW && (double)i < accepted; i++) json_number(w, NULL, ring[i]);
    json_end(w, ']');
}

// Every number reads back as it was. WINDOW_BAD is of no use once the host has seen the step.
static void write_window(JsonWriter *w, const Run *run) {
    double window[WINDOW_SIZE];
    run->kernels->download(window, run->optim.window);
    json_begin(w, "window", '{');
    json_integer(w, "accepted", (int64_t)window[WINDOW_COUNT]);
    write_ring(w, "losses", window + WINDOW_LOSSES, window[WINDOW_COUNT]);
    write_ring(w, "grad_norms", window + WINDOW_NORMS, window[WINDOW_COUNT]);
    json_end(w, '}');
}

static void write_run_json(const Run *run, Text *out) {
    const RunState *s = &run->state;
    JsonWriter w = {.out = out, .indent = 2};
    json_begin(&w, NULL, '{');
    json_integer(&w, "version", 1);
    json_string(&w, "program", version_string());
    json_integer(&w, "step", s->step);
    json_integer(&w, "tokens", s->step * run_step_tokens(run));
    json_integer(&w, "skipped", s->skipped);
    json_integer(&w, "bad_steps", s->bad_steps);
    json_integer(&w, "repeated_steps", s->repeated_steps);
    write_skipped_data(&w, s);
    write_window(&w, run);
    json_number(&w, "seconds", s->seconds);
    json_bool(&w, "evaluated", s->evaluated);
    json_number(&w, "best_val_loss", s->best_val_loss);
    json_integer(&w, "best_step", s->best_step);
    json_integer(&w, "metrics_bytes", run->metrics.file.size);
    if (run->metrics.unwritten.size > 0) json_string(&w, "metrics_unwritten", text_string(&run->metrics.unwritten));
    json_integer(&w, "vocab", run->shape.vocab);
    json_string(&w, "data_fingerprint", run->fingerprint);
    json_string(&w, "tokenizer_hash", run->tokenizer ? tokenizer_hash(run->tokenizer) : "");
    write_options(&w, &run->config);
    json_end(&w, '}');
    text_add(out, "\n");
}

bool run_write_provenance(const Run *run, Errors *errors) {
    const TextList *command = process_command();
    char path[4096], host[256] = "", name[64] = "run.json";
    Text text = {0};
    if (run->state.step > 0 && !run->origin) snprintf(name, sizeof name, "run.%ld.json", run->state.step);
    config_json(&run->config, true, &text);
    path_join(path, run->dir, "config.json");
    bool written = file_replace(path, text_string(&text), text.size, errors);
    text_clear(&text);
    gethostname(host, sizeof host - 1);
    JsonWriter w = {.out = &text, .indent = 2};
    json_begin(&w, NULL, '{');
    json_string(&w, "program", version_string());
    json_begin(&w, "command", '[');
    for (int64_t i = 0; i < command->count; i++) json_string(&w, NULL, command->items[i]);
    json_end(&w, ']');
    if (run->origin) json_string(&w, "branched_from", run->origin);
    json_string(&w, "host", host);
    json_string(&w, "device", run->kernels->name);
    json_integer(&w, "started", (int64_t)time(NULL));
    json_string(&w, "data_fingerprint", run->fingerprint);
    json_integer(&w, "parameters", gpt_parameter_count(&run->shape));
    json_number(&w, "flops_per_token", gpt_flops_per_token(&run->shape, run->config.train.sequence_length));
    json_integer(&w, "step_tokens", run_step_tokens(run));
    json_bool(&w, "anytime", optim_is_anytime(&run->optim));
    json_end(&w, '}');
    text_add(&text, "\n");
    path_join(path, run->dir, name);
    written = written && file_replace(path, text_string(&text), text.size, errors);
    text_close(&text);
    return written;
}

static int32_t separator_of(const Run *run) {
    return run->tokenizer ? tokenizer_separator(run->tokenizer) : (int32_t)run->shape.vocab - 1;
}

// ---- what is saved ----

enum { RUN_JSON, CONFIG_JSON, GENERATION_CONFIG, TUNING, TOKENIZER_JSON, TOKENIZER_CONFIG, TEXTS };

// One checkpoint on its way into the run directory, with everything that writing it takes.
struct Save {
    const char *run_dir;
    int rank, ranks;
    const Kernels *kernels; // NULL: the tensors are copies on the host
    NamedTensors model, state;
    CheckpointTensors tensors[2];
    char state_file[STATE_FILE_NAME];
    Text text[TEXTS];
    CheckpointText texts[TEXTS];
    CheckpointContent content;
    const GrowingFile *metrics, *events;
    Retention retention;
    bool prune;
    SaveResult result;
    double begun;
    Text part;     // of several ranks: the files that this one wrote
    bool together; // all of them are at it
    pthread_t thread;
    bool threaded;
    _Atomic bool written;
};

// Rank 0's.
static void describe(Run *run, Save *save, DType dtype) {
    static const char *const names[TEXTS] = {"run.json",  "config.json",    "generation_config.json",
                                             TUNING_FILE, "tokenizer.json",
                                             "tokenizer_config.json"};
    write_run_json(run, &save->text[RUN_JSON]);
    char separator[TEXT_NUMBER];
    snprintf(separator, sizeof separator, "%d", separator_of(run));
    GptTokens tokens = {separator, separator};
    gpt_config_json(&run->shape, dtype, &tokens, &save->text[CONFIG_JSON]);
    gpt_generation_json(&tokens, &save->text[GENERATION_CONFIG]);
    if (run->tokenizer) {
        tokenizer_json(run->tokenizer, &save->text[TOKENIZER_JSON]);
        tokenizer_config_json(run->tokenizer, run->shape.context, &save->text[TOKENIZER_CONFIG]);
    }
    run->kernels->write_choices(&save->text[TUNING]);
    for (int i = 0; i < TEXTS; i++)
        if (save->text[i].size > 0)
            save->texts[save->content.text_files++] = (CheckpointText){names[i], text_string(&save->text[i])};
    save->content.texts = save->texts;
}

// The model is rank 0's; the state is everybody's own, where it is not the same on all ranks.
static void list_tensors(Run *run, Save *save, DType dtype) {
    int writers = run_is_sharded(run) ? save->ranks : 1;
    gpt_export_tensors(&run->gpt, run->gpt.weights, &save->model);
    save->content.tensors = save->tensors;
    if (save->rank == 0)
        save->tensors[save->content.tensor_files++] =
            (CheckpointTensors){MODEL_FILE, save->model.items, save->model.count, dtype};
    if (save->rank >= writers) return;
    optim_state(&run->optim, &save->state);
    state_file_name(save->state_file, save->rank + 1, writers);
    save->tensors[save->content.tensor_files++] =
        (CheckpointTensors){save->state_file, save->state.items, save->state.count, run->wide};
}

static Save *save_prepare(Run *run, bool prune) {
    static const DType model_dtypes[] = {DTYPE_F32, DTYPE_BF16};
    const CheckpointOptions *c = &run->config.checkpoint;
    DType dtype = c->model_dtype == OPTION_AUTO ? run->compute : model_dtypes[c->model_dtype];
    Save *save = memory_take(1, sizeof *save, "a checkpoint");
    save->run_dir = run->dir;
    save->rank = run->comm.rank;
    save->ranks = run->comm.size;
    save->kernels = run->kernels;
    save->metrics = &run->metrics.file;
    save->events = &run->tensorboard.file;
    save->retention = run_retention(run);
    save->prune = prune;
    save->result.step = save->content.step = run->state.step;
    if (save->rank == 0) describe(run, save, dtype);
    list_tensors(run, save, dtype);
    return save;
}

// Before the checkpoint that counts on the metrics; events can be made again of them.
static bool sync_metrics(Save *save) {
    Errors *errors = &save->result.errors;
    if (save->events->descriptor >= 0) growing_sync(save->events, errors);
    return save->metrics->descriptor < 0 || growing_sync(save->metrics, errors);
}

static bool find_room(Save *save, uint64_t bytes) {
    return checkpoint_room(save->run_dir, save->content.step, bytes, save->prune ? &save->retention : NULL,
                           directory_free_bytes, &save->result.errors);
}

static void retain(Save *save) {
    if (save->result.saved && save->prune)
        checkpoint_retain(save->run_dir, save->content.step, &save->retention, &save->result.errors);
}

// Touches nothing of the run that changes: it may be called beside training. Of several ranks, the own part.
static void save_write(Save *save) {
    Errors *errors = &save->result.errors;
    if (save->ranks > 1) {
        save->result.saved = sync_metrics(save) && checkpoint_write(save->run_dir, save->kernels, &save->content,
                                                                    &save->part, errors);
    } else {
        save->result.saved = sync_metrics(save) && find_room(save, checkpoint_bytes(&save->content)) &&
                             checkpoint_save(save->run_dir, save->kernels, &save->content, NULL, errors);
        retain(save);
    }
    save->result.seconds = clock_seconds() - save->begun;
}

static SaveResult save_close(Save *save) {
    SaveResult result = save->result;
    named_tensors_close(&save->model);
    named_tensors_close(&save->state);
    for (int i = 0; i < TEXTS; i++) text_close(&save->text[i]);
    text_close(&save->part);
    free((void *)save->retention.always);
    free(save);
    return result;
}

// ---- copies on the host ----

enum { COPIES = 4 };

// The flat tensors that checkpoints are made of; the weights are rank 0's alone. One that is the weights themselves
// counts once.
static int list_sources(const Run *run, Tensor sources[COPIES]) {
    const Tensor all[COPIES] = {run->gpt.weights, run->optim.z, run->optim.state, run->optim.average};
    int count = 0, first = run->comm.rank > 0;
    for (int i = first; i < COPIES; i++)
        if (tensor_present(all[i]) && (i == first || all[i].data == NULL || all[i].data != all[0].data))
            sources[count++] = all[i];
    return count;
}

static int place_copies(Run *run, Tensor copies[COPIES]) {
    Tensor sources[COPIES];
    int count = list_sources(run, sources);
    run->copies.used = 0;
    for (int i = 0; i < count; i++)
        copies[i] = arena_tensor(&run->copies, "state and weights", tensor_1d(NULL, sources[i].dtype,
                                                                              tensor_count(sources[i])));
    return count;
}

// The last checkpoint is waited for: it needs no copy.
static bool saves_on_the_way(const Run *run) {
    const CheckpointOptions *c = &run->config.checkpoint;
    return (c->every > 0 && c->every < run->steps) || c->milestones.count > 0 || c->best;
}

void run_plan_copies(Run *run) {
    Tensor copies[COPIES];
    int64_t wanted = run->config.checkpoint.async;
    size_t there = run->kernels->memory_bytes();
    if (wanted == false || (wanted == OPTION_AUTO && !saves_on_the_way(run))) return;
    run->copies.name = "checkpoint on its way";
    place_copies(run, copies);
    if (wanted == OPTION_AUTO && there > 0 && run_planned_bytes(run) > there) arena_close(&run->copies);
}

// Queues the copies, and points the tensors of `list` to them.
static void redirect(NamedTensors *list, const Tensor *sources, const Tensor *copies, int count) {
    for (int64_t t = 0; t < list->count; t++) {
        Tensor *tensor = &list->items[t].tensor;
        for (int i = 0; i < count && !list->items[t].zero; i++) {
            ptrdiff_t offset = (const char *)tensor->data - (const char *)sources[i].data;
            if (offset < 0 || (size_t)offset >= tensor_size_bytes(sources[i])) continue;
            tensor->data = (char *)copies[i].data + offset;
            break;
        }
    }
}

static void copy_to_host(Run *run, Save *save) {
    Tensor sources[COPIES], copies[COPIES];
    int count = list_sources(run, sources);
    place_copies(run, copies);
    for (int i = 0; i < count; i++) run->kernels->download_later(copies[i].data, sources[i]);
    if (save->rank == 0) redirect(&save->model, sources, copies, count);
    redirect(&save->state, sources, copies, count);
    save->kernels = NULL;
    run->kernels->wait(run->kernels->mark());
}

// ---- several ranks ----

// The hash of the hashes of a tensor's pieces, which come from the device one by one; `kernels` NULL: it is on the
// host.
static void hash_tensor(Text *out, const Kernels *kernels, Tensor tensor) {
    enum { PIECE = 1 << 20 };
    char hash[HASH_HEX];
    Text pieces = {0};
    int64_t count = tensor_count(tensor), most = count < PIECE ? count : PIECE;
    Tensor flat = tensor_reshape(tensor, count, 0, 0, 0);
    void *room = kernels ? memory_grow(NULL, most, dtype_bytes(tensor.dtype), "numbers to hash") : NULL;
    for (int64_t i = 0; i < count; i += PIECE) {
        Tensor piece = tensor_slice(flat, 0, i, count - i < PIECE ? count - i : PIECE);
        if (kernels) kernels->download(room, piece);
        bytes_hash(kernels ? room : piece.data, tensor_size_bytes(piece), hash);
        text_add(&pieces, hash);
    }
    bytes_hash(pieces.data, pieces.size, hash);
    text_add(out, hash);
    free(room);
    text_close(&pieces);
}

// Of each tensor of the model, as the network sees it.
static void hash_weights(const Run *run, const Save *save, Text *out) {
    bool on_host = (save->rank == 0 && !save->kernels) || run->kernels->is_host();
    for (int64_t i = 0; i < save->model.count; i++)
        if (!save->model.items[i].zero) hash_tensor(out, on_host ? NULL : run->kernels, save->model.items[i].tensor);
}

// The first tensor whose hash differs.
static const char *find_difference(const Save *save, const Text *a, const Text *b) {
    size_t at = 0;
    for (int64_t i = 0; i < save->model.count; i++) {
        if (save->model.items[i].zero) continue;
        if (at + HASH_HEX - 1 > b->size || memcmp(a->data + at, b->data + at, HASH_HEX - 1) != 0)
            return save->model.items[i].name;
        at += HASH_HEX - 1;
    }
    return NULL;
}

// On rank 0, with the hashes of all.
static bool tell_difference(Save *save, const Text *hashes) {
    Text names = {0};
    const char *first = NULL;
    int count = 0;
    for (int rank = 1; rank < save->ranks; rank++) {
        const char *tensor = find_difference(save, &hashes[0], &hashes[rank]);
        if (!tensor) continue;
        text_printf(&names, "%s%d", count++ ? ", " : "", rank);
        if (!first) first = tensor;
    }
    if (count > 0)
        errors_add(&save->result.errors, EXIT_DIVERGED, "step %ld: the weights of rank%s %s are not those of rank 0 "
                   "(first in %s); the hardware of one of them is at fault. Nothing was saved; find the machine, and "
                   "resume without it", save->content.step, count > 1 ? "s" : "", text_string(&names), first);
    text_close(&names);
    return count > 0;
}

static Text *take_texts(const Save *save) { return memory_take(save->ranks, sizeof(Text), "texts of ranks"); }

static void return_texts(const Save *save, Text *texts) {
    for (int rank = 0; rank < save->ranks; rank++) text_close(&texts[rank]);
    free(texts);
}

static bool weights_agree(Run *run, Save *save) {
    Text mine = {0}, *all = take_texts(save);
    hash_weights(run, save, &mine);
    run_gather(run, true, &mine, all, &save->result.errors);
    bool differing = save->rank == 0 && tell_difference(save, all);
    save->result.differing = ranks_any(run->comm.ranks, differing);
    return_texts(save, all);
    text_close(&mine);
    return !save->result.differing;
}

// Rank 0 makes room for the files of all, and a directory.
static bool begin_files(Run *run, Save *save) {
    Errors *errors = &save->result.errors;
    Text mine = {0}, *all = take_texts(save);
    uint64_t bytes = 0;
    text_printf(&mine, "%lu", checkpoint_bytes(&save->content));
    run_gather(run, true, &mine, all, errors);
    for (int rank = 0; rank < save->ranks; rank++) bytes += strtoull(text_string(&all[rank]), NULL, 10);
    bool begun = save->rank > 0 || (find_room(save, bytes) && checkpoint_begin(save->run_dir, save->content.step,
                                                                               errors));
    if (!begun) checkpoint_drop(save->run_dir, save->content.step);
    return_texts(save, all);
    text_close(&mine);
    return run_agree(run, begun, errors);
}

// Messages that only say that another rank has some.
static void drop_silent(Errors *errors) {
    if (errors->text.size == 0) errors_close(errors);
}

static void begin_together(Run *run, Save *save) {
    ranks_patient(run->comm.ranks, true);
    save->together = weights_agree(run, save) && begin_files(run, save);
    ranks_patient(run->comm.ranks, false);
    drop_silent(&save->result.errors);
}

// Rank 0 makes a checkpoint of all parts, or of none.
static void end_together(Run *run, Save *save) {
    Errors *errors = &save->result.errors;
    Text *parts = take_texts(save);
    bool good = run_gather(run, save->result.saved, &save->part, parts, errors);
    if (save->rank == 0) {
        good = good && checkpoint_commit(save->run_dir, save->content.step, parts, save->ranks, errors);
        if (!good) checkpoint_drop(save->run_dir, save->content.step);
        save->result.saved = good;
        retain(save);
    }
    save->result.saved = !ranks_any(run->comm.ranks, save->rank == 0 && !good);
    save->result.seconds = clock_seconds() - save->begun;
    return_texts(save, parts);
    drop_silent(errors);
}

// ---- saving ----

static void *write_beside(void *argument) {
    Save *save = argument;
    save_write(save);
    save->written = true;
    return NULL;
}

void run_begin_save(Run *run, bool prune, double began) {
    REQUIRE(!run->save, "a checkpoint is on its way");
    run_show(run, ITERATE_SHOWN);
    Errors errors = {0};
    if (run->metrics.file.descriptor >= 0) growing_restore(&run->metrics.file, &errors);
    if (run->tensorboard.file.descriptor >= 0) growing_restore(&run->tensorboard.file, &errors);
    Save *save = run->save = save_prepare(run, prune);
    save->begun = began;
    errors_move(&save->result.errors, &errors);
    run->kernels->range_begin("checkpoint copy");
    if (run->copies.base) copy_to_host(run, save);
    run->kernels->range_end();
    if (save->ranks > 1) begin_together(run, save);
    bool writes = save->ranks == 1 || save->together;
    save->threaded = writes && run->copies.base && thread_start(&save->thread, write_beside, save);
    if (writes && !save->threaded) write_beside(save); // slower, and the same bytes
    if (!writes) save->written = true;
    run_show(run, ITERATE_Y);
    save->result.held_up = clock_seconds() - save->begun;
}

bool run_saving(const Run *run) { return run->save && !run->save->written; }

bool run_end_save(Run *run, SaveResult *result) {
    Save *save = run->save;
    if (!save) return false;
    double began = clock_seconds();
    ranks_patient(run->comm.ranks, true);
    if (save->threaded) pthread_join(save->thread, NULL);
    if (save->together) end_together(run, save);
    ranks_patient(run->comm.ranks, false);
    save->result.held_up += clock_seconds() - began;
    *result = save_close(save);
    run->save = NULL;
    return true;
}

void run_close_save(Run *run) {
    Save *save = run->save;
    if (!save) return;
    if (save->threaded) pthread_join(save->thread, NULL);
    SaveResult unseen = save_close(save);
    errors_close(&unseen.errors);
    run->save = NULL;
}
