"""Each optimizer once more, written from its published recurrence in its published shape (in place, two sequences,
inverted average, rotated moments), independent of optimizers_engine.py.

direct(p, grad, h, rest) yields (x, z, y) after every update. p maps names to arrays (matrices and vectors);
grad(t, y) returns (loss, gradients); h and rest are the hyperparameters of the row and of its row for vectors.
"""

import math
from itertools import count

import numpy as np

from optimizers_engine import eigenbasis


class Memory:
    """State of one tensor in a direct form: whatever was not set yet is 0."""

    def __getattr__(self, name):
        return 0.0


def memories(p):
    return {n: Memory() for n in p}


def warm(h, t):
    return h.lr * min(1.0, t / h.warmup) if h.warmup else h.lr


def per_tensor(step):
    """Plain optimizer from step(p, g, s, t, lr, h) -> new p. Vectors of a matrix row take AdamW."""
    def direct(p, grad, h, rest):
        s = memories(p)
        for t in count(1):
            g = grad(t, p)[1]
            p = {n: step(p[n], g[n], s[n], t, warm(h, t), h) if p[n].ndim == 2 or rest is h
                 else adamw.step(p[n], g[n], s[n], t, warm(rest, t), rest) for n in p}
            yield p, p, p

    direct.step, direct.__name__ = step, step.__name__
    return direct


@per_tensor
def sgd(p, g, s, t, lr, h):
    s.m = g if t == 1 else h.mu * s.m + g                   # torch starts the buffer with the first gradient
    return (1.0 - lr * h.decay) * p - lr * (g + h.mu * s.m if h.nesterov else s.m)


@per_tensor
def adamw(p, g, s, t, lr, h):
    """torch: shrink first; step size lr / bias1, denominator sqrt(v) / sqrt(bias2) + epsilon."""
    s.m = s.m + (1.0 - h.beta1) * (g - s.m)
    s.v = h.beta2 * s.v + (1.0 - h.beta2) * g * g
    denominator = np.sqrt(s.v) / math.sqrt(1.0 - h.beta2 ** t) + h.epsilon
    return p * (1.0 - lr * h.decay) - lr / (1.0 - h.beta1 ** t) * s.m / denominator


@per_tensor
def summed_signum(p, g, s, t, lr, h):
    s.m = h.mu * s.m + g
    return p * (1.0 - lr * h.decay) - lr * np.sign(g + h.mu * s.m if h.nesterov else s.m)


@per_tensor
def lion_in_place(p, g, s, t, lr, h):
    p = p * (1.0 - lr * h.decay)
    p = p - lr * np.sign(s.m * h.beta1 + g * (1.0 - h.beta1))
    s.m = s.m * h.beta2 + g * (1.0 - h.beta2)
    return p


@per_tensor
def apple_ademamix(p, g, s, t, lr, h):
    def f(b):
        return math.log(0.5) / math.log(b + 1e-8) - 1.0

    a = min(1.0, t / h.ramp) if h.ramp else 1.0
    b3 = h.beta3 if a == 1.0 else math.pow(0.5, 1.0 / ((1.0 - a) * f(h.beta1) + a * f(h.beta3) + 1.0))
    s.fast = h.beta1 * s.fast + (1.0 - h.beta1) * g
    s.slow = b3 * s.slow + (1.0 - b3) * g
    s.v = h.beta2 * s.v + (1.0 - h.beta2) * g ** 2
    denominator = np.sqrt(s.v) / math.sqrt(1.0 - h.beta2 ** t) + h.epsilon
    return p - lr * ((s.fast / (1.0 - h.beta1 ** t) + h.alpha * a * s.slow) / denominator + h.decay * p)


@per_tensor
def mars_adamw(p, g, s, t, lr, h):
    c = (g - s.last) * (h.gamma * (h.beta1 / (1.0 - h.beta1))) + g
    if np.linalg.norm(c) > 1.0:
        c = c / np.linalg.norm(c)
    s.m = h.beta1 * s.m + (1.0 - h.beta1) * c
    s.v = h.beta2 * s.v + (1.0 - h.beta2) * c * c
    s.last = g
    denominator = (np.sqrt(s.v) / math.sqrt(1.0 - h.beta2 ** t) + h.epsilon) * (1.0 - h.beta1 ** t)
    return p - lr * (h.decay * p + s.m / denominator)


