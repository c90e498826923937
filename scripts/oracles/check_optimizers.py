#!/usr/bin/env python3
"""Compares optimizers_engine.py with public programs, all in float64, their rounding to bf16 and float32 taken out.

Two-layer regression with minibatch noise, 100 updates; each side takes gradients where it is itself. Prints a table in
Markdown: row, public code, its version, updates, and the largest deviation of any element of x or y after any update.
Status 1 where one is larger than is known. Needs requirements.txt:

    python scripts/oracles/check_optimizers.py [ROW...]
"""

import contextlib
import importlib.metadata
import os
import sys
from unittest import mock

os.environ["JAX_PLATFORMS"] = "cpu"

import jax
import numpy as np
import optax
import pytorch_optimizer
import schedulefree
import torch

from check_optimizer_rows import problem
from optimizers_engine import Engine, eigenbasis

jax.config.update("jax_enable_x64", True)
torch.set_default_dtype(torch.float64)
torch.set_num_threads(1)

UPDATES = 100
MATRICES, VECTORS = ("A", "B"), ("v",)


# ---- public programs ----

class Torch:
    """Optimizers of torch.optim's shape. `make` gets the parameters by name and returns a list of them."""

    def __init__(self, start, make, factor):
        self.p = {n: torch.nn.Parameter(torch.tensor(a)) for n, a in start.items()}
        self.optimizers, self.factor = make(self.p), factor
        self.rates = [[g["lr"] for g in o.param_groups] for o in self.optimizers]
        self.turn("train")

    def turn(self, mode):
        with contextlib.redirect_stdout(None):
            for o in self.optimizers:
                if hasattr(o, mode):
                    getattr(o, mode)()

    def numbers(self):
        return {n: a.detach().numpy().copy() for n, a in self.p.items()}

    def step(self, t, gradients):
        for n, g in gradients.items():
            self.p[n].grad = torch.tensor(g)
        for optimizer, rates in zip(self.optimizers, self.rates):
            for group, rate in zip(optimizer.param_groups, rates):
                group["lr"] = rate * self.factor(t)
            with mock.patch.multiple(torch, bfloat16=torch.float64, float32=torch.float64):
                optimizer.step()
        y = self.numbers()
        self.turn("eval")
        x = self.numbers()
        self.turn("train")
        return x, y


class Optax:
    """A GradientTransformation, which `make` returns for a schedule."""

    def __init__(self, start, make, factor):
        self.p, self.chain = {n: jax.numpy.array(a) for n, a in start.items()}, make(factor)
        self.state, self.update = self.chain.init(self.p), jax.jit(self.chain.update)

    def step(self, t, gradients):
        updates, self.state = self.update(gradients, self.state, self.p)
        self.p = optax.apply_updates(self.p, updates)
        y = {n: np.array(a) for n, a in self.p.items()}
        if hasattr(self.state, "z"):
            x = optax.contrib.schedule_free_eval_params(self.state, self.p)
            return {n: np.array(a) for n, a in x.items()}, y
        return y, y


def rates(lr, factor):
    """optax counts from 0."""
    values = lr * jax.numpy.array([factor(t) for t in range(1, UPDATES + 2)])
    return lambda k: values[k]


def turned_muon(**options):
    """optax takes (inputs, outputs), ours are (outputs, inputs); and its epsilon is also that of its Adam."""
    shape = optax.contrib.MuonDimensionNumbers(reduction_axis=1, output_axis=0)
    return lambda factor: optax.contrib.muon(
        rates(0.02, factor), weight_decay=0.5, eps=1e-30, adam_b1=0.8, adam_weight_decay=0.5,
        muon_weight_dimension_numbers=dict.fromkeys(MATRICES, shape) | dict.fromkeys(VECTORS), **options)


def chosen(p, names):
    return [p[n] for n in names]


def with_adamw(first, lr, betas):
    """Matrices to the one, the vector to torch's AdamW."""
    return lambda p: [first(chosen(p, MATRICES)),
                      torch.optim.AdamW(chosen(p, VECTORS), lr=lr, betas=betas, eps=1e-8, weight_decay=0.5)]


