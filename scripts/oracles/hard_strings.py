"""Strings that are hard for a tokenizer: of code points assigned in Unicode 14, which all libraries here know alike."""
import random
import sys
import unicodedata

if unicodedata.unidata_version != "14.0.0":
    sys.exit(f"Python 3.11 knows Unicode 14.0.0; this one has {unicodedata.unidata_version}")

# Surrogates stand in no UTF-8, and the program takes no U+0000 in JSON.
ASSIGNED = [chr(c) for c in range(1, sys.maxunicode + 1) if unicodedata.category(chr(c)) not in ("Cn", "Cs", "Co")]
LETTERS = [c for c in ASSIGNED if unicodedata.category(c)[0] == "L"]
MARKS = [c for c in ASSIGNED if unicodedata.combining(c)]
NUMBERS = [c for c in ASSIGNED if unicodedata.category(c)[0] == "N"]
SPACES = [*map(chr, (9, 10, 11, 12, 13, 32, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x2028, 0x2029, 0x202F, 0x205F,
                     0x3000)), "\u180e", "\u200b", "\ufeff"]  # the last three are none
DECOMPOSABLE = [c for c in ASSIGNED if unicodedata.normalize("NFD", c) != c]
PARTS = [" ", "  ", "   ", "\n", "\n\n", "\r\n", "\r", "\t", " \n", "\n ", "\v", "\f", "'s", "'S", "'t", "'T", "'re",
         "'RE", "'rE", "'ve", "'m", "'ll", "'lL", "'d", "'", "''", "'\u017f", "\u2019s", "a", "the", " the", "The",
         "Hello", "don't", "I'M", "1", "12", "123", "1234", "0.5", "!", "!!", "?!\n", "...", "(", "_", "-", "=", "==",
         "//", "<", ">", "e\u0301", "\u00e9", "A\u030a", "\u1100\u1161\u11a8", "\uac00\u11a8", "\u0344", "\u212b",
         "\u037e", "\u4e2d\u6587", "\u3042", "\U0001f600", "\U0001f468\u200d\U0001f469"]
ASCII = [chr(c) for c in range(1, 128)]


def make_string(draw: random.Random, names=()):
    """One string; `names` are put among the rest."""
    kinds = [ASSIGNED, LETTERS, MARKS, NUMBERS, SPACES, DECOMPOSABLE, ASCII, PARTS, PARTS, PARTS]
    if names:
        kinds.append(list(names) + [part for name in names for part in (name[:-1], name[1:])])
    chosen = draw.sample(kinds, draw.randint(1, 4))
    return "".join(draw.choice(draw.choice(chosen)) for _ in range(draw.randint(1, draw.choice((3, 8, 24)))))
