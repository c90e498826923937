#!/usr/bin/env python3
"""Makes tests/fixtures/tokenizers: small tokenizers of the three kinds that the program reads, trained and written by
the `tokenizers` library, and the ids it gives to hard strings. Run in a virtual environment of Python 3.11 with
requirements.txt, from the root of the tree:

    python scripts/oracles/make_tokenizer_fixtures.py

cases.gz holds, little endian: for each text its size (u16) and UTF-8, then for gpt2, llama3 and qwen3 in turn how many
ids (u16) and the ids (u16 each). Special tokens are text in all of them.
"""
import gzip
import json
import pathlib
import random
import struct

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from hard_strings import make_string

OUT = pathlib.Path("tests/fixtures/tokenizers")
TEXTS = 1700
WORDS = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|"
         r"\s+(?!\S)|\s+")
SAMPLE = """Don't stop: it's what we'll do, they've said, I'M here and you're there. THE END, the end, The 1234 and
2024. if (x == 0) { return -1; }  // nothing\n\tfor i in range(10):\n\t\tprint(i)\n\n\n
Étude naïve à Zürich, señor; Größe.
Привет, мир! Это простой текст. Γειά σου κόσμε. 你好，世界。今天天气很好。こんにちは、世界。テスト。안녕하세요 세계 여러분.
مرحبا بالعالم ١٢٣ नमस्ते दुनिया १२३ สวัสดีชาวโลก 👋🌍 <think>\nHm.\n</think> "quotes" — dashes… 3.14 % ^ & * ~ ` [a] {b}
"""


def split(pattern):
    return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(pattern), "isolated"),
                                    pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


KINDS = {
    "gpt2": dict(pre_tokenizer=pre_tokenizers.ByteLevel(add_prefix_space=False), special=["<|endoftext|>"]),
    "llama3": dict(pre_tokenizer=split(WORDS % r"\p{N}{1,3}"), ignore_merges=True, beginning="<|begin_of_text|>",
                   special=["<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"]),
    "qwen3": dict(pre_tokenizer=split(WORDS % r"\p{N}"), normalizer=normalizers.NFC(),
                  special=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
                  text=["<tool_call>", "</tool_call>", "<think>", "</think>", "<think", "think> e\u0301",
                        "|im_end|>!"]),
}


def make(name, pre_tokenizer, special, normalizer=None, ignore_merges=False, text=(), beginning=None):
    tokenizer = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoders.ByteLevel()
    if normalizer:
        tokenizer.normalizer = normalizer
    trainer = trainers.BpeTrainer(vocab_size=640, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
                                  show_progress=False, special_tokens=[])
    tokenizer.train_from_iterator([pathlib.Path("LICENSE").read_text(), SAMPLE], trainer)
    tokenizer.add_special_tokens(special)
    tokenizer.add_tokens([AddedToken(token, normalized=False) for token in text])
    if beginning:  # as Llama 3 has it; the program adds nothing to a text
        names = [(beginning, tokenizer.token_to_id(beginning))]
        template = processors.TemplateProcessing(f"{beginning} $A", special_tokens=names)
        tokenizer.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), template])
    root = json.loads(tokenizer.to_str())
    if ignore_merges:  # tokens that no merge makes
        root["model"]["merges"] = [merge for i, merge in enumerate(root["model"]["merges"]) if i % 5 != 3]
    path = OUT / f"{name}.json"
    path.write_text(json.dumps(root, ensure_ascii=False, separators=(",", ":")) + "\n")
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.encode_special_tokens = True
    return tokenizer


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    tokenizers = [make(name, **kind) for name, kind in KINDS.items()]
    names = [token for kind in KINDS.values() for token in (*kind["special"], *kind.get("text", ()))]
    draw = random.Random(14)
    packed = bytearray()
    for _ in range(TEXTS):
        text = make_string(draw, names)
        data = text.encode()
        packed += struct.pack("<H", len(data)) + data
        for tokenizer in tokenizers:
            ids = tokenizer.encode(text, add_special_tokens=False).ids
            packed += struct.pack(f"<{len(ids) + 1}H", len(ids), *ids)
    (OUT / "cases.gz").write_bytes(gzip.compress(bytes(packed), 9, mtime=0))
    print(f"{TEXTS} texts, {TEXTS * len(tokenizers)} cases, {sum(path.stat().st_size for path in OUT.iterdir())} bytes")


if __name__ == "__main__":
    main()
