#include "tests/support_corpus.h"

#include <stdio.h>
#include <string.h>

#include "data/text_stream.h"
#include "runtime/file.h"
#include "tests/support.h"

static char folder[4096];

const char *corpus_folder(const char *name) {
    if (!folder[0]) snprintf(folder, sizeof folder, "%s", test_folder(name));
    return folder;
}

void corpus_write(char path[4096], const char *name, const void *bytes, size_t size) {
    Errors errors = {0};
    char parent[4096];
    path_join(path, folder, name);
    path_directory(parent, path);
    REQUIRE(directory_make(parent, &errors), "%s", text_string(&errors.text));
    FILE *file = fopen(path, "wb");
    REQUIRE(file && fwrite(bytes, 1, size, file) == size, "cannot write %s", path);
    fclose(file);
}

Outcome corpus_run(Tokenizer *tokenizer, const Preparation *preparation) {
    Outcome outcome = {0};
    TextList inputs = {0};
    char path[4096];
    path_join(path, folder, preparation->input);
    bool standard = strcmp(preparation->input, TEXT_STREAM_INPUT) == 0;
    text_list_add(&inputs, standard ? preparation->input : path);
    path_join(outcome.out, folder, preparation->out);
    CorpusSetup setup = {.inputs = &inputs,
                         .out = outcome.out,
                         .val_fraction = preparation->val_fraction,
                         .shard_tokens = preparation->shard_tokens,
                         .field = preparation->field ? preparation->field : "text",
                         .threads = preparation->threads ? preparation->threads : 2,
                         .quiet = true};
    outcome.good = corpus_prepare(tokenizer, &setup, &outcome.counts, &outcome.errors);
    text_list_close(&inputs);
    tokenizer_close(tokenizer);
    return outcome;
}
