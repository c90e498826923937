"""Float64 reference of every optimizer of the program: one engine, one row per optimizer. numpy only.

Each parameter has three iterates:

    z   fast: the direction moves it
    x   average: evaluated and saved
    y   = (1 - b) z + b x: where the gradient is taken

What is stored is z and the gap x - z: x = z + gap, y = z + b gap. Update number k = 1, 2, ..., with the gradient g
taken at y_k, which was built with b_k:

    1   eta = lr * schedule(k)
    2   c   = averaging weight                      1 for plain optimizers
        b'  = interpolation of the next y           b_{k+1}
    3   d   = direction(g, slots, k)                None: this update moves nothing (SOAP's first)
    4   z'  = z - (eta * scale(shape) * d + eta * decay * P)          P = z_k or y_k
    5   x'  = x + c (z' - x)                        gap' = (1 - c) (gap + (z - z'))
    6   y'  = x' + (1 - b') (z' - x')               y'   = z' + b' gap'

    steps = replay("amuse", params, gradients, lr=0.01, warmup=10)
    steps[i]["x"]["w"], steps[i]["z"]["w"], steps[i]["y"]["w"], steps[i]["scalars"]

`params` maps names to arrays, `gradients` is a list of such maps, one per update. Two-dimensional parameters take the
row named and all others its `rest` row; `kinds` overrides this by name ("matrix" or "rest"), as embeddings and output
heads need. Hyperparameters given also reach the rest row where it has them; `rest=dict(...)` sets its own.
`multipliers` maps names to factors of learning rate and decay. `dtype=numpy.float32` shows what single precision
costs. `Engine.state()` is what a continuation needs.
"""
import math
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Callable, Optional

import numpy as np

# ---------------------------------------------------------------------------------------------------------------------
# Newton-Schulz. Coefficients are data, one tuple e per iteration: X <- e[0] X + e[1] (X X^T) X + e[2] (X X^T)^2 X + ...

NEWTON_SCHULZ = {
    "keller5": [(3.4445, -4.7750, 2.0315)] * 5,
    "you5": [(4.0848, -6.8946, 2.9270), (3.9505, -6.3029, 2.6377), (3.7418, -5.5913, 2.3037),
             (2.8769, -3.1427, 1.2046), (2.8366, -3.0525, 1.2012)],
    "polar5": [(8.156554524902461, -22.48329292557795, 15.878769915207462),
               (4.042929935166739, -2.808917465908714, 0.5000178451051316),
               (3.8916678022926607, -2.772484153217685, 0.5060648178503393),
               (3.285753657755655, -2.3681294933425376, 0.46449024233003106),
               (2.3465413258596377, -1.7097828382687081, 0.42323551169305323)],
    "cubic5": [(3.3656576, -3.3420992), (2.5744352, -1.4957376), (2.5368962, -1.4312570),
               (2.4418906, -1.2764040), (2.2230472, -0.9630650)],
    "exact": [(3.4445, -4.7750, 2.0315)] * 18 + [(1.875, -1.25, 0.375)] * 5,
}
NORM_FACTOR = {"polar5": 1.02, "cubic5": 1.01}     # these diverge just above 1: divide by a little more than the norm


def taylor(kappa):
    """Coefficients of the Taylor series of s^(-1/2) at s = 1 up to (1 - s)^kappa, in powers of s."""
    total = [0.0] * (kappa + 1)
    for s in range(kappa + 1):
        for j in range(s + 1):
            total[j] += math.comb(2 * s, s) / 4.0 ** s * math.comb(s, j) * (-1.0) ** j
    return tuple(total)


