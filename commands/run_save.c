// What a run saves: its provenance, and checkpoints.
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "commands/run.h"
#include "runtime/json.h"
#include "runtime/process.h"
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
    json_number(&w, "seconds", s->seconds);
    json_bool(&w, "evaluated", s->evaluated);
    json_number(&w, "best_val_loss", s->best_val_loss);
    json_integer(&w, "metrics_bytes", run->metrics.size);
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

bool run_save(Run *run, Errors *errors) {
    static const DType model_dtypes[] = {DTYPE_F32, DTYPE_BF16};
    int64_t choice = run->config.checkpoint.model_dtype;
    DType dtype = choice == OPTION_AUTO ? run->compute : model_dtypes[choice];
    enum { RUN_JSON, CONFIG_JSON, TUNING, TOKENIZER_JSON, TOKENIZER_CONFIG, TEXTS };
    static const char *const names[TEXTS] = {"run.json", "config.json", TUNING_FILE, "tokenizer.json",
                                             "tokenizer_config.json"};
    Text text[TEXTS] = {0};
    write_run_json(run, &text[RUN_JSON]);
    gpt_config_json(&run->shape, dtype, separator_of(run), &text[CONFIG_JSON]);
    if (run->tokenizer) {
        tokenizer_json(run->tokenizer, &text[TOKENIZER_JSON]);
        tokenizer_config_json(run->tokenizer, run->shape.context, &text[TOKENIZER_CONFIG]);
    }
    run->kernels->write_choices(&text[TUNING]);
    CheckpointText texts[TEXTS];
    int text_count = 0;
    for (int i = 0; i < TEXTS; i++)
        if (text[i].size > 0) texts[text_count++] = (CheckpointText){names[i], text_string(&text[i])};
    NamedTensors model = {0}, state = {0};
    run_show(run, ITERATE_SHOWN);
    gpt_export_tensors(&run->gpt, run->gpt.weights, &model);
    optim_state(&run->optim, &state);
    CheckpointTensors tensors[] = {{MODEL_FILE, model.items, model.count, dtype},
                                   {STATE_FILE, state.items, state.count, run->wide}};
    CheckpointContent content = {.step = run->state.step, .tensors = tensors, .tensor_files = 2, .texts = texts,
                                 .text_files = text_count};
    metrics_sync(&run->metrics, errors); // before the checkpoint that counts on them
    bool saved = checkpoint_save(run->dir, run->kernels, &content, NULL, errors);
    run_show(run, ITERATE_Y);
    named_tensors_close(&model);
    named_tensors_close(&state);
    for (int i = 0; i < TEXTS; i++) text_close(&text[i]);
    return saved;
}

bool run_prune(const Run *run, Errors *errors) {
    return checkpoint_prune(run->dir, run->state.step, run->config.checkpoint.keep, errors);
}
