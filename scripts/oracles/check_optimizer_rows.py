#!/usr/bin/env python3
"""Compares the engine of optimizers_engine.py with the direct forms of optimizers_direct.py, and checks what holds for
any implementation: exact continuation, cutting of tensors, relations between rows. Needs numpy.

    python3 scripts/oracles/check_optimizer_rows.py [ROW...]      a few seconds; status 1 where something fails
"""

import math
import sys
from types import SimpleNamespace

import numpy as np

from optimizers_direct import (adamcb_adamx, adamw, apple_ademamix, authors_normuon, keller_muon, lion_in_place,
                               mars_adamw, moonlight, paper_amuse, paper_gpa, paper_sf_normuon, released_amuse,
                               rotated_soap, sgd, summed_signum, two_sequences)
from optimizers_engine import (NEWTON_SCHULZ, NORM_FACTOR, RECIPES, Engine, adam, average_weighted, blend_amuse,
                               eigenbasis, newton_schulz, readout, taylor, warmup_constant)


def problem(size=1.0, outputs=5, hidden=12, inputs=8, samples=256, batch=16):
    """Two-layer regression: A 12 x 8 (tall), B 5 x 12 (wide), v 12. grad(t, p) draws minibatch t; size scales the
    gradients."""
    rng = np.random.default_rng(0)
    data = rng.normal(size=(samples, inputs))
    target = np.tanh(data @ rng.normal(size=(inputs, 20))) @ rng.normal(size=(20, outputs)) / 3.0
    target += 0.3 * rng.normal(size=target.shape)
    start = {"A": rng.normal(size=(hidden, inputs)) / 3.0, "B": rng.normal(size=(outputs, hidden)) / 4.0,
             "v": rng.normal(size=hidden) / 10.0}

    def grad(t, p):
        pick = np.random.default_rng(1000 + t).integers(samples, size=batch)
        h = np.tanh(data[pick] @ p["A"].T + p["v"])
        error = (h @ p["B"].T - target[pick]) * size / batch
        back = (error @ p["B"]) * (1.0 - h * h)
        loss = 0.5 * float((error ** 2).sum()) * batch / size
        return loss, {"A": back.T @ data[pick], "B": error.T @ h, "v": back.sum(0)}

    return start, grad


PLUS = dict(ns_epsilon=1e-7, ns_epsilon_mode="plus")        # the direct forms add the published 1e-7 to the norm
CHECKS = [                                                  # row, direct form, hyperparameters, factor of the gradients
    ("sgd", sgd, dict(lr=0.05, decay=0.01, warmup=20)),
    ("sgd", sgd, dict(lr=0.05, decay=0.01, nesterov=True)),
    ("adam", adamw, dict(lr=0.01, warmup=20)),
    ("adam", adamw, dict(lr=0.01, epsilon=0.0)),
    ("adamw", adamw, dict(lr=0.01, decay=0.5, warmup=20)),
    ("signum", summed_signum, dict(lr=0.003, decay=0.5, warmup=20)),
    ("signum", summed_signum, dict(lr=0.003, mu=0.95, nesterov=True)),
    ("lion", lion_in_place, dict(lr=0.003, decay=0.5, warmup=20)),
    ("ademamix", apple_ademamix, dict(lr=0.003, beta3=0.999, ramp=120, decay=0.5, warmup=20)),
    ("mars", mars_adamw, dict(lr=0.01, decay=0.5, warmup=20)),
    ("mars", mars_adamw, dict(lr=0.01, decay=0.5), 0.2),    # most norms below 1
    ("soap", rotated_soap, dict(lr=0.01, decay=0.5, warmup=20)),
    ("muon", keller_muon, dict(PLUS, lr=0.02, scale="keller", decay=0.5, warmup=20)),
    ("muon", keller_muon, dict(PLUS, lr=0.02, scale="keller", nesterov=False)),
    ("muon", moonlight, dict(scale="moonlight", ns_epsilon=0.05e-7, ns_epsilon_mode="plus", decay=0.5)),
    ("normuon", authors_normuon, dict(PLUS, lr=0.02, scale="keller", decay=0.5, warmup=20)),
    ("sf_adamw", two_sequences, dict(lr=0.01, decay=0.5, warmup=20)),
    ("sf_adamw", two_sequences, dict(lr=0.01, r=1.0, p=1.0, b=0.98)),
    ("sf_adamw_mean", two_sequences, dict(lr=0.01, decay=0.5, warmup=20)),
    ("sf_adamw_refined", two_sequences, dict(lr=0.01, decay=0.5, warmup=20, C=50.0)),
    ("sf_adamw_refined", two_sequences, dict(lr=0.01, b=0.9, C=3.0)),
    ("sf_sgd", two_sequences, dict(lr=0.1, decay=0.05, warmup=20)),
    ("sf_muon", released_amuse, dict(PLUS, decay=0.5, warmup=20)),
    ("sf_normuon", paper_sf_normuon, dict(PLUS, decay=0.5, warmup=20)),
    ("gpa", paper_gpa, dict(lr=0.01, decay=0.5, warmup=20)),
    ("amuse", paper_amuse, dict(PLUS, beta_schedule="formula", decay=0.5, warmup=20)),
    ("amuse", paper_amuse, dict(PLUS, beta_schedule="formula", warmup=40, p=0.0, rho=1.0)),
    ("amuse", paper_amuse, dict(PLUS, beta_schedule="weightsum", decay=0.5, warmup=20)),
    ("amuse", paper_amuse, dict(PLUS, beta_schedule="const", decay=0.5, warmup=20)),
    ("amuse", released_amuse, dict(PLUS, beta_schedule="weightsum", compat="official", decay=0.5, warmup=20)),
    ("amuse", released_amuse, dict(PLUS, beta_schedule="formula", compat="official", warmup=20)),
    ("adamx", adamcb_adamx, dict(lr=0.03, beta1_decay=0.99)),
    ("adamx", adamcb_adamx, dict(lr=0.03, bias_correction=True)),
]
TOLERANCE = {"soap": 1e-9}                                  # QR and eigenvectors amplify rounding; all others 1e-12