class Soap(pytorch_optimizer.SOAP):
    """With our choice of a basis in null spaces, which eigh leaves to rounding."""

    @staticmethod
    def get_orthogonal_matrix(mat):
        return [torch.tensor(eigenbasis(m.numpy())) for m in mat]


def muon_groups(p, **options):
    return [dict(params=chosen(p, MATRICES), use_muon=True, lr=0.02, weight_decay=0.5, **options),
            dict(params=chosen(p, VECTORS), use_muon=False, lr=0.02, betas=(0.8, 0.999), eps=1e-8, weight_decay=0.5)]


def plain_pytorch_optimizer():
    """Its bf16 is the default of an argument; so is 1e-15 that is added to second moments under the root."""
    from pytorch_optimizer.base.optimizer import BaseOptimizer
    from pytorch_optimizer.optimizer.utils.matrix import zero_power_via_newton_schulz_5 as newton_schulz
    newton_schulz.__defaults__ = tuple(torch.float64 if d is torch.bfloat16 else d for d in newton_schulz.__defaults__)
    for f in (BaseOptimizer.apply_ams_bound, BaseOptimizer.apply_ams_bound_foreach):
        f.__defaults__ = (0.0,)


def slow_ramp(alpha, beta1, beta3, ramp):
    """The published ramps of AdEMAMix as schedules of optax, where count 0 is update 1."""
    def half_life(b):
        return np.log(0.5) / np.log(b + 1e-8) - 1

    part = jax.numpy.minimum(jax.numpy.arange(1, UPDATES + 2) / ramp, 1)
    b3 = 0.5 ** (1 / ((1 - part) * half_life(beta1) + part * half_life(beta3) + 1))
    return dict(alpha=lambda k: alpha * part[k], b3=lambda k: jax.numpy.where(part[k] < 1, b3[k], beta3))


# ---- rows ----

def constant(t):
    return 1.0


def warm(t):
    return min(1.0, t / 20)


def cosine(t):
    return 0.1 + 0.45 * (1 + np.cos(np.pi * t / UPDATES))


PO, SF, O = pytorch_optimizer, schedulefree, optax
DECAY = dict(lr=0.01, decay=0.5)
FREE = dict(lr=0.01, decay=0.5, warmup=20)

