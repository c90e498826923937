// Added tokens that stand in text: found like the `tokenizers` library finds them, leftmost first, of several that
// begin at one place the longest. Special ones stay text, but what they cover is no other token.
#include <stdlib.h>
#include <string.h>

#include "data/tokenizer_rows.h"
#include "runtime/memory.h"

static int compare(const void *a, const void *b) {
    return strcmp((*(const AddedToken *const *)a)->name, (*(const AddedToken *const *)b)->name);
}

void added_matcher_open(AddedMatcher *matcher, const Tokenizer *tokenizer, unsigned normalized) {
    bool wanted = false;
    for (int64_t i = 0; i < tokenizer->added_count; i++)
        wanted |= (tokenizer->added[i].flags & (ADDED_NORMALIZED | ADDED_SPECIAL)) == normalized;
    if (!wanted) return;
    matcher->tokens = memory_take(tokenizer->added_count, sizeof *matcher->tokens, "added tokens");
    for (int64_t i = 0; i < tokenizer->added_count; i++) {
        const AddedToken *token = &tokenizer->added[i];
        if ((token->flags & ADDED_NORMALIZED) != normalized) continue;
        size_t size = strlen(token->name);
        if (size > matcher->longest) matcher->longest = size;
        matcher->begins[(unsigned char)token->name[0]] = true;
        matcher->tokens[matcher->count++] = token;
    }
    qsort(matcher->tokens, (size_t)matcher->count, sizeof *matcher->tokens, compare);
}

// The first of the tokens from `low` on, below `high`, whose byte at `depth` is not below `byte`. They share what is
// before.
static int64_t first_from(const AddedMatcher *matcher, int64_t low, int64_t high, size_t depth, int byte) {
    while (low < high) {
        int64_t middle = low + (high - low) / 2;
        if ((unsigned char)matcher->tokens[middle]->name[depth] < byte)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

// The longest token that begins at `text`.
static const AddedToken *longest_at(const AddedMatcher *matcher, const char *text, size_t size) {
    const AddedToken *best = NULL;
    int64_t low = 0, high = matcher->count;
    for (size_t depth = 0; depth < size && text[depth]; depth++) { // a zero byte is in no name, but ends it
        int byte = (unsigned char)text[depth];
        low = first_from(matcher, low, high, depth, byte);
        high = first_from(matcher, low, high, depth, byte + 1);
        if (low == high) break;
        if (!matcher->tokens[low]->name[depth + 1]) best = matcher->tokens[low]; // the shorter stand before the longer
    }
    return best;
}

const AddedToken *added_matcher_find(const AddedMatcher *matcher, const char *text, size_t size, size_t *at) {
    if (matcher->count == 0) return NULL;
    for (; *at < size; ++*at) {
        if (!matcher->begins[(unsigned char)text[*at]]) continue;
        const AddedToken *found = longest_at(matcher, text + *at, size - *at);
        if (found) return found;
    }
    return NULL;
}

bool added_matcher_spans(const AddedMatcher *matcher, const char *text, size_t size, size_t at) {
    for (size_t back = 1; back < matcher->longest && back <= at; back++) {
        if (!matcher->begins[(unsigned char)text[at - back]]) continue;
        const AddedToken *found = longest_at(matcher, text + at - back, size - at + back);
        if (found && strlen(found->name) > back) return true;
    }
    return false;
}