def newton_schulz(m, preset="keller5", steps=None, epsilon=1e-20, epsilon_mode="clamp", safety=None, match=False):
    """Approximate polar factor of m. preset: a name of NEWTON_SCHULZ, "taylor:K", or a list. `steps` beyond its length
    repeat its last polynomial.

    epsilon_mode "clamp" divides by max(norm, epsilon), as we do; "plus" by norm + epsilon (1e-7 in Keller's code).
    `match` gives the result the norm of an orthogonal matrix."""
    factor = safety or (NORM_FACTOR.get(preset, 1.0) if isinstance(preset, str) else 1.0)
    if isinstance(preset, str):
        preset = [taylor(int(preset[7:]))] * 5 if preset.startswith("taylor:") else NEWTON_SCHULZ[preset]
    coefficients = preset[:steps] + preset[-1:] * ((steps or 0) - len(preset))
    norm = factor * float(np.linalg.norm(m))
    x = m / (norm + epsilon if epsilon_mode == "plus" else max(norm, epsilon))
    x = x.T if m.shape[0] > m.shape[1] else x
    for e in coefficients:
        gram = x @ x.T                                      # on the short side
        poly = e[-1] * gram
        for a in e[-2:0:-1]:
            poly = a * gram + poly @ gram
        x = e[0] * x + poly @ x
    if match:
        x = x * (math.sqrt(min(m.shape)) / max(float(np.linalg.norm(x)), epsilon))
    return x.T if m.shape[0] > m.shape[1] else x


# ---------------------------------------------------------------------------------------------------------------------
# Directions: d = direction(g, slots, h, k). Slots start at zero and change in place; h holds the hyperparameters.

def slot(slots, name, shape, dtype):
    return slots.setdefault(name, np.zeros(shape, dtype))


def like(slots, name, g):
    return slot(slots, name, g.shape, g.dtype)


def ema(average, value, decay):
    average *= decay
    average += (1.0 - decay) * value


def quotient(a, b):
    """a / b, and 0 where b is 0: with epsilon 0, a coordinate that never had a gradient does not move."""
    return np.divide(a, b, out=np.zeros_like(a), where=b != 0)


def adaptive(mean, v, h, k):
    """Epsilon is added after the bias correction and outside the root."""
    return quotient(mean, np.sqrt(v / (1.0 - h.beta2 ** k)) + h.epsilon)


def gradient(g, slots, h, k):
    return g


def momentum(g, slots, h, k):
    """m = mu m + g, the summed form of torch.optim.SGD."""
    m = like(slots, "m", g)
    m *= h.mu
    m += g
    return g + h.mu * m if h.nesterov else m.copy()


def adam(g, slots, h, k):
    m, v = like(slots, "m", g), like(slots, "v", g)
    ema(m, g, h.beta1)
    ema(v, g * g, h.beta2)
    return adaptive(m / (1.0 - h.beta1 ** k), v, h, k)


def adam_without_mean(g, slots, h, k):
    v = like(slots, "v", g)
    ema(v, g * g, h.beta2)
    return adaptive(g, v, h, k)


def signum(g, slots, h, k):
    """sign(0) is 0. The averaged form; a summed momentum has the same sign."""
    m = like(slots, "m", g)
    ema(m, g, h.mu)
    return np.sign((1.0 - h.mu) * g + h.mu * m if h.nesterov else m)


def lion(g, slots, h, k):
    """The sign takes the old momentum and beta1; the momentum then moves with beta2."""
    m = like(slots, "m", g)
    d = np.sign(h.beta1 * m + (1.0 - h.beta1) * g)
    ema(m, g, h.beta2)
    return d


def half_life(beta):
    return math.log(0.5) / math.log(beta + 1e-8) - 1.0      # the 1e-8 is the authors'


def ademamix(g, slots, h, k):
    alpha, beta3 = h.alpha, h.beta3
    if k < h.ramp:                                          # both ramps are linear, beta3's in half-life
        part = k / h.ramp
        alpha = part * h.alpha
        beta3 = 0.5 ** (1.0 / ((1.0 - part) * half_life(h.beta1) + part * half_life(h.beta3) + 1.0))
    m, slow, v = like(slots, "m", g), like(slots, "slow", g), like(slots, "v", g)
    ema(m, g, h.beta1)
    ema(slow, g, beta3)                                     # not bias-corrected
    ema(v, g * g, h.beta2)
    return adaptive(m / (1.0 - h.beta1 ** k) + alpha * slow, v, h, k)


