#!/usr/bin/env python3
"""Writes tests/fixtures/optimizers.*: recorded gradients, and where every recipe takes its parameters by them.

The numbers are those of optimizers_engine.py in float64, which check_optimizer_rows.py compares with the published
recurrences and check_optimizers.py with public programs. Needs numpy and safetensors:

    python scripts/oracles/make_optimizer_fixtures.py [OUT_DIR]

optimizers.json: `params` of a small model (rows of each part, columns), `sequences` of gradients, and `cases`: options
of the program as text, the sequence, the updates after which iterates are kept, which iterates. optimizers.safetensors:

    start, normal, rank1      (E), (UPDATES, E) weights and gradients, all parameters one behind the other; float32
    zeros, scaled, tiny       (1 + UPDATES, params) factors of start and `normal`, powers of 2 or 0; float32
    CASE                      (updates kept, iterates, E) float64; e is the readout
    CASE.scalars              (UPDATES, 4) float64: eta, c, b of the next y, stretch; of the route of matrices,
                              where the sequence is `normal`
"""

import json
import math
import pathlib
import sys
from fnmatch import fnmatch

import numpy as np
from safetensors.numpy import save

import optimizers_engine as engine

UPDATES = 50

PARAMS = [                                              # name, kind, rows of the parts, columns
    ("square", "matrix", {"": 6}, 6),
    ("tall", "matrix", {"": 12}, 5),
    ("wide", "matrix", {"": 4}, 12),
    ("qkv", "matrix", {"q": 6, "k": 3, "v": 3}, 6),
    ("mlp_in", "matrix", {"gate": 4, "up": 4}, 6),
    ("table", "table", {"": 7}, 6),
    ("vector", "vector", {"": 9}, 1),
]

# The program's name of a hyperparameter: the engine's.
HYPER = {"lr": "lr", "weight_decay": "decay", "momentum": "mu", "ramp_steps": "ramp", "precondition_every": "every",
         "precondition_max": "max_dimension", "precondition_shift": "shift", "ns": "polynomial", "ns_steps": "steps",
         "ns_safety": "safety", "ns_match": "match", "interpolation": "b", "average_by": "weight_by",
         "average_lr_power": "p", "average_step_power": "r", "average_boost": "C", "average_weight": "c",
         "ns_coefficients": "polynomial"}
INTEGERS = ("ramp_steps", "precondition_every", "precondition_max", "ns_steps")
SCHEDULE = {"gpa": "cosine", "adamx": "inverse_sqrt"}   # of recipes; else cosine, or constant where they average

# ---- cases ----

FAST = {"lr": "0.01", "weight_decay": "0.5", "warmup_steps": "10", "schedule": "constant", "clip": "0"}
FULL = (1, 12, 50)


def case(recipe, sequence="normal", updates=FULL, iterates=None, label="", **options):
    """A case whose name tells its options apart. Options of sections: matrix__lr is optim.matrix.lr."""
    base = FAST | {"lr": {"sgd": "0.05", "sf_sgd": "0.1", "lion": "0.003", "signum": "0.003"}.get(recipe, "0.01")}
    given = {k: v for k, v in (base | options).items() if v is not None}
    told = [label] if label else [f"{k}={v}" for k, v in options.items() if v is not None]
    averages = any(engine.RECIPES[r].average is not engine.average_none for r in (recipe, rest_of(recipe, given)))
    return dict(name=" ".join([recipe, *told, *([] if sequence == "normal" else [sequence])]).replace("__", "."),
                sequence=sequence, updates=list(updates), iterates=list(iterates or ("xz" if averages else "z")),
                options={"optim." + k.replace("__", "."): v for k, v in ({"name": recipe} | given).items()})


def rest_of(recipe, options):
    return options.get("other__name") or engine.RECIPES[recipe].rest or recipe


def defaults(recipe):
    """Nothing but the name: every default counts."""
    return case(recipe, updates=(UPDATES,), label="defaults", **{k: None for k in FAST} | {"clip": "0"})


KELLER5 = "3.4445 -4.7750 2.0315; 3.4445 -4.7750 2.0315; 2 -1.5 0.5"
GROUPS = ["table lr=0.5 weight_decay=0", "qkv lr=2", "qkv.k lr=3", "vector weight_decay=2", "table weight_decay=3",
          "t?ll weight_decay=4", "matrix lr=2", "q*.v lr=0.25"]
DECAYS = ("linear", "sqrt", "1-sqrt", "square", "cosine", "exp")
ROWS = ("sgd", "adamw", "signum", "lion", "ademamix", "mars", "muon", "normuon", "sf_adamw", "sf_adamw_mean",
        "sf_adamw_refined", "sf_sgd", "sf_muon", "sf_normuon", "gpa", "amuse", "adamx")


