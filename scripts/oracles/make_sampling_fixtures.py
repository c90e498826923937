#!/usr/bin/env python3
"""Writes tests/fixtures/sampling.json: what the logits processors of transformers leave of some logits.

They are called in the order in which transformers' generate() calls them: repetition penalty, temperature, top-k,
top-p, min-p. No case is near a border: where rounding could move an id over one, the script ends.
Run in a virtual environment with numpy, torch, transformers (requirements.txt):

    python scripts/oracles/make_sampling_fixtures.py [OUT_FILE]

`logits` holds lists of float32 numbers by name. Each of `cases` names one of them, the ids so far and the options, and
has the ids that are left with their probabilities.
"""
import json
import pathlib
import sys

import numpy as np
import torch
from transformers.generation.logits_process import (LogitsProcessorList, MinPLogitsWarper,
                                                     RepetitionPenaltyLogitsProcessor, TemperatureLogitsWarper,
                                                     TopKLogitsWarper, TopPLogitsWarper)

MARGIN = 1e-6
NEUTRAL = dict(temperature=1.0, top_k=0, top_p=1.0, min_p=0.0, repetition_penalty=1.0)

random = np.random.default_rng(7)
LOGITS = {
    "even": random.normal(0, 0.5, 50),
    "peaked": random.normal(0, 4, 50),
    "negative": random.normal(-30, 2, 37),
    "large": random.normal(0, 2.5, 300),
}
IDS = {"even": [3, 7, 7, 49, 0], "peaked": [1, 2, 3, 20], "negative": [36, 5], "large": list(range(0, 300, 11))}

CASES = [
    *[("even", dict(temperature=t)) for t in (0.1, 1.0, 3.0)],
    *[(name, dict(top_k=k)) for name in LOGITS for k in (1, 5, 36)],
    *[(name, dict(top_p=p)) for name in LOGITS for p in (0.05, 0.5, 0.9, 0.999)],
    *[(name, dict(min_p=p)) for name in LOGITS for p in (0.02, 0.3, 1.0)],
    *[(name, dict(repetition_penalty=r)) for name in LOGITS for r in (0.8, 1.3, 2.0)],
    *[(name, dict(temperature=0.7, top_k=20, top_p=0.8, min_p=0.05, repetition_penalty=1.2)) for name in LOGITS],
    *[(name, dict(temperature=1.5, top_k=30, top_p=0.95, repetition_penalty=1.1)) for name in LOGITS],
    *[(name, dict(temperature=2.0, top_p=0.7, min_p=0.1)) for name in LOGITS],
]


def processors(o):
    steps = LogitsProcessorList()
    if o["repetition_penalty"] != 1:
        steps.append(RepetitionPenaltyLogitsProcessor(o["repetition_penalty"]))
    if o["temperature"] != 1:
        steps.append(TemperatureLogitsWarper(o["temperature"]))
    if o["top_k"] > 0:
        steps.append(TopKLogitsWarper(o["top_k"]))
    if o["top_p"] < 1:
        steps.append(TopPLogitsWarper(o["top_p"]))
    if o["min_p"] > 0:
        steps.append(MinPLogitsWarper(o["min_p"]))
    return steps


def run(logits, ids, options):
    scores = torch.tensor(logits, dtype=torch.float32)[None].clone()
    return processors(options)(torch.tensor([ids]), scores)[0]


def case(name, given):
    options = NEUTRAL | given
    scores = run(LOGITS[name], IDS[name], options)
    kept = torch.nonzero(torch.isfinite(scores))[:, 0].tolist()
    for key in ("top_p", "min_p"):
        for factor in (1 - MARGIN, 1 + MARGIN):
            near = options | {key: min(options[key] * factor, 1.0)}
            if options[key] not in (0.0, 1.0) and not torch.equal(run(LOGITS[name], IDS[name], near), scores):
                sys.exit(f"{name} {given}: an id is at the border of {key}; choose other numbers")
    probabilities = torch.softmax(scores.double(), 0)[kept].tolist()
    return dict(logits=name, ids=IDS[name], options=options, kept=kept,
                probabilities=[float(f"{p:.8g}") for p in probabilities])


def main():
    out = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "tests/fixtures/sampling.json")
    for name in LOGITS:
        LOGITS[name] = [float(f"{x:.9g}") for x in LOGITS[name].astype(np.float32)]
    rows = ",\n".join(json.dumps(case(name, options)) for name, options in CASES)
    out.write_text('{"logits": %s,\n"cases": [\n%s\n]}\n' % (json.dumps(LOGITS), rows))


main()