def mars(g, slots, h, k):
    """Adam on the gradient plus its scaled change, cut to norm 1 per tensor.

    The previous gradient is a copy of what arrived (after any global clip) and starts at zero, as published: the first
    corrected gradient is (1 + gamma beta1 / (1 - beta1)) g."""
    previous = like(slots, "g_previous", g)
    corrected = g + h.gamma * h.beta1 / (1.0 - h.beta1) * (g - previous)
    previous[...] = g
    norm = float(np.linalg.norm(corrected))
    return adam(corrected / norm if norm > 1.0 else corrected, slots, h, k)


def eigenbasis(a, rank_tolerance=1e-5):
    """Orthonormal eigenvectors of a positive semidefinite matrix, largest eigenvalue first.

    The first factor of a non-square matrix is singular, and SOAP's steps depend on the basis chosen in its null space,
    which a solver picks by rounding. Here that basis is completed from the coordinate axes (pivoted Cholesky of the
    projector on the null space), so that two solvers agree. Signs and order of the vectors do not change the steps."""
    values, vectors = np.linalg.eigh(a)
    values, vectors = values[::-1], vectors[:, ::-1].copy()
    rank = int((values > rank_tolerance * values[0]).sum())
    rest = np.eye(len(a), dtype=a.dtype) - vectors[:, :rank] @ vectors[:, :rank].T
    for j in range(rank, len(a)):
        pivot = int(np.argmax(np.diag(rest)))               # lowest index among equals
        vectors[:, j] = rest[:, pivot] / math.sqrt(rest[pivot, pivot])
        rest = rest - np.outer(vectors[:, j], vectors[:, j])
    return vectors


def soap(g, slots, h, k):
    """Adam in the eigenbasis of Shampoo's two factors; m is kept unrotated, v in the present basis.

    shift > 0 is ours: it keeps the orthogonal iteration well conditioned (docs/optimizers.md)."""
    sides = [s for s in (0, 1) if g.shape[s] <= h.max_dimension]        # a longer side keeps the identity
    m, v = like(slots, "m", g), like(slots, "v", g)
    factor = {s: slot(slots, f"L{s}", (g.shape[s],) * 2, g.dtype) for s in sides}
    basis = {s: slot(slots, f"Q{s}", (g.shape[s],) * 2, g.dtype) for s in sides}

    def turn(a, back=False):
        for s in sides:
            q = basis[s] if back else basis[s].T
            a = q @ a if s == 0 else a @ q.T
        return a

    d = None
    if k > 1:                                               # the first gradient only builds the bases
        ema(m, g, h.beta1)
        ema(v, turn(g) ** 2, h.beta2)
        correction = math.sqrt(1.0 - h.beta2 ** (k - 1)) / (1.0 - h.beta1 ** (k - 1))
        d = correction * turn(quotient(turn(m), np.sqrt(v) + h.epsilon), back=True)
    for s in sides:
        ema(factor[s], g @ g.T if s == 0 else g.T @ g, h.shampoo_beta)
        if k == 1:
            basis[s][...] = eigenbasis(factor[s])
        elif (k - 1) % h.every == 0:                        # one orthogonal iteration, sorted by Rayleigh quotient
            values = np.diag(basis[s].T @ factor[s] @ basis[s])
            order = np.argsort(-values, kind="stable")
            v[...] = v[order] if s == 0 else v[:, order]
            old = basis[s][:, order]
            basis[s][...] = np.linalg.qr(factor[s] @ old + h.shift * float(values.max()) * old)[0]
    return d


def muon(g, slots, h, k):
    """Orthogonalised momentum in the averaged form; the summed form differs by the factor 1 - mu, which cancels."""
    m = like(slots, "m", g)
    ema(m, g, h.mu)
    u = (1.0 - h.mu) * g + h.mu * m if h.nesterov else m
    return newton_schulz(u, h.polynomial, h.steps, h.ns_epsilon, h.ns_epsilon_mode, h.safety, h.match)


