// By PCRE2.
#define PCRE2_CODE_UNIT_WIDTH 8
#include "data/presplit.h"

#include <pcre2.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/error.h"

// \s is spelled out as Unicode's White_Space, because PCRE2's has U+180E besides.
#define SPACE                                                                              \
    "\\x{9}-\\x{d}\\x{20}\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}" \
    "\\x{205f}\\x{3000}"
// What Llama 3 and Qwen share: contractions in either case, one letter for another included that folds to it (U+017F);
// words with one character before them; numbers; marks and the ends of lines behind them; whitespace.
#define WORDS(number)                                                                                              \
    "'(?i:[sdmt]|ll|ve|re)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}++|" number "| ?[^" SPACE "\\p{L}\\p{N}]++[\\r\\n]*+|[" SPACE \
    "]*[\\r\\n]|[" SPACE "]+(?![^" SPACE "])|[" SPACE "]"
#define PUBLISHED_WORDS(number)                                                                                \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|" number "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|" \
    "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"

enum { SPELLINGS = 3 };
static const struct {
    const char *pattern, *published[SPELLINGS];
} kinds[PRESPLIT_KINDS] = {
    [PRESPLIT_GPT2] = {"'(?:[sdmt]|ll|ve|re)| ?\\p{L}++| ?\\p{N}++| ?[^" SPACE "\\p{L}\\p{N}]++|[" SPACE "]+(?![^" SPACE
                       "])|[" SPACE "]",
                       {"'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+",
                        "'(?:[sdmt]|ll|ve|re)| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+",
                        "'(?:[sdmt]|ll|ve|re)| ?\\p{L}++| ?\\p{N}++| ?[^\\s\\p{L}\\p{N}]++|\\s++$|\\s+(?!\\S)|\\s"}},
    [PRESPLIT_LLAMA3] = {WORDS("\\p{N}{1,3}"), {PUBLISHED_WORDS("\\p{N}{1,3}")}},
    [PRESPLIT_QWEN2] = {WORDS("\\p{N}"), {PUBLISHED_WORDS("\\p{N}")}},
};

struct Presplit {
    pcre2_code *code;
    pcre2_match_data *match;
};

const char *presplit_pattern(PresplitKind kind) { return kinds[kind].pattern; }
const char *presplit_published(PresplitKind kind) { return kinds[kind].published[0]; }

int presplit_find(const char *published) {
    for (int kind = 0; kind < PRESPLIT_KINDS; kind++)
        for (int i = 0; i < SPELLINGS && kinds[kind].published[i]; i++)
            if (strcmp(kinds[kind].published[i], published) == 0) return kind;
    return -1;
}

Presplit *presplit_open(PresplitKind kind) {
    Presplit *presplit = calloc(1, sizeof *presplit);
    if (!presplit) DIE(EXIT_INTERNAL, "out of memory for the tokenizer");
    int error;
    PCRE2_SIZE where;
    presplit->code = pcre2_compile((PCRE2_SPTR)kinds[kind].pattern, PCRE2_ZERO_TERMINATED,
                                   PCRE2_UTF | PCRE2_UCP | PCRE2_ANCHORED, &error, &where, NULL);
    REQUIRE(presplit->code, "PCRE2 error %d at %zu of the pre-split", error, where);
    pcre2_jit_compile(presplit->code, PCRE2_JIT_COMPLETE); // where there is no JIT, matching interprets
    presplit->match = pcre2_match_data_create(1, NULL);
    if (!presplit->match) DIE(EXIT_INTERNAL, "out of memory for the tokenizer");
    return presplit;
}

void presplit_close(Presplit *presplit) {
    if (!presplit) return;
    pcre2_match_data_free(presplit->match);
    pcre2_code_free(presplit->code);
    free(presplit);
}

size_t presplit_next(Presplit *presplit, const char *text, size_t size, size_t at) {
    const PCRE2_SIZE *bounds = pcre2_get_ovector_pointer(presplit->match);
    int found = pcre2_match(presplit->code, (PCRE2_SPTR)text, size, at, PCRE2_NO_UTF_CHECK, presplit->match, NULL);
    REQUIRE(found > 0 && bounds[1] > at, "PCRE2 answers %d at byte %zu", found, at);
    return bounds[1];
}