@per_tensor
def rotated_soap(p, g, s, t, lr, h):
    """The authors' present code: the first moment lives in the eigenbasis and is carried over when that changes.
    Only the choice within a null space (eigenbasis) is shared with the engine."""
    outer, inner = np.tensordot(g, g, ([1], [1])), np.tensordot(g, g, ([0], [0]))
    if t > 1:
        turned = s.ql.T @ g @ s.qr
        s.m = h.beta1 * s.m + (1.0 - h.beta1) * turned
        s.v = h.beta2 * s.v + (1.0 - h.beta2) * turned ** 2
        size = lr * math.sqrt(1.0 - h.beta2 ** (t - 1)) / (1.0 - h.beta1 ** (t - 1))
        p = p - size * s.ql @ (s.m / (np.sqrt(s.v) + h.epsilon)) @ s.qr.T
        p = p - lr * h.decay * p
    straight = s.ql @ s.m @ s.qr.T if t > 1 else None
    s.left = s.left + (1.0 - h.shampoo_beta) * (outer - s.left)
    s.right = s.right + (1.0 - h.shampoo_beta) * (inner - s.right)
    if t == 1:
        s.ql, s.qr = eigenbasis(s.left), eigenbasis(s.right)
        return p
    if (t - 1) % h.every == 0:
        order = np.argsort(-np.einsum("ij,ik,kj->j", s.ql, s.left, s.ql))
        s.v, s.ql = s.v[order, :], np.linalg.qr(s.left @ s.ql[:, order])[0]
        order = np.argsort(-np.einsum("ij,ik,kj->j", s.qr, s.right, s.qr))
        s.v, s.qr = s.v[:, order], np.linalg.qr(s.right @ s.qr[:, order])[0]
    s.m = s.ql.T @ straight @ s.qr
    return p


def keller_ns(u):
    """Five quintic steps with the + 1e-7 of Keller Jordan's code."""
    x = u / (np.linalg.norm(u) + 1e-7)
    x = x.T if u.shape[0] > u.shape[1] else x
    for _ in range(5):
        a = x @ x.T
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    return x.T if u.shape[0] > u.shape[1] else x


@per_tensor
def keller_muon(p, g, s, t, lr, h):
    s.m = s.m + (1.0 - h.mu) * (g - s.m)
    u = g + h.mu * (s.m - g) if h.nesterov else s.m
    return p * (1.0 - lr * h.decay) - lr * max(1.0, p.shape[0] / p.shape[1]) ** 0.5 * keller_ns(u)


@per_tensor
def moonlight(p, g, s, t, lr, h):
    """Summed momentum; its + 1e-7 counts 1 / (1 - mu) times less in our units."""
    s.m = h.mu * s.m + g
    return p * (1.0 - lr * h.decay) - lr * 0.2 * math.sqrt(max(p.shape)) * keller_ns(g + h.mu * s.m)


@per_tensor
def authors_normuon(p, g, s, t, lr, h):
    s.m = s.m + (1.0 - h.mu) * (g - s.m)
    o = keller_ns(g + h.mu * (s.m - g))
    before = np.sqrt((o ** 2).sum())
    s.row = s.row + (1.0 - h.beta2) * ((o ** 2).mean(axis=1) - s.row)
    o = o * (1.0 / (np.sqrt(s.row) + 1e-10))[:, None]
    o = o * (before / (np.sqrt((o ** 2).sum()) + 1e-10)) * max(1.0, p.shape[0] / p.shape[1]) ** 0.5
    return p * (1.0 - lr * h.decay) - lr * o


@per_tensor
def adamcb_adamx(p, g, s, t, lr, h):
    b1, b1_old = h.beta1 * h.beta1_decay ** (t - 1), h.beta1 * h.beta1_decay ** (t - 2)
    s.m = b1 * s.m + (1.0 - b1) * g
    s.v = h.beta2 * s.v + (1.0 - h.beta2) * g ** 2
    s.top = s.v if t == 1 else np.maximum((1.0 - b1) ** 2 / (1.0 - b1_old) ** 2 * s.top, s.v)
    mean, square = (s.m / (1.0 - b1 ** t), s.top / (1.0 - h.beta2 ** t)) if h.bias_correction else (s.m, s.top)
    return p - h.lr / t ** 0.5 * (mean / (np.sqrt(square) + h.epsilon) + h.decay * p)


def two_sequences(p, grad, h, rest):
    """Schedule-Free as released, for Adam (with or without inner mean) and SGD: y in the parameter buffer, z beside it,
    x never stored."""
    y, z, s, total, largest = dict(p), dict(p), memories(p), 0.0, -1.0
    for t in count(1):
        g = grad(t, y)[1]
        lr = warm(h, t)
        largest = max(largest, lr)
        total += t ** h.r * largest ** h.p
        c = t ** h.r * largest ** h.p / total
        if h.C:
            c = min(h.C * (1.0 - h.b) * c, 1.0)
        for n in p:
            u = g[n]
            if hasattr(h, "beta2"):
                s[n].v = h.beta2 * s[n].v + (1.0 - h.beta2) * g[n] * g[n]
                if h.inner_mean:
                    s[n].m = h.beta1 * s[n].m + (1.0 - h.beta1) * g[n]
                    u = s[n].m / (1.0 - h.beta1 ** t)
                u = u / (np.sqrt(s[n].v / (1.0 - h.beta2 ** t)) + h.epsilon)
            u = u + h.decay * y[n]
            y[n] = y[n] + c * (z[n] - y[n]) + lr * (h.b * (1.0 - c) - 1.0) * u
            z[n] = z[n] - lr * u
        yield {n: y[n] + (1.0 - 1.0 / h.b) * (z[n] - y[n]) for n in p}, dict(z), dict(y)