def per_neuron(o, slots, h):
    """Rows (output neurons) divided by their root mean square over time; the norm is reset later, so there is no bias
    correction."""
    v = slot(slots, "v", (len(o), 1), o.dtype)
    ema(v, np.mean(o * o, axis=1, keepdims=True), h.beta2)
    return o / (np.sqrt(v) + h.epsilon)


def normuon(g, slots, h, k):
    """The Frobenius norm of the orthogonalised momentum is kept."""
    o = muon(g, slots, h, k)
    n = per_neuron(o, slots, h)
    return n * (float(np.linalg.norm(o)) / (float(np.linalg.norm(n)) + h.epsilon))


def normuon_unit(g, slots, h, k):
    """Root mean square 1 over the matrix: the data-dependent part of SF-NorMuon's step belongs to the direction."""
    n = per_neuron(muon(g, slots, h, k), slots, h)
    return n * (math.sqrt(n.size) / max(float(np.linalg.norm(n)), 1e-12))


def adamx(g, slots, h, k):
    """beta1 decays; the running maximum of v is rescaled by ((1 - beta1_k) / (1 - beta1_{k-1}))^2 before each max."""
    beta1, before = h.beta1 * h.beta1_decay ** (k - 1), h.beta1 * h.beta1_decay ** (k - 2)
    m, v, v_max = like(slots, "m", g), like(slots, "v", g), like(slots, "v_max", g)
    ema(m, g, beta1)
    ema(v, g * g, h.beta2)
    v_max[...] = v if k == 1 else np.maximum(((1.0 - beta1) / (1.0 - before)) ** 2 * v_max, v)
    if h.bias_correction:                                   # the authors' code; the paper has none
        return quotient(m / (1.0 - beta1 ** k), np.sqrt(v_max / (1.0 - h.beta2 ** k)) + h.epsilon)
    return quotient(m, np.sqrt(v_max) + h.epsilon)


SCALES = {                                                  # factor of d by the shape of the (sub-)matrix
    "keller": lambda rows, columns: math.sqrt(max(1.0, rows / columns)),
    "moonlight": lambda rows, columns: 0.2 * math.sqrt(max(rows, columns)),
    "spectral": lambda rows, columns: math.sqrt(rows / columns),
    "rms": lambda rows, columns: 0.2,
}


# ---------------------------------------------------------------------------------------------------------------------
# Averaging weight c_k. s holds the scalars of the row, fp64, all of them part of the checkpoint.

def average_none(s, h, k, eta):
    return 1.0


def weight(s, h, k, eta):
    return k ** h.r * (max(s["eta_max"], eta) if h.weight_by == "largest" else eta) ** h.p


def average_weighted(s, h, k, eta):
    """c = w / W with w = k^r e^p, where e is the learning rate now or the largest so far."""
    s["eta_max"] = max(s["eta_max"], eta)
    s["W"] += weight(s, h, k, eta)
    c = weight(s, h, k, eta) / s["W"] if s["W"] > 0.0 else 1.0
    return min(1.0, h.C * (1.0 - h.b) * c) if h.C else c    # refined; C = 1 / (1 - b) changes nothing


def average_constant(s, h, k, eta):
    return h.c


# Interpolation b_{k+1} of the next y.

def blend_none(s, h, k, c, eta_next):
    return 0.0


def blend_constant(s, h, k, c, eta_next):
    return h.b


def blend_amuse(s, h, k, c, eta_next):
    """AMUSE's ramp, constant until warmup ends (T0 >= 2 updates). y_{k+1} is built with b_{k+1} as in the paper
    (compat "exact"), or with b_k as in all public codes ("official", which also changes step 5: see Engine.step)."""
    index = k + 1 if h.compat == "exact" else k
    if k == h.warmup:
        s["ramp"] = (1.0 - c) / c                           # W_{T0-1} / w_{T0}
    if index <= h.warmup or h.beta_schedule == "const":
        return h.b
    if h.beta_schedule == "formula":
        left = (h.warmup - 1.0) / (index - 1.0)
    elif h.compat == "exact":                               # w_{k+1} / W_k, times the ramp
        left = weight(s, h, index, eta_next) / s["W"] * s["ramp"]
    else:                                                   # w_k / W_{k-1}, times the ramp
        left = c / (1.0 - c) * s["ramp"]
    return 1.0 - left ** h.rho * (1.0 - h.b)