def all_cases():
    yield from (defaults(r) for r in engine.RECIPES if not r.endswith("_rest"))
    yield from (case(r) for r in engine.RECIPES if not r.endswith("_rest"))
    yield from (case(r, s, (UPDATES,)) for s in ("zeros", "scaled", "rank1") for r in ROWS)
    yield from (case(r, nesterov=v) for r, v in
                (("sgd", "true"), ("signum", "true"), ("muon", "false"), ("normuon", "false"), ("sf_normuon", "true")))
    yield from (case(r, epsilon="0") for r in ("adam", "sf_adamw"))
    yield from (case("ademamix", ramp_steps=n, beta3="0.99") for n in ("0", "30"))
    yield from (case("soap", **o) for o in (
        dict(precondition_shift="0.001", precondition_every="3"), dict(precondition_every="4"),
        dict(precondition_max="5", shampoo_beta="0.9")))
    yield from (case("muon", updates=(2, 50), ns=n)
                for n in ("you5", "polar5", "cubic5", "taylor:1", "taylor:3", "exact"))
    yield from (case("muon", updates=(2, 50), **o) for o in (
        dict(ns_steps="3"), dict(ns="taylor:2", ns_steps="7"), dict(ns_match="true"), dict(ns_safety="1.25"),
        dict(label="custom", ns="custom", ns_coefficients=KELLER5), dict(compat="official"), dict(scale="keller"),
        dict(scale="spectral"), dict(scale="rms"), dict(momentum="0")))
    yield from (case("muon", s, (UPDATES,), compat="official") for s in ("scaled", "tiny"))
    yield from (case(r, "tiny", (UPDATES,)) for r in ("muon", "normuon", "sf_normuon", "amuse"))
    yield case("adam", "tiny", (UPDATES,), epsilon="0")
    yield from (case("sf_adamw", **o) for o in (
        dict(average_step_power="1", average_lr_power="1", interpolation="0.98"), dict(schedule="cosine"),
        dict(schedule="cosine", average_by="now"), dict(interpolation="0"), dict(interpolation="1"),
        dict(warmup_steps="0")))
    yield from (case("sf_adamw_refined", **o) for o in (
        dict(average_boost="50"), dict(interpolation="0.9", average_boost="3", schedule="linear")))
    yield from (case("amuse", beta_schedule=s, compat=c) for s in ("formula", "weightsum", "const")
                for c in ("exact", "official"))
    yield from (case("amuse", schedule="cosine", compat=c, beta_schedule=s)
                for s, c in (("weightsum", "exact"), ("weightsum", "official"), ("formula", "exact")))
    yield case("amuse", average_step_power="1", average_lr_power="1", rho="1", warmup_steps="2")
    yield case("amuse", matrix__lr="0.02", other__weight_decay="0.25", average_by="largest", schedule="wsd")
    yield from (case("gpa", **o) for o in (dict(average_weight="0.1", interpolation="0.5"), dict(schedule="cosine")))
    yield from (case("adamx", **o) for o in (
        dict(schedule=None, warmup_steps="0", bias_correction="true"), dict(schedule="inverse_sqrt"),
        dict(beta1_decay="0.9", bias_correction="true"), dict(beta1_decay="0.99")))
    yield from (case("mars", clip="1", **o) for o in (dict(), dict(gamma="0.5")))
    yield case("adamw", clip="0.5")
    yield case("muon", clip="0.5", other__name="lion", other__lr="0.001", matrix__momentum="0.8")
    yield case("sf_muon", other__name="adamw", updates=(50,))
    yield from (case(r, updates=(2, 50), label="groups", groups=json.dumps(GROUPS))
                for r in ("adamw", "amuse", "lion", "sf_adamw", "muon"))
    yield from (case(r, iterates="e", **o) for r in ("adamw", "amuse") for o in (
        dict(readout="ema", readout_start="7", readout_every="4", readout_decay="0.8"), dict(readout="ema"),
        dict(readout="tail"), dict(readout="tail", readout_start="11")))
    yield from (case("adamw", updates=(), schedule=s, final_lr="0.2")
                for s in ("linear", "cosine", "trapezoid"))
    yield case("adamw", updates=(), schedule="inverse_sqrt")
    yield from (case("adamw", updates=(), schedule="wsd", decay_shape=s, decay_fraction="0.5", final_lr="0.05")
                for s in DECAYS)


# ---- options of the program, for the engine ----

