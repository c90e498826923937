#!/usr/bin/env python3
"""Writes tests/fixtures/hellaswag: 100 synthetic examples in HellaSwag's form, a tiny random GPT-2 with a BPE tokenizer
in Hugging Face's form, and what two evaluations make of them:

llmc     llm.c's (dev/data/hellaswag.py), written here from its description: ctx and " " + ending encoded each for
         itself, losses summed over the ending; acc by the sum, acc_norm by the mean over tokens. What is longer than
         the model loses the beginning of its context.
lmeval   lm-evaluation-harness itself: its HellaSwag task over a local file, its HFLM on this model.

Run in a virtual environment with numpy, torch, transformers, tokenizers, safetensors, lm_eval (requirements.txt):

    python scripts/oracles/make_hellaswag_fixtures.py [OUT_DIR]

expected.safetensors holds for STYLE llmc and lmeval: STYLE.tokens, all ids one behind the other: of each example its
context, then each ending; STYLE.counts (100, 4, 2): of context and ending; STYLE.losses (100, 4); STYLE.choices
(100, 2): by acc and by acc_norm; STYLE.accuracy (2). examples.bin are the same examples as llm.c writes them.
"""
import json
import os
import pathlib
import sys

os.environ["HF_HUB_OFFLINE"] = os.environ["HF_DATASETS_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import lm_eval
import lm_eval.api.task
import numpy as np
import tokenizers
import torch
import transformers
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks.hellaswag import utils as task_utils
from safetensors.numpy import save_file

EXAMPLES, VOCAB, LENGTH, MARGIN = 100, 400, 96, 2e-3
STEM = "river stone lantern cellar ladder woman boy kettle rope garden window hammer bicycle paint flour violin".split()
VERB = "lifts drops paints turns holds pushes folds opens carries throws waters tunes".split()
PLACE = "beside the wall,in the yard,under a bridge,near the café,at the 东门,on the roof 🏠,by Łódź".split(",")


class Words:
    """A small recurrence, so that the texts are the same everywhere."""

    def __init__(self, seed):
        self.state = seed

    def below(self, n):
        self.state = (self.state * 1103515245 + 12345) % 2**31
        return (self.state >> 12) % n

    def of(self, words):
        return words[self.below(len(words))]

    def clause(self):
        return f"{self.of(VERB)} the {self.of(STEM)} {self.of(PLACE)}"


def make_example(number):
    w = Words(1000 + 77 * number)
    subject = w.of(["he", "the man", "THE older Woman", "a Boy", "éloïse", "ﬁsh", "", "", ""])
    ctx_a = f"A {w.of(STEM)} is {w.of(PLACE)}. Someone {w.clause()}."
    label = w.of(["Making a", "Playing  the", "[header] How to mend a", "Cleaning"]) + " " + w.of(STEM)
    endings = [w.clause() + w.of([".", " and " + w.clause() + ".", "!"]) for _ in range(4)]
    if number % 5 == 1:  # WikiHow's marks
        ctx_a = f"[header] How to {w.clause()} [title] Find a {w.of(STEM)}. [step] It {w.clause()}. "
        endings = [f"[substeps] {a}" if i % 2 else f"{a} [title] {w.clause()}  [step] So."
                   for i, a in enumerate(endings)]
    if number % 7 == 2:
        ctx_a = "  " + ctx_a.replace(" is ", "   is ") + " "
    if number % 11 == 3:
        ctx_a = "\u00a0" + ctx_a + " [open " + w.of(STEM) + "\nshut] here"
    if number % 13 == 4:
        ctx_a = " ".join(f"They {w.clause()}." for _ in range(9))  # longer than the model
    if number % 17 == 5:
        endings[w.below(4)] = ["[all of it]", " ", "\u00a0so\u3000", ""][number // 17 % 4]
    if number % 19 == 6:
        a, b, c, d = endings
        endings = [a[:24].upper(), b + "  ", " " + c, "don't " + d + " it's 1234  x"]
    if number % 23 == 7:  # what is left of the query ends in a space
        ctx_a, subject = ctx_a + " [step]", ""
    if number == 50:  # nothing is left of the query
        label, ctx_a, subject = "[x", "y", "z]"
    ctx = ctx_a + (" " + subject if subject else "")
    return {"ind": 24 + 3 * number, "activity_label": label, "ctx_a": ctx_a, "ctx_b": subject, "ctx": ctx,
            "split": "val", "split_type": w.of(["indomain", "zeroshot"]), "label": w.below(4), "endings": endings,
            "source_id": f"synthetic~{number}"}


def write_examples(out):
    examples = [make_example(i) for i in range(EXAMPLES)]
    text = "".join(json.dumps(e, ensure_ascii=i % 2 == 0) + "\n" for i, e in enumerate(examples))
    (out / "examples.jsonl").write_text(text, encoding="utf-8")
    return examples


def make_tokenizer(out, examples):
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=VOCAB, special_tokens=["<|endoftext|>"], show_progress=False,
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator((e["ctx"] + " " + " ".join(e["endings"]) for e in examples), trainer)
    tokenizer.save(str(out / "tokenizer.json"), pretty=False)
    names = {key: "<|endoftext|>" for key in ("bos_token", "eos_token", "unk_token")}
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": LENGTH, **names}
    (out / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")
    return tokenizer


def make_model(out, seed):
    config = transformers.GPT2Config(vocab_size=VOCAB, n_positions=LENGTH, n_embd=24, n_layer=2, n_head=3, n_inner=64,
                                     bos_token_id=0, eos_token_id=0)
    torch.manual_seed(seed)
    model = transformers.GPT2LMHeadModel(config).eval()
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.copy_(1 + 0.2 * torch.randn_like(p) if "ln" in name and name.endswith("weight")
                    else 0.3 * torch.randn_like(p))
    model.save_pretrained(out)
    (out / "generation_config.json").unlink(missing_ok=True)
    return model


def loss_of(model, context, ending):
    """Summed nats of the ending; the logits are fp32, what is made of them double."""
    assert len(ending) <= LENGTH
    tokens = (context + ending)[-(LENGTH + 1):]
    with torch.no_grad():
        logits = model(torch.tensor([tokens[:-1]])).logits[0].double()
    losses = torch.nn.functional.cross_entropy(logits, torch.tensor(tokens[1:]), reduction="none")
    return tokens, float(losses[-len(ending):].sum())


def score_llmc(model, tokenizer, examples):
    rows, losses = [], []
    for e in examples:
        context = tokenizer.encode(e["ctx"]).ids
        rows.append((context, [tokenizer.encode(" " + ending).ids for ending in e["endings"]]))
        losses.append([loss_of(model, context, ending)[1] for ending in rows[-1][1]])
    losses = np.array(losses)
    sizes = np.array([[len(ending) for ending in endings] for _, endings in rows])
    return [[(c, e) for e in endings] for c, endings in rows], losses, losses / sizes


def score_lmeval(out, examples):
    requests = []

    class Watched(HFLM):
        def _loglikelihood_tokens(self, batch, **kwargs):
            requests.extend(batch)
            return super()._loglikelihood_tokens(batch, **kwargs)

    task = {"task": "hellaswag_local", "dataset_path": "json", "output_type": "multiple_choice",
            "dataset_kwargs": {"data_files": {"validation": str(out / "examples.jsonl")}},
            "validation_split": "validation", "process_docs": task_utils.process_docs, "doc_to_text": "{{query}}",
            "doc_to_target": "{{label}}", "doc_to_choice": "choices",
            "metric_list": [{"metric": metric, "aggregation": "mean", "higher_is_better": True}
                            for metric in ("acc", "acc_norm")]}
    model = Watched(pretrained=str(out), dtype="float32", device="cpu", batch_size=8)
    result = lm_eval.simple_evaluate(model=model, tasks=[task], log_samples=True, bootstrap_iters=0)
    samples = sorted(result["samples"]["hellaswag_local"], key=lambda s: s["doc_id"])
    losses = -np.array([[response[0] for response in s["filtered_resps"]] for s in samples], dtype=np.float64)
    sizes = np.array([[float(len(choice)) for choice in s["doc"]["choices"]] for s in samples])
    with np.errstate(divide="ignore"):
        scaled = losses / sizes
    rows = [[(r[1], r[2]) for r in requests[4 * i:4 * i + 4]] for i in range(len(samples))]
    metrics = result["results"]["hellaswag_local"]
    right = [[s["acc"], s["acc_norm"]] for s in samples]
    return rows, losses, scaled, right, [metrics["acc,none"], metrics["acc_norm,none"]]


def margin(scores):
    """How far the best is from the second best, at the closest."""
    ordered = np.sort(scores, axis=1)
    return float(np.min(ordered[:, 1] - ordered[:, 0]))


def add_expected(expected, style, rows, losses, scaled, labels):
    tokens = []
    for i, row in enumerate(rows):
        for k, (context, ending) in enumerate(row):
            assert context == row[0][0]
            tokens += ([] if k else context) + ending
            expected[f"{style}.counts"][i, k] = len(context), len(ending)
    expected[f"{style}.tokens"] = np.array(tokens, dtype=np.int32)
    expected[f"{style}.losses"] = losses
    choices = np.stack([np.argmin(losses, axis=1), np.argmin(scaled, axis=1)], axis=1)
    expected[f"{style}.choices"] = choices.astype(np.int32)
    expected[f"{style}.accuracy"] = (choices == np.array(labels)[:, None]).mean(axis=0)
    return choices


def write_binary(out, rows, labels):
    stream, longest = [], 0
    for i, row in enumerate(rows):
        example = [65535, 0, i, labels[i], 4, len(row[0][0]), *row[0][0]]
        for _, ending in row:
            example += [len(ending), *ending]
        example[1] = 2 * len(example)
        longest = max(longest, example[1])
        stream += example
    header = np.zeros(256, dtype="<i4")
    header[:4] = 20240522, 1, len(rows), longest
    (out / "examples.bin").write_bytes(header.tobytes() + np.array(stream, dtype="<u2").tobytes())


def main():
    root = pathlib.Path(__file__).resolve().parents[2]
    out = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else root / "tests/fixtures/hellaswag").resolve()
    out.mkdir(parents=True, exist_ok=True)
    examples = write_examples(out)
    labels = [e["label"] for e in examples]
    tokenizer = make_tokenizer(out, examples)
    for seed in range(1, 100):
        model = make_model(out, seed)
        llmc = score_llmc(model, tokenizer, examples)
        if min(margin(llmc[1]), margin(llmc[2])) < MARGIN:
            continue
        lmeval = score_lmeval(out, examples)
        if min(margin(lmeval[1]), margin(lmeval[2])) >= MARGIN / 10:
            break
    else:
        sys.exit("no model whose choices are clear")
    expected = {f"{style}.counts": np.zeros((EXAMPLES, 4, 2), dtype=np.int32) for style in ("llmc", "lmeval")}
    add_expected(expected, "llmc", *llmc, labels)
    choices = add_expected(expected, "lmeval", *lmeval[:3], labels)
    rows, losses, _, right, accuracy = lmeval
    if not np.array_equal(choices == np.array(labels)[:, None], np.array(right) == 1):
        sys.exit("lm-evaluation-harness has other choices than its own log-likelihoods")
    if not np.allclose(accuracy, expected["lmeval.accuracy"]):
        sys.exit("lm-evaluation-harness has another accuracy than its own samples")
    ours = np.array([[loss_of(model, *pair)[1] for pair in row] for row in rows])
    if not np.allclose(ours, losses, atol=1e-3):
        sys.exit("this script does not understand how lm-evaluation-harness scores")
    save_file({name: np.ascontiguousarray(value) for name, value in expected.items()}, out / "expected.safetensors")
    write_binary(out, llmc[0], labels)
    print(f"seed {seed}: llmc {expected['llmc.accuracy']}, lmeval {expected['lmeval.accuracy']}, "
          f"margins {margin(llmc[1]):.4f} {margin(llmc[2]):.4f} {margin(lmeval[1]):.4f} {margin(lmeval[2]):.5f}")


if __name__ == "__main__":
    main()
