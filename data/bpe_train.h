// Training of a byte-level BPE from counted pieces: the pair of adjacent tokens that occurs most is merged everywhere,
// of equals that with the smaller left id, then right id; and again. Ids are GPT-2's: 256 bytes in byte_level_place's
// order, merges from 256 on, the separator last. Equal to the BpeTrainer of Hugging Face's `tokenizers`.
#pragma once

#include "data/piece_counts.h"
#include "data/tokenizer.h"

// `vocab` ids, or fewer when no pair is left. Takes the pieces, which are empty afterwards. Memory: 20 to 25 bytes for
// each byte of them.
Tokenizer *bpe_train(PieceCounts *pieces, int64_t vocab, bool quiet);

// The tokenizer of bpe_train: merge k, of pairs[k] = {left, right} below 256 + k, is token 256 + k.
Tokenizer *tokenizer_from_merges(const int32_t (*pairs)[2], int64_t count);