def compare(name, direct, options, size=1.0, updates=200):
    """Largest deviation of x, z and y over all updates, each side taking its gradients at its own y."""
    start, grad = problem(size)
    engine = Engine(name, start, **options)
    h = SimpleNamespace(**vars(engine.hyper[name]), inner_mean=RECIPES[name].direction is adam)
    h.beta_schedule = getattr(h, "beta_schedule", "const")
    rest = h if engine.row["v"] == name else engine.hyper[engine.row["v"]]
    form, worst = direct(dict(start), grad, h, rest), 0.0
    for t in range(1, updates + 1):
        loss, g = grad(t, engine.y)
        engine.step(g)
        for ours, theirs in zip((engine.x, engine.z, engine.y), next(form)):
            worst = max(worst, *(float(np.abs(ours[n] - theirs[n]).max()) for n in start))
    return worst if math.isfinite(loss) else math.inf


def resumes(name, options, updates=40):
    """The state after half the updates, loaded into a fresh engine, continues bit for bit."""
    start, grad = problem()
    one, two = Engine(name, start, **options), Engine(name, start, **options)
    for t in range(1, updates + 1):
        loss, g = grad(t, one.y)
        one.step(g)
        if t > updates // 2:
            loss, g = grad(t, two.y)
            two.step(g)
        elif t == updates // 2:
            two.load(one.state())
    return all(np.array_equal(a[n], b[n]) for a, b in ((one.x, two.x), (one.z, two.z), (one.y, two.y)) for n in start)


def shards(name, options, updates=30):
    """Change of x when every tensor is cut into two flat pieces: 0 for rows that may be sharded by element."""
    def cut(p):
        return {n + side: part for n, a in p.items() for side, part in zip("01", np.array_split(a.ravel(), 2))}

    start, grad = problem()
    kinds = {n: "matrix" for n in ("A0", "A1", "B0", "B1")}
    whole, pieces = Engine(name, start, **options), Engine(name, cut(start), kinds=kinds, **options)
    for t in range(1, updates + 1):
        loss, g = grad(t, whole.y)
        whole.step(g)
        pieces.step(cut(g))
    return max(float(np.abs(a - pieces.x[n]).max()) for n, a in cut(whole.x).items())


def run(name, **options):
    """x, z, y after each of 60 updates, each as one vector; learning rate 0.01, decay 0.5, warmup 10."""
    start, grad = problem()
    engine, out = Engine(name, start, **dict(lr=0.01, decay=0.5, warmup=10) | options), []
    for t in range(1, 61):
        loss, g = grad(t, engine.y)
        engine.step(g)
        out.append([np.concatenate([a[n].ravel() for n in start]) for a in (engine.x, engine.z, engine.y)])
    return np.array(out)


def ramp_at(update, warmup, b, beta_schedule):
    """AMUSE's b for the gradient of that update."""
    h = SimpleNamespace(**{**RECIPES["amuse"].hyper, "warmup": warmup, "b": b, "beta_schedule": beta_schedule})
    s = dict(W=0.0, eta_max=0.0, ramp=0.0)
    for k in range(1, update):
        c = average_weighted(s, h, k, h.lr * warmup_constant(h, k))
        now = blend_amuse(s, h, k, c, h.lr * warmup_constant(h, k + 1))
    return now