# row, what is compared, options of the engine, schedule, public side; a deviation that is known, else 1e-12
ROWS = [
    ("sgd", "torch.optim.SGD, momentum", dict(lr=0.05), cosine, Torch,
     lambda p: [torch.optim.SGD(p.values(), lr=0.05, momentum=0.9)]),
    ("sgd", "torch.optim.SGD, Nesterov", dict(lr=0.05, nesterov=True), constant, Torch,
     lambda p: [torch.optim.SGD(p.values(), lr=0.05, momentum=0.9, nesterov=True)]),
    ("sgd", "optax.sgd, Nesterov", dict(lr=0.05, nesterov=True), warm, Optax,
     lambda f: O.sgd(rates(0.05, f), momentum=0.9, nesterov=True)),
    ("adam", "torch.optim.Adam", dict(lr=0.01), warm, Torch, lambda p: [torch.optim.Adam(p.values(), lr=0.01)]),
    ("adamw", "torch.optim.AdamW", DECAY, warm, Torch,
     lambda p: [torch.optim.AdamW(p.values(), lr=0.01, betas=(0.9, 0.95), weight_decay=0.5)]),
    ("adamw", "optax.adamw", DECAY, cosine, Optax, lambda f: O.adamw(rates(0.01, f), b2=0.95, weight_decay=0.5)),
    ("signum", "pytorch_optimizer.SignSGD", dict(lr=0.003, decay=0.5), warm, Torch,
     lambda p: [PO.SignSGD(p.values(), lr=0.003, weight_decay=0.5)]),
    ("lion", "pytorch_optimizer.Lion", dict(lr=0.003, decay=0.5), warm, Torch,
     lambda p: [PO.Lion(p.values(), lr=0.003, weight_decay=0.5)]),
    ("lion", "optax.lion", dict(lr=0.003, decay=0.5), warm, Optax,
     lambda f: O.lion(rates(0.003, f), weight_decay=0.5)),
    ("ademamix", "pytorch_optimizer.AdEMAMix, no ramp", DECAY, warm, Torch,
     lambda p: [PO.AdEMAMix(p.values(), lr=0.01, alpha=8.0, weight_decay=0.5, weight_decouple=True)]),
    ("ademamix", "optax.contrib.ademamix, the authors' ramps", dict(DECAY, beta3=0.999, ramp=60), warm, Optax,
     lambda f: O.contrib.ademamix(rates(0.01, f), weight_decay=0.5, **slow_ramp(8.0, 0.9, 0.999, 60))),
    ("ademamix", "pytorch_optimizer.AdEMAMix, ramp of 60", dict(DECAY, beta3=0.999, ramp=60), warm, Torch,
     lambda p: [PO.AdEMAMix(p.values(), lr=0.01, betas=(0.9, 0.999, 0.999), alpha=8.0, t_alpha_beta3=60,
                            weight_decay=0.5, weight_decouple=True)], 0.1),
    ("mars", "pytorch_optimizer.MARS", dict(DECAY, epsilon=0.0, rest=dict(epsilon=1e-8)), warm, Torch,
     with_adamw(lambda p: PO.MARS(p, lr=0.01, weight_decay=0.5, eps=0.0), 0.01, (0.9, 0.95))),
    ("soap", "pytorch_optimizer.SOAP, the basis handed over", DECAY, warm, Torch,
     with_adamw(lambda p: Soap(p, lr=0.01, betas=(0.95, 0.95), shampoo_beta=0.95, weight_decay=0.5,
                               precondition_frequency=10), 0.01, (0.9, 0.95)), 1e-9),
    ("muon", "torch.optim.Muon, original scale", dict(lr=0.02, decay=0.5, scale="keller"), warm, Torch,
     with_adamw(lambda p: torch.optim.Muon(p, lr=0.02, weight_decay=0.5, eps=1e-30), 0.02, (0.8, 0.999))),
    ("muon", "torch.optim.Muon, match_rms_adamw", dict(lr=0.02, decay=0.5), warm, Torch,
     with_adamw(lambda p: torch.optim.Muon(p, lr=0.02, weight_decay=0.5, eps=1e-30, adjust_lr_fn="match_rms_adamw"),
                0.02, (0.8, 0.999))),
    ("muon", "torch.optim.Muon, no Nesterov", dict(lr=0.02, decay=0.5, nesterov=False), warm, Torch,
     with_adamw(lambda p: torch.optim.Muon(p, lr=0.02, weight_decay=0.5, eps=1e-30, nesterov=False,
                                           adjust_lr_fn="match_rms_adamw"), 0.02, (0.8, 0.999))),
    ("muon", "pytorch_optimizer.Muon", dict(lr=0.02, decay=0.5, scale="keller"), warm, Torch,
     lambda p: [PO.Muon(muon_groups(p))]),
    ("muon", "optax.contrib.muon, you5, no Nesterov",
     dict(lr=0.02, decay=0.5, scale="keller", nesterov=False, polynomial="you5", rest=dict(epsilon=1e-30)), warm, Optax,
     turned_muon(nesterov=False, ns_coeffs="dion")),
    ("muon", "optax.contrib.muon, Nesterov", dict(lr=0.02, decay=0.5, rest=dict(epsilon=1e-30)), warm, Optax,
     turned_muon(consistent_rms=0.2), 0.1),
    ("normuon", "pytorch_optimizer.NorMuon", dict(lr=0.02, decay=0.5, scale="keller"), warm, Torch,
     lambda p: [PO.NorMuon(muon_groups(p))]),
    ("sf_sgd", "schedulefree.SGDScheduleFree", dict(lr=0.1, decay=0.05, warmup=20), warm, Torch,
     lambda p: [SF.SGDScheduleFree(p.values(), lr=0.1, weight_decay=0.05, warmup_steps=20)]),
    ("sf_sgd", "schedulefree.SGDScheduleFreeReference", dict(lr=0.1, r=1.0, p=1.0), constant, Torch,
     lambda p: [SF.SGDScheduleFreeReference(p.values(), lr=0.1, r=1.0, weight_lr_power=1.0)]),
    ("sf_adamw", "schedulefree.AdamWScheduleFree", FREE, warm, Torch,
     lambda p: [SF.AdamWScheduleFree(p.values(), lr=0.01, weight_decay=0.5, warmup_steps=20)]),
    ("sf_adamw", "schedulefree.AdamWScheduleFree, r 1, b 0.98", dict(lr=0.01, r=1.0, b=0.98), constant, Torch,
     lambda p: [SF.AdamWScheduleFree(p.values(), lr=0.01, betas=(0.98, 0.999), r=1.0)]),
    ("sf_adamw", "schedulefree.AdamWScheduleFreeReference", FREE, warm, Torch,
     lambda p: [SF.AdamWScheduleFreeReference(p.values(), lr=0.01, weight_decay=0.5, warmup_steps=20)]),
    ("sf_adamw", "schedulefree.AdamWScheduleFreePaper", FREE, warm, Torch,
     lambda p: [SF.AdamWScheduleFreePaper(p.values(), lr=0.01, weight_decay=0.5, warmup_steps=20)], 1.0),
    ("sf_adamw", "optax.contrib.schedule_free over rms, cosine", DECAY, cosine, Optax,
     lambda f: O.contrib.schedule_free(O.chain(O.scale_by_rms(0.999, 1e-8, eps_in_sqrt=False, bias_correction=True),
                                               O.add_decayed_weights(0.5), O.scale_by_learning_rate(rates(0.01, f))),
                                       lambda k: rates(0.01, f)(k - 1))),
    ("sf_adamw", "pytorch_optimizer.ScheduleFreeAdamW", dict(FREE, epsilon=0.0), warm, Torch,
     lambda p: [PO.ScheduleFreeAdamW(p.values(), lr=0.01, weight_decay=0.5, warmup_steps=20, eps=0.0)]),
    ("sf_adamw_refined", "pytorch_optimizer.ScheduleFreeAdamW, C 50", dict(FREE, C=50.0, epsilon=0.0), warm, Torch,
     lambda p: [PO.ScheduleFreeAdamW(p.values(), lr=0.01, betas=(0.95, 0.999), weight_decay=0.5, warmup_steps=20,
                                     decoupling_c=50, eps=0.0)]),
]
OWN_WARMUP = ("sf_adamw", "sf_sgd", "sf_adamw_refined")     # of torch's shape: these count it themselves