# Schedules: factor of the learning rate at update k. The program has more; the rows need only these.

def warmup_constant(h, k):
    return min(1.0, k / h.warmup) if h.warmup else 1.0      # 1 / warmup at the first update, never 0


def inverse_root(h, k):
    return 1.0 / math.sqrt(k)


# ---------------------------------------------------------------------------------------------------------------------
# Rows, with the defaults of the program (optim/recipes.c)

@dataclass(frozen=True)
class Recipe:
    direction: Callable
    hyper: dict                             # every hyperparameter with its default
    decay_at: str = "z"                     # P: z, y, or "after" = multiply the moved z by 1 - eta decay
    average: Callable = average_none
    blend: Callable = blend_none
    schedule: Callable = warmup_constant
    rest: Optional[str] = None              # row of everything that is not a matrix; None: this one
    shard: str = "element"                  # element; tensor: one norm per tensor; matrix: whole


ADAM = dict(lr=1e-3, beta1=0.9, beta2=0.999, epsilon=1e-8, decay=0.0, warmup=0)
AVERAGE = dict(r=0.0, p=2.0, weight_by="now", C=0.0)
LARGEST = dict(AVERAGE, weight_by="largest")
MUON = dict(lr=2e-3, mu=0.95, nesterov=True, polynomial="keller5", steps=None, safety=None, match=False,
            ns_epsilon=1e-20, ns_epsilon_mode="clamp", scale="moonlight", decay=0.1, warmup=0)
AMUSE = dict(AVERAGE, beta_schedule="weightsum", compat="exact", rho=0.8, b=0.4)
FREE = dict(average=average_weighted, blend=blend_constant)
RAMP = dict(average=average_weighted, blend=blend_amuse)

