// dataset.json, which stands beside shards.
#include "data/corpus.h"
#include "tests/fuzz/folder.h"

TARGET {
    DatasetFacts facts;
    Errors errors = {0};
    fuzz_link("dataset.json", fuzz_file(0, bytes, size));
    bool good = dataset_facts(fuzz_folder(), &facts, &errors);
    fuzz_errors(&errors, !good);
    HOLDS(facts.present == good);
    HOLDS(!good || (facts.vocab >= 0 && facts.train_tokens >= 0 && strlen(facts.tokenizer_hash) == 32));
    return 0;
}