def deviation(row, label, options, factor, side, make):
    start, grad = problem()
    engine = Engine(row, start, schedule=factor, **options)
    public = side(start, make, constant if row in OWN_WARMUP and side is Torch else factor)
    worst, y = 0.0, start
    for t in range(1, UPDATES + 1):
        engine.step(grad(t, engine.y)[1])
        x, y = public.step(t, grad(t, y)[1])
        for ours, theirs in ((engine.x, x), (engine.y, y)):
            worst = max(worst, *(float(np.abs(ours[n] - theirs[n]).max()) for n in start))
    return worst


def main(names):
    failures = 0
    plain_pytorch_optimizer()
    print("| recipe | public code | version | updates | largest deviation |\n|---|---|---|---|---|")
    for row, label, options, factor, side, make, *known in ROWS:
        if names and row not in names:
            continue
        worst, most = deviation(row, label, options, factor, side, make), known[0] if known else 1e-12
        failures += not worst <= most
        version = importlib.metadata.version(label.split(".")[0].replace("_", "-"))
        note = "" if worst <= most else " FAILED"
        print(f"| {row} | {label} | {version} | {UPDATES} | {worst:.0e} |{note}", flush=True)
    print(f"\n{failures} failed")
    return failures


if __name__ == "__main__":
    sys.exit(1 if main(sys.argv[1:]) else 0)
