// What the patterns find in ASCII is found here by hand; where anything else follows, PCRE2 decides.
#define PCRE2_CODE_UNIT_WIDTH 8
#include "data/presplit.h"

#include <pcre2.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/error.h"
#include "runtime/memory.h"

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
    bool words;    // one of those with WORDS
    size_t digits; // in a piece at most, 0: any number
} kinds[PRESPLIT_KINDS] = {
    [PRESPLIT_GPT2] = {"'(?:[sdmt]|ll|ve|re)| ?\\p{L}++| ?\\p{N}++| ?[^" SPACE "\\p{L}\\p{N}]++|[" SPACE "]+(?![^" SPACE
                       "])|[" SPACE "]",
                       {"'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+",
                        "'(?:[sdmt]|ll|ve|re)| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+",
                        "'(?:[sdmt]|ll|ve|re)| ?\\p{L}++| ?\\p{N}++| ?[^\\s\\p{L}\\p{N}]++|\\s++$|\\s+(?!\\S)|\\s"},
                       false, 0},
    [PRESPLIT_LLAMA3] = {WORDS("\\p{N}{1,3}"), {PUBLISHED_WORDS("\\p{N}{1,3}")}, true, 3},
    [PRESPLIT_QWEN2] = {WORDS("\\p{N}"), {PUBLISHED_WORDS("\\p{N}")}, true, 1},
};

// Classes of bytes. HIGH is part of a character that is not ASCII, and may be anything.
enum { LETTER = 1, DIGIT = 2, SPACE_BYTE = 4, BLANK = 8, LINE_END = 16, MARK = 32, HIGH = 64 };
enum { WHITE = SPACE_BYTE | BLANK | LINE_END };

struct Presplit {
    bool words;
    size_t digits;
    uint8_t classes[256];
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

static uint8_t class_of(int byte) {
    if (byte >= 0x80) return HIGH;
    if (byte == ' ') return SPACE_BYTE;
    if (byte == '\n' || byte == '\r') return LINE_END;
    if (byte >= '\t' && byte <= '\f') return BLANK;
    if (byte >= '0' && byte <= '9') return DIGIT;
    return (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') ? LETTER : MARK;
}

Presplit *presplit_open(PresplitKind kind) {
    Presplit *presplit = memory_take(1, sizeof *presplit, "the tokenizer");
    presplit->words = kinds[kind].words;
    presplit->digits = kinds[kind].digits;
    for (int byte = 0; byte < 256; byte++) presplit->classes[byte] = class_of(byte);
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

size_t presplit_match(Presplit *presplit, const char *text, size_t size, size_t at) {
    const PCRE2_SIZE *bounds = pcre2_get_ovector_pointer(presplit->match);
    int found = pcre2_match(presplit->code, (PCRE2_SPTR)text, size, at, PCRE2_NO_UTF_CHECK, presplit->match, NULL);
    REQUIRE(found > 0 && bounds[1] > at, "PCRE2 answers %d at byte %zu", found, at);
    return bounds[1];
}

typedef struct {
    const Presplit *presplit;
    const char *text;
    size_t size;
} Scan;

static unsigned class_at(const Scan *scan, size_t at) { // 0 behind the end
    return at < scan->size ? scan->presplit->classes[(unsigned char)scan->text[at]] : 0;
}

static size_t run_of(const Scan *scan, size_t at, unsigned classes) {
    while (class_at(scan, at) & classes) at++;
    return at;
}

// The end of 's, 'll and the like at `at`, an apostrophe; `at` where none is.
static size_t contraction(const Scan *scan, size_t at) {
    char fold = scan->presplit->words ? 0x20 : 0; // to lower case
    if (at + 1 >= scan->size) return at;
    char first = scan->text[at + 1] | fold;
    if (first == 's' || first == 'd' || first == 'm' || first == 't') return at + 2;
    if (at + 2 >= scan->size) return at;
    char second = scan->text[at + 2] | fold;
    bool found = (first == 'l' && second == 'l') || ((first == 'v' || first == 'r') && second == 'e');
    return found ? at + 3 : at;
}

static size_t white_end(const Scan *scan, size_t at) {
    size_t end = run_of(scan, at, WHITE), line = end;
    if (class_at(scan, end) & HIGH) return at;
    while (scan->presplit->words && line > at && !(class_at(scan, line - 1) & LINE_END)) line--;
    if (scan->presplit->words && line > at) return line;
    return end == scan->size || end == at + 1 ? end : end - 1; // the last goes with what follows
}

// The end of a piece as far as ASCII decides it; `at` where it does not.
static size_t ascii_end(const Scan *scan, size_t at) {
    bool words = scan->presplit->words;
    unsigned first = class_at(scan, at), next = class_at(scan, at + 1);
    if (first & HIGH) return at;
    if (scan->text[at] == '\'') {
        size_t end = contraction(scan, at);
        if (end > at) return end;
    }
    bool before_letter = words && first & (SPACE_BYTE | BLANK | MARK) && next & LETTER;
    bool before_any = first & SPACE_BYTE && next & (words ? MARK : LETTER | DIGIT | MARK);
    size_t begin = before_letter || before_any ? at + 1 : at, end = begin;
    unsigned kind = begin > at ? next : first;
    if (kind & WHITE) return white_end(scan, at);
    size_t furthest = kind & DIGIT && scan->presplit->digits ? begin + scan->presplit->digits : scan->size;
    while (end < furthest && class_at(scan, end) & kind) end++;
    if (end < furthest && class_at(scan, end) & HIGH) return at;
    return words && kind & MARK ? run_of(scan, end, LINE_END) : end;
}

size_t presplit_next(Presplit *presplit, const char *text, size_t size, size_t at) {
    const Scan scan = {presplit, text, size};
    size_t end = ascii_end(&scan, at);
    return end > at ? end : presplit_match(presplit, text, size, at);
}