def properties():
    """Statements that hold for any implementation, with their deviations."""
    def gap(a, b):
        return float(np.abs(a - b).max())

    def on_singular_values(preset):
        s = sigma / (NORM_FACTOR.get(preset, 1.0) * np.linalg.norm(sigma))
        for e in NEWTON_SCHULZ.get(preset) or [taylor(int(preset[7:]))] * 5:
            s = sum(a * s ** (2 * j + 1) for j, a in enumerate(e))
        return max(gap(newton_schulz(tall, preset), u * s @ v), gap(newton_schulz(tall.T, preset), (u * s @ v).T))

    def rounding(value, published):
        return max(0.0, abs(value - published) - 5e-5)

    sf, constant, plain = run("sf_adamw"), run("amuse", beta_schedule="const", b=0.9), run("adamw")
    ramps = [run("amuse", beta_schedule=s, p=0.0) for s in ("weightsum", "formula")]
    weights = np.minimum(1.0, np.arange(1, 61) / 10.0)[:, None] ** 2
    c = (weights / np.cumsum(weights, 0))[1:]
    mean_of_z = np.cumsum(weights * sf[:, 1], 0) / np.cumsum(weights, 0)
    mean_of_y = sf[:-1, 0] + c / (0.1 + 0.9 * c) * (sf[1:, 2] - sf[:-1, 0])
    x = [dict(x=dict(w=step[0])) for step in sf]
    ema = sf[19, 0]
    for k in (30, 40, 50, 60):
        ema = 0.95 * ema + 0.05 * sf[k - 1, 0]
    rng = np.random.default_rng(1)
    tall, noise = rng.normal(size=(12, 5)), 1e-13 * rng.normal(size=(12, 12))
    u, sigma, v = np.linalg.svd(tall, full_matrices=False)
    basis = [np.abs(eigenbasis(tall @ tall.T + e)) for e in (0.0, noise + noise.T)]
    return [
        ("x is the eta^2-weighted mean of the z", gap(sf[:, 0], mean_of_z)),
        ("x moves by c / (1 - b + b c) towards y", gap(sf[1:, 0], mean_of_y)),
        ("refined with C = 1 / (1 - b) is sf_adamw", gap(sf, run("sf_adamw_refined", b=0.9, C=10.0))),
        ("gpa with c = 1 is adamw", gap(run("gpa", c=1.0, beta2=0.95)[:, 1], plain[:, 1])),
        ("gpa with b = 0 averages adamw", gap(run("gpa", b=0.0, beta2=0.95)[:, 1], plain[:, 1])),
        ("amuse with rho = 0 has constant b", gap(constant, run("amuse", rho=0.0, b=0.9))),
        ("amuse with constant b is sf_muon", gap(constant, run("sf_muon"))),
        ("weightsum with p = 0 is the formula", gap(*ramps)),
        ("weightsum, T0 2000: b_4000 is 0.8022", rounding(ramp_at(4000, 2000, 0.4, "weightsum"), 0.8022)),
        ("formula, T0 2000: b_16000 is 0.8864", rounding(ramp_at(16000, 2000, 0.4, "formula"), 0.8864)),
        ("ema from 20, every 10", gap(readout(x, "ema", start=20)[-1]["w"], ema)),
        ("tail from 20", gap(readout(x, "tail", start=20)[-1]["w"], sf[20:, 0].mean(0))),
        ("lawa of 3, every 7", gap(readout(x, "lawa", every=7, count=3)[-1]["w"], sf[[41, 48, 55], 0].mean(0))),
        *((f"{preset} acts on the singular values", on_singular_values(preset))
          for preset in ("keller5", "you5", "polar5", "cubic5", "taylor:1", "taylor:3", "taylor:5")),
        ("exact gives the polar factor", gap(newton_schulz(tall, "exact"), u @ v)),
        ("eigenbasis moves < 1e-9 under 1e-13 noise", max(0.0, gap(*basis) - 1e-9)),
    ]


def main(names):
    failures = 0
    print(f"{'row':18s} {'against':26s} {'deviation':>9s}  resume  options")
    for name, direct, options, *size in CHECKS:
        if names and name not in names:
            continue
        worst, exact = compare(name, direct, options, *size), resumes(name, options)
        good = worst < TOLERANCE.get(name, 1e-12) and exact
        failures += not good
        shown = ", ".join(f"{k} {v}" for k, v in options.items() if k not in PLUS)
        print(f"{name:18s} {direct.__name__:26s} {worst:9.1e}  {'exact' if exact else 'BROKEN':6s}  {shown}"
              + ("" if good else "   FAILED"))
    print(f"\n{'row':18s} cutting every tensor into two flat pieces changes x by")
    for name, recipe in RECIPES.items():
        if recipe.shard == "matrix" or names and name not in names:
            continue
        change = shards(name, {k: v for k, v in dict(lr=0.01, decay=0.1, warmup=10).items() if k in recipe.hyper})
        good = {"element": change == 0.0, "tensor": change > 1e-6}[recipe.shard]
        failures += not good
        print(f"{name:18s} {change:7.1e}   shard: {recipe.shard}" + ("" if good else "   FAILED"))
    print()
    for statement, deviation in [] if names else properties():
        failures += not deviation < 1e-12
        print(f"{statement:48s} {deviation:7.1e}" + ("" if deviation < 1e-12 else "   FAILED"))
    print(f"\n{failures} failed")
    return failures


if __name__ == "__main__":
    sys.exit(1 if main(sys.argv[1:]) else 0)
