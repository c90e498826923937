// GPT-2's list of merges, refused always: no input here is that one.
#include "data/tokenizer.h"
#include "tests/fuzz/folder.h"

TARGET {
    static bool ready;
    const char *file = fuzz_file(0, bytes, size);
    if (!ready) {
        char path[4096];
        path_join(path, fuzz_folder(), "gpt2");
        HOLDS(mkdir(path, 0700) == 0 && setenv("THALWEG_DATA", fuzz_folder(), 1) == 0);
        fuzz_link("gpt2/vocab.bpe", file);
        ready = true;
    }
    Errors errors = {0};
    HOLDS(!tokenizer_open("gpt2", &errors));
    fuzz_errors(&errors, true);
    return 0;
}