def paper_sf_normuon(p, grad, h, rest):
    x, y, z, s, total = dict(p), dict(p), dict(p), memories(p), 0.0
    for t in count(1):
        g, eta = grad(t, y)[1], warm(h, t)
        total += eta ** 2
        c = eta ** 2 / total
        for n in p:
            if p[n].ndim == 1:
                s[n].v = rest.beta2 * s[n].v + (1.0 - rest.beta2) * g[n] ** 2
                d = g[n] / (np.sqrt(s[n].v / (1.0 - rest.beta2 ** t)) + rest.epsilon)
                z[n] = (1.0 - eta * rest.decay) * z[n] - eta * d
            else:
                s[n].m = h.mu * s[n].m + (1.0 - h.mu) * g[n]
                o = keller_ns(s[n].m)
                s[n].v = h.beta2 * s[n].v + (1.0 - h.beta2) * (o * o).mean(axis=1)
                o = o / (np.sqrt(s[n].v) + h.epsilon)[:, None]
                z[n] = z[n] - eta * h.decay * z[n] - 0.2 * eta * math.sqrt(o.size) / np.linalg.norm(o) * o
            x[n] = (1.0 - c) * x[n] + c * z[n]
            y[n] = (1.0 - h.b) * z[n] + h.b * x[n]
        yield dict(x), dict(z), dict(y)


def paper_gpa(p, grad, h, rest):
    x, y, z, s, mu_x, mu_y = dict(p), dict(p), dict(p), memories(p), 1.0 - h.c, h.b
    for t in count(1):
        g = grad(t, y)[1]
        z = {n: adamw.step(z[n], g[n], s[n], t, warm(h, t), h) for n in p}
        x = {n: mu_x * x[n] + (1.0 - mu_x) * z[n] for n in p}
        y = {n: mu_y * x[n] + (1.0 - mu_y) * z[n] for n in p}
        yield x, z, y


def amuse_fast_step(z, g, s, t, eta, h, rest):
    """New z: orthogonalised Nesterov momentum on matrices, Adam without first moment elsewhere, decay at z."""
    if z.ndim == 1:
        s.v = rest.beta2 * s.v + (1.0 - rest.beta2) * g ** 2
        return z - eta * (g / (np.sqrt(s.v / (1.0 - rest.beta2 ** t)) + rest.epsilon) + rest.decay * z)
    s.m = s.m + (1.0 - h.mu) * (g - s.m)
    o = keller_ns((1.0 - h.mu) * g + h.mu * s.m) * (0.2 * max(z.shape) ** 0.5)
    return z * (1.0 - eta * h.decay) - eta * o


def amuse_ramp(h, t, odds, odds_at_warmup):
    """b_t; odds is c_t / (1 - c_t), that is w_t / W_{t-1}."""
    if t <= h.warmup or h.beta_schedule == "const":
        return h.b
    left = (h.warmup - 1) / (t - 1) if h.beta_schedule == "formula" else odds / odds_at_warmup
    return 1.0 - left ** h.rho * (1.0 - h.b)


def released_amuse(p, grad, h, rest):
    """The buffer holds y; x is recovered with the NEW b, and y rebuilt with it."""
    y, z, s, total, mark = dict(p), dict(p), memories(p), 0.0, None
    for t in count(1):
        g, eta = grad(t, y)[1], warm(h, t)
        total += t ** h.r * eta ** h.p
        c = t ** h.r * eta ** h.p / total
        mark = c if t == h.warmup else mark
        b = amuse_ramp(h, t, c / (1.0 - c) if t > 1 else 0.0, mark / (1.0 - mark) if mark else 0.0)
        x = {n: y[n] + (1.0 - 1.0 / b) * (z[n] - y[n]) for n in p}
        z = {n: amuse_fast_step(z[n], g[n], s[n], t, eta, h, rest) for n in p}
        x = {n: x[n] + c * (z[n] - x[n]) for n in p}
        y = {n: x[n] + (1.0 - b) * (z[n] - x[n]) for n in p}
        yield x, z, y


def paper_amuse(p, grad, h, rest):
    """Y_t = (1 - b_t) Z_t + b_t X_t at the head of step t; c is the share of eta_t^p in the sum so far."""
    def b(t):
        w = [i ** h.r * warm(h, i) ** h.p for i in range(1, t + 1)]
        return amuse_ramp(h, t, w[-1] / sum(w[:-1]) if t > 1 else 0.0,
                          w[h.warmup - 1] / sum(w[:h.warmup - 1]) if t > h.warmup else 0.0)

    x, z, s, weights = dict(p), dict(p), memories(p), []
    for t in count(1):
        g, eta = grad(t, {n: (1.0 - b(t)) * z[n] + b(t) * x[n] for n in p})[1], warm(h, t)
        weights.append(t ** h.r * eta ** h.p)
        c = weights[-1] / sum(weights)
        z = {n: amuse_fast_step(z[n], g[n], s[n], t, eta, h, rest) for n in p}
        x = {n: (1.0 - c) * x[n] + c * z[n] for n in p}
        yield x, z, {n: (1.0 - b(t + 1)) * z[n] + b(t + 1) * x[n] for n in p}
