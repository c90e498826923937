// The text that `prepare` reads, a document a line: refused, or a dataset whose facts and shards agree.
#include "data/corpus.h"
#include "data/shards.h"
#include "tests/fuzz/folder.h"

static void check_dataset(const char *out, const CorpusCounts *counts) {
    DatasetFacts facts;
    Errors errors = {0};
    char pattern[4096], *patterns[] = {pattern};
    HOLDS(dataset_facts(out, &facts, &errors) && facts.present);
    HOLDS(facts.vocab == 257 && facts.val_bytes == counts->val_bytes);
    path_join(pattern, out, "*_*.bin");
    Shards *shards = shards_open(&(TextList){patterns, 1, 1}, SHARD_HEADER, &errors);
    HOLDS(shards && shards_check_ids(shards, facts.vocab, &errors));
    HOLDS(shards_tokens(shards) == facts.train_tokens + facts.val_tokens);
    HOLDS(shards_tokens(shards) >= counts->train_bytes + counts->val_bytes + counts->documents);
    shards_close(shards);
}

TARGET {
    Errors errors = {0};
    char input[4096], out[4096], *inputs[] = {input};
    path_join(input, fuzz_folder(), "text.jsonl");
    path_join(out, fuzz_folder(), "out");
    fuzz_link("text.jsonl", fuzz_file(0, bytes, size));
    Tokenizer *tokenizer = tokenizer_open("byte", &errors);
    CorpusSetup setup = {&(TextList){inputs, 1, 1}, out, 0.25, 64, "text", 1, true};
    CorpusCounts counts;
    bool good = corpus_prepare(tokenizer, &setup, &counts, &errors);
    fuzz_errors(&errors, !good);
    if (good) check_dataset(out, &counts);
    tokenizer_close(tokenizer);
    return 0;
}