RECIPES = {
    "sgd": Recipe(momentum, dict(lr=0.1, mu=0.9, nesterov=False, decay=0.0, warmup=0)),
    "adam": Recipe(adam, ADAM),
    "adamw": Recipe(adam, dict(ADAM, lr=6e-4, beta2=0.95, decay=0.1)),
    "signum": Recipe(signum, dict(lr=1e-3, mu=0.9, nesterov=False, decay=0.1, warmup=0)),
    "lion": Recipe(lion, dict(lr=1e-4, beta1=0.9, beta2=0.99, decay=0.1, warmup=0)),
    "ademamix": Recipe(ademamix, dict(ADAM, beta3=0.9999, alpha=8.0, ramp=0, decay=0.1)),
    "mars": Recipe(mars, dict(ADAM, lr=3e-3, beta1=0.95, beta2=0.99, gamma=0.025, decay=0.1),
                   rest="mars_rest", shard="tensor"),
    "mars_rest": Recipe(adam, dict(ADAM, lr=3e-3, beta2=0.95, decay=0.1)),
    "soap": Recipe(soap, dict(ADAM, lr=3e-3, beta1=0.95, beta2=0.95, shampoo_beta=0.95, every=10, shift=0.0,
                              max_dimension=10000, decay=0.01), decay_at="after", rest="adamw", shard="matrix"),
    "muon": Recipe(muon, MUON, rest="muon_rest", shard="matrix"),
    "muon_rest": Recipe(adam, dict(ADAM, lr=2e-3, beta1=0.8, decay=0.1)),
    "normuon": Recipe(normuon, dict(MUON, beta2=0.95, epsilon=1e-10), rest="muon_rest", shard="matrix"),
    "sf_adamw": Recipe(adam_without_mean, dict(ADAM, **LARGEST, b=0.9) | dict(lr=2.5e-3), decay_at="y", **FREE),
    "sf_adamw_mean": Recipe(adam, dict(ADAM, **LARGEST, b=0.9) | dict(lr=2.5e-3), decay_at="y", **FREE),
    "sf_adamw_refined": Recipe(adam_without_mean, dict(ADAM, **LARGEST, b=0.95) | dict(lr=2.5e-3, C=200.0),
                               decay_at="y", **FREE),
    "sf_sgd": Recipe(gradient, dict(LARGEST, lr=1.0, b=0.9, decay=0.0, warmup=0), decay_at="y", **FREE),
    "sf_muon": Recipe(muon, dict(MUON, **AVERAGE, b=0.9) | dict(lr=0.01, decay=0.0), rest="sf_muon_rest",
                      shard="matrix", **FREE),
    "sf_muon_rest": Recipe(adam_without_mean, dict(ADAM, **AVERAGE, b=0.9) | dict(lr=0.01, epsilon=1e-10), **FREE),
    "sf_normuon": Recipe(normuon_unit, dict(MUON, **AVERAGE, b=0.9, beta2=0.95, epsilon=1e-8)
                         | dict(lr=0.008, mu=0.8, nesterov=False, decay=0.05, scale="rms"),
                         rest="sf_normuon_rest", shard="matrix", **FREE),
    "sf_normuon_rest": Recipe(adam_without_mean, dict(ADAM, **AVERAGE, b=0.9) | dict(lr=0.008, beta2=0.95, decay=0.05),
                              **FREE),
    "gpa": Recipe(adam, dict(ADAM, lr=6e-4, b=0.7, c=1.0 - 0.9967, decay=0.1), average=average_constant,
                  blend=blend_constant),
    "amuse": Recipe(muon, dict(MUON, **AMUSE) | dict(lr=0.01), rest="amuse_rest", shard="matrix", **RAMP),
    "amuse_rest": Recipe(adam_without_mean, dict(ADAM, **AMUSE) | dict(lr=0.01, epsilon=1e-10, decay=0.1), **RAMP),
    "adamx": Recipe(adamx, dict(ADAM, beta1_decay=1.0 - 1e-8, bias_correction=False), schedule=inverse_root),
}


# ---------------------------------------------------------------------------------------------------------------------
# Engine