def factor_of(o, recipe):
    """The learning rate's curve: t / warmup, then the curve on what is left of the run."""
    averages = engine.RECIPES[recipe].average is not engine.average_none
    kind = o.get("schedule") or SCHEDULE.get(recipe) or ("constant" if averages else "cosine")
    warmup, final = int(o.get("warmup_steps", 2)), float(o.get("final_lr", 0.1))
    share = float(o.get("decay_fraction", 0.2))
    shape = {"linear": lambda q: q, "sqrt": math.sqrt, "1-sqrt": lambda q: 1 - math.sqrt(1 - q),
             "square": lambda q: q * q, "cosine": lambda q: (1 - math.cos(math.pi * q)) / 2,
             "exp": None}[o.get("decay_shape", "linear")]

    def factor(t):
        t = min(t, UPDATES)
        if t <= warmup:
            return t / warmup
        done = (t - warmup) / (UPDATES - warmup)
        if kind == "inverse_sqrt":
            return math.sqrt(max(warmup, 1) / t)
        if kind in ("wsd", "trapezoid"):
            left = min(1.0, (UPDATES - t) / (share * UPDATES))
            return final + (1 - final) * shape(left) if shape else final ** (1 - left)
        return {"constant": 1.0, "linear": 1 - (1 - final) * done,
                "cosine": final + (1 - final) * (1 + math.cos(math.pi * done)) / 2}[kind]
    return factor, warmup


def value_of(name, text):
    if name == "ns_coefficients":
        return [tuple(float(a) for a in step.split()) for step in text.split(";")]
    if text in ("true", "false"):
        return text == "true"
    try:
        return int(text) if name in INTEGERS else float(text)
    except ValueError:
        return text


def hyper_of(row, given, warmup):
    """The row's defaults and what is given, by the engine's names."""
    own = dict(engine.RECIPES[row].hyper) | dict(warmup=warmup)
    if "ramp" in own:
        own["ramp"] = UPDATES
    for name, text in given.items():
        if name == "compat" and text == "official" and "ns_epsilon" in own:
            own |= dict(ns_epsilon=1e-7, ns_epsilon_mode="plus")
        if HYPER.get(name, name) in own and not (name == "ns" and text == "custom"):
            own[HYPER.get(name, name)] = value_of(name, text)
    return own


def pieces():
    """name, kind, parameter, range in the flat numbers, shape"""
    at = 0
    for name, kind, parts, columns in PARAMS:
        for part, rows in parts.items():
            shape = (rows,) if kind == "vector" else (rows, columns)
            yield name + ("." + part if part else ""), kind, name, slice(at, at + rows * columns), shape
            at += rows * columns


def multipliers(options):
    found = {piece[0]: [1.0, 1.0] for piece in pieces()}
    for rule in json.loads(options.get("groups", '["vector weight_decay=0"]')):
        which, *settings = rule.split()
        for name, kind, whole, *_ in pieces():
            if kind == which or fnmatch(name, which) or fnmatch(whole, which):
                for key, _, value in (s.partition("=") for s in settings):
                    found[name][key == "weight_decay"] = float(value)
    return found


def cut(flat):
    return {name: flat[where].reshape(shape) for name, _, _, where, shape in pieces()}


def joined(tensors):
    return np.concatenate([np.ravel(a) for a in tensors.values()])


def clipped(flat, most):
    norm = np.linalg.norm(flat)
    return flat * (most / norm) if most and norm > most else flat


def replayed(made, start, gradients, dtype=np.float64):
    """x, z, y after every update, the readout, and the scalars of the matrices' row."""
    sections = {"": {}, "matrix": {}, "other": {}}
    for key, text in made["options"].items():
        section, _, name = key.removeprefix("optim.").rpartition(".")
        sections[section][name] = text
    o = sections[""]
    recipe, rest = o["name"], rest_of(o["name"], {"other__name": sections["other"].pop("name", None)})
    factor, warmup = factor_of(o, recipe)
    hyper = hyper_of(recipe, o | sections["matrix"], warmup)
    if rest != recipe:
        engine.RECIPES["of this case"] = engine.replace(engine.RECIPES[recipe], rest=rest)
        recipe = "of this case"
    run = engine.Engine(recipe, cut(start), kinds={n: "matrix" if k == "matrix" else "rest" for n, k, *_ in pieces()},
                        schedule=factor, dtype=dtype, multipliers=multipliers(o),
                        rest=hyper_of(rest, o | sections["other"], warmup) if rest != recipe else None, **hyper)
    steps, scalars, before = [], [], 0.0
    for t, g in enumerate(gradients, 1):
        run.step(cut(clipped(g, float(o["clip"]))))
        s = run.scalars[recipe]
        official = hyper.get("compat") == "official" and t > 1
        scalars.append((s["eta"], s["c"], s["b"], before / s["b"] if official else 1.0))
        before = s["b"]
        steps.append(dict(x=run.x, z={n: a.copy() for n, a in run.z.items()}, y=run.y))
    if "readout" in o:
        e = engine.readout(steps, o["readout"], int(o.get("readout_start", 0)), int(o.get("readout_every", 10)),
                           float(o.get("readout_decay", 0.95)))
        steps = [s | dict(e=a) for s, a in zip(steps, e)]
    return steps, np.array(scalars)


# ---- sequences ----

def make_sequences():
    rng = np.random.default_rng(3)
    elements = sum(where.stop - where.start for *_, where, _ in pieces())
    start = (rng.normal(size=elements) / 3).astype(np.float32)
    sizes = 2.0 ** rng.integers(-6, 1, size=(UPDATES, len(list(pieces()))))     # norms below and above 1
    normal, rank1 = np.zeros((UPDATES, elements), np.float32), np.zeros((UPDATES, elements), np.float32)
    for i, (*_, where, shape) in enumerate(pieces()):
        for t in range(UPDATES):
            normal[t, where] = rng.normal(size=where.stop - where.start) * sizes[t, i]
            if t % 10 == 0:                                                     # a new direction now and then
                u, v = (np.round(rng.normal(size=n) * 256) / 256 for n in (shape[0], shape[-1]))
            one = np.outer(u, v).ravel() if len(shape) == 2 else u
            rank1[t, where] = one * float(rng.choice([-1, 1, 2, 4])) * 0.125     # exact in float32
    return start, normal, rank1, *make_factors()


def make_factors():
    """Tensors whose gradient is zero, for a while or for good; gradients between 1e-15 and 1e15; all of 1e-15."""
    names = [name for name, *_ in PARAMS]
    zeros, scaled, tiny = (np.ones((1 + UPDATES, len(names)), np.float32) for _ in range(3))
    zeros[1:4] = 0                                      # nothing moves at first
    zeros[:, names.index("wide")] = 0                   # a projection that starts at zero and stays there
    zeros[0, names.index("square")] = 0
    zeros[1:20, names.index("qkv")] = 0
    zeros[15:, names.index("vector")] = 0
    zeros[10:14, names.index("tall")] = 0
    zeros[::3, names.index("table")] = 0
    for i in range(len(names)):
        for t in range(1, 1 + UPDATES):
            scaled[t, i] = 2.0 ** (0, 25, 50, 20, -15, -50, -48)[(t // 6 + i) % 7]
    tiny[1:] = 2.0 ** -50
    return zeros, scaled, tiny


# ---- the whole file ----

def main(folder):
    for name, scale in list(engine.SCALES.items()):     # the program keeps them in float32
        engine.SCALES[name] = lambda rows, columns, scale=scale: float(np.float32(scale(rows, columns)))
    start, normal, rank1, zeros, scaled, tiny = make_sequences()
    columns = np.concatenate([np.full(sum(p.values()) * c, i) for i, (_, _, p, c) in enumerate(PARAMS)])
    sequences = {"normal": (None, normal), "rank1": (None, rank1), "zeros": (zeros, normal), "scaled": (scaled, normal),
                 "tiny": (tiny, normal)}
    tensors = dict(start=start, normal=normal, rank1=rank1, zeros=zeros, scaled=scaled, tiny=tiny)
    cases = list(all_cases())
    for made in cases:
        factors, gradients = sequences[made["sequence"]]
        many = np.ones((1 + UPDATES, len(start))) if factors is None else factors[:, columns].astype(float)
        first, g = start * many[0], gradients * many[1:]
        steps, scalars = replayed(made, first, g)
        single, _ = replayed(made, first, g, np.float32)
        tensors[made["name"]] = np.array([[joined(steps[k - 1][i]) for i in made["iterates"]] for k in made["updates"]])
        if not made["updates"]:
            del tensors[made["name"]]
        if made["sequence"] == "normal":
            tensors[made["name"] + ".scalars"] = scalars
        worst = max(np.linalg.norm(a - b) / max(np.linalg.norm(b), 1e-300) if np.any(a) or np.any(b) else 0.0
                    for n in steps[-1]["x"] for a, b in [(single[-1]["x"][n], steps[-1]["x"][n])])
        moved = min(np.linalg.norm(steps[-1]["x"][n] - a) / max(np.linalg.norm(a), 1e-300)
                    for n, a in cut(first).items())
        print(f"{made['name']:60s} float32 {worst:7.1e}, moved at least {moved:7.1e}")
    assert len({made["name"] for made in cases}) == len(cases)
    about = dict(updates=UPDATES,
                 params=[dict(name=n, kind=k, columns=c, parts=p) for n, k, p, c in PARAMS],
                 sequences={n: dict(gradients="rank1" if n == "rank1" else "normal",
                                    factors="" if f is None else n) for n, (f, _) in sequences.items()},
                 cases=cases)
    folder.mkdir(parents=True, exist_ok=True)
    lines = ",\n".join("  " + json.dumps(made) for made in about.pop("cases"))
    (folder / "optimizers.json").write_text(json.dumps(about)[:-1] + ', "cases": [\n' + lines + "\n]}\n")
    (folder / "optimizers.safetensors").write_bytes(save(tensors))


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "tests/fixtures"))