class Engine:
    """Iterates, slots and scalars of one run. A skipped batch is one for which step() is not called."""

    def __init__(self, name, params, kinds=None, schedule=None, dtype=np.float64, rest=None, multipliers=None,
                 **hyper):
        kinds, self.multipliers = kinds or {}, multipliers or {}
        matrix = {n: kinds.get(n, "matrix" if np.ndim(a) == 2 else "rest") == "matrix" for n, a in params.items()}
        self.row = {n: name if matrix[n] else RECIPES[name].rest or name for n in params}
        self.hyper, self.scalars = {}, {}
        for row in sorted(set(self.row.values()) | {name}):
            own = RECIPES[row].hyper
            given = hyper if row == name else {**{k: v for k, v in hyper.items() if k in own}, **(rest or {})}
            unknown = sorted(set(given) - set(own))
            if unknown:
                raise TypeError(f"{row} has no hyperparameter {', '.join(unknown)}")
            self.hyper[row] = h = SimpleNamespace(**{**own, **given})
            if RECIPES[row].blend is blend_amuse and h.warmup < 2 and h.beta_schedule != "const":
                raise ValueError(f"{row}: the ramp needs warmup >= 2 (at 1 it would jump to b = 1)")
            self.scalars[row] = dict(k=0, W=0.0, eta_max=0.0, b=0.0, ramp=0.0)
        self.schedule = schedule
        self.z = {n: np.array(a, dtype) for n, a in params.items()}
        self.gap = {n: np.zeros_like(a) for n, a in self.z.items()}
        self.slots = {n: {} for n in params}

    @property
    def x(self):
        return {n: self.z[n] + self.gap[n] for n in self.z}

    @property
    def y(self):
        return {n: self.z[n] + self.scalars[self.row[n]]["b"] * self.gap[n] for n in self.z}

    def eta(self, row, k):
        h = self.hyper[row]
        return float(h.lr * (self.schedule(k) if self.schedule else RECIPES[row].schedule(h, k)))

    def step(self, gradients):
        gradients = {n: np.asarray(g, self.z[n].dtype) for n, g in gradients.items()}
        y = self.y
        for row, s in self.scalars.items():
            recipe, h, k = RECIPES[row], self.hyper[row], s["k"] + 1
            eta = self.eta(row, k)
            c = recipe.average(s, h, k, eta)
            b = recipe.blend(s, h, k, c, self.eta(row, k + 1))
            # Released AMUSE keeps y and z and recovers x from a y built with b_{k-1} by dividing by b_k.
            stretch = s["b"] / b if k > 1 and getattr(h, "compat", "exact") == "official" else 1.0
            for n in (n for n in gradients if self.row[n] == row):
                old = self.z[n]
                d = recipe.direction(gradients[n], self.slots[n], h, k)
                if d is not None:
                    faster, heavier = self.multipliers.get(n, (1.0, 1.0))
                    move = eta * faster * (SCALES[h.scale](*old.shape) if hasattr(h, "scale") else 1.0) * d
                    decay = eta * faster * h.decay * heavier
                    if recipe.decay_at == "after":
                        self.z[n] = (old - move) * (1.0 - decay)
                    else:
                        self.z[n] = old - (move + decay * (y[n] if recipe.decay_at == "y" else old))
                gap = stretch * self.gap[n] + (old - self.z[n])
                self.gap[n] = gap - c * gap                 # in this form nothing stalls when c is small
            s.update(k=k, b=b, eta=eta, c=c)

    def state(self):
        """What a checkpoint holds: z, the gap unless it is always zero, the slots, and five scalars per row."""
        averaged = {n for n in self.z if RECIPES[self.row[n]].average is not average_none}
        return dict(z={n: a.copy() for n, a in self.z.items()},
                    gap={n: a.copy() for n, a in self.gap.items() if n in averaged},
                    slots={n: {m: a.copy() for m, a in s.items()} for n, s in self.slots.items()},
                    scalars={row: {m: s[m] for m in ("k", "W", "eta_max", "b", "ramp")}
                             for row, s in self.scalars.items()})

    def load(self, state):
        self.z = {n: a.copy() for n, a in state["z"].items()}
        self.gap = {n: state["gap"].get(n, np.zeros_like(a)).copy() for n, a in self.z.items()}
        self.slots = {n: {m: a.copy() for m, a in s.items()} for n, s in state["slots"].items()}
        self.scalars = {row: dict(s) for row, s in state["scalars"].items()}


def replay(name, params, gradients, **options):
    """Feed recorded gradients. One entry per update: x, z, y after it, and the scalars of each row."""
    engine, steps = Engine(name, params, **options), []
    for g in gradients:
        engine.step(g)
        steps.append(dict(x=engine.x, z={n: a.copy() for n, a in engine.z.items()}, y=engine.y,
                          scalars={row: dict(s) for row, s in engine.scalars.items()}))
    return steps


def readout(steps, kind, start=0, every=10, decay=0.95, count=5):
    """A further average e of x, for any row: what is evaluated and exported instead of x. One map per update.

    ema   x until update `start`; then every `every` updates e + (1 - decay) (x - e)
    tail  the mean of all x after update `start`
    lawa  the mean of the last `count` of the x taken every `every` updates (x itself before the first)"""
    e, taken, out = None, [], []
    for k, step in enumerate(steps, 1):
        x = step["x"]
        if kind == "lawa":
            taken = (taken + [x])[-count:] if k % every == 0 else taken
            e = {n: sum(t[n] for t in taken) / len(taken) for n in x} if taken else x
        elif k <= start or e is None:
            e = x
        elif kind == "tail":
            e = {n: e[n] + (x[n] - e[n]) / (k - start) for n in x}
        elif (k - start) % every == 0:
            e = {n: e[n] + (1.0 - decay) * (x[n] - e[n]) for n in x}
        out.append(e)
    return out
