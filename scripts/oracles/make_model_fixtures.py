#!/usr/bin/env python3
"""Writes tests/fixtures/models: tiny networks with losses, gradients and ten AdamW losses, all in float64.

The network is written here straight from the papers, in JAX, with autodiff for its gradients, and nothing is believed
until transformers' class of the same family gives the same logits, and torch.optim.AdamW the same ten losses.
Run in a virtual environment with numpy, jax, torch, transformers, safetensors (requirements.txt):

    python scripts/oracles/make_model_fixtures.py [OUT_DIR]

NAME.json holds the rows of model/model_options.def. NAME.safetensors holds every parameter under the network's own
name (weights are (out, in), no vocabulary padding, values exact in float32), its gradient as grad.NAME, the batch
(tokens, targets, positions, first_visible, weights), losses (B, T), loss, and adamw.losses: the loss before each of
ten steps on that batch, with lr 1e-2, betas 0.9 and 0.95, epsilon 1e-8 and decay 0.1 of everything but vectors.
"""
import contextlib
import json
import os
import pathlib
import sys
import unittest.mock

os.environ["JAX_PLATFORMS"] = "cpu"

import jax
import jax.numpy as jnp
import numpy as np
import torch
import transformers
from safetensors.numpy import save

jax.config.update("jax_enable_x64", True)
torch.set_default_dtype(torch.float64)

TOLERANCE = 1e-10
STEPS, LR, BETAS, EPSILON, DECAY = 10, 1e-2, (0.9, 0.95), 1e-8, 0.1

ROTARY = dict(norm="rmsnorm", position="rope", bias=False, qk_norm=False, vocab_multiple=8)

# `documents`: where documents begin in each sequence of 11 tokens; a query sees nothing before its own document.
MODELS = {
    "gpt2": dict(
        options=dict(depth=2, width=16, heads=2, kv_heads=2, head_dim=8, ffn_width=40, norm="layernorm",
                     norm_epsilon=1e-5, position="learned", context=12, mlp="gelu", bias=True, qk_norm=False, tied=True,
                     vocab=43, vocab_multiple=8),
        documents=[[0], [0]]),
    "llama": dict(
        options=dict(ROTARY, depth=2, width=16, heads=4, kv_heads=2, head_dim=4, ffn_width=20, norm_epsilon=1e-6,
                     rope_theta=10000.0, context=11, mlp="swiglu", tied=False, vocab=41),
        documents=[[0], [0]]),
    "llama_packed": dict(
        options=dict(ROTARY, depth=2, width=16, heads=4, kv_heads=1, head_dim=4, ffn_width=20, norm_epsilon=1e-6,
                     rope_theta=10000.0, context=11, mlp="swiglu", tied=True, vocab=56),
        documents=[[0, 4, 5], [0, 9]]),
    "qwen3": dict(
        options=dict(ROTARY, depth=2, width=16, heads=4, kv_heads=2, head_dim=6, ffn_width=20, norm_epsilon=1e-6,
                     rope_theta=500.0, context=11, mlp="swiglu", qk_norm=True, tied=True, vocab=47),
        documents=[[0], [0]]),
    "relu2": dict(
        options=dict(ROTARY, depth=2, width=16, heads=2, kv_heads=1, head_dim=8, ffn_width=36, norm_epsilon=1e-5,
                     rope_theta=10000.0, context=11, mlp="relu2", tied=True, vocab=41),
        documents=[[0], [0]]),
}
BATCH, LENGTH = 2, 11


# ---- parameters and batch ----

def parameter_shapes(o):
    """Every parameter's shape in the network's own names."""
    width, hidden, depth = o["width"], o["ffn_width"], o["depth"]
    queries, keys = o["heads"] * o["head_dim"], o["kv_heads"] * o["head_dim"]
    inner = hidden * (2 if o["mlp"] == "swiglu" else 1)
    block = {
        "norm1_w": (width,), "qkv_w": (queries + 2 * keys, width), "attn_out_w": (width, queries),
        "norm2_w": (width,), "mlp_in_w": (inner, width), "mlp_out_w": (width, hidden),
    }
    if o["bias"]:
        block |= {"qkv_b": (queries + 2 * keys,), "attn_out_b": (width,), "mlp_in_b": (inner,), "mlp_out_b": (width,)}
    norm_bias = o["bias"] and o["norm"] == "layernorm"
    if norm_bias:
        block |= {"norm1_b": (width,), "norm2_b": (width,)}
    if o["qk_norm"]:
        block |= {"q_norm_w": (o["head_dim"],), "k_norm_w": (o["head_dim"],)}

    shapes = {"wte": (o["vocab"], width)}
    if o["position"] == "learned":
        shapes["wpe"] = (o["context"], width)
    for layer in range(depth):
        shapes |= {f"h.{layer}.{name}": shape for name, shape in block.items()}
    shapes["norm_w"] = (width,)
    if norm_bias:
        shapes["norm_b"] = (width,)
    if not o["tied"]:
        shapes["head_w"] = (o["vocab"], width)
    return shapes


def draw_parameters(o, rng):
    """Large enough that softmax and activations are far from linear; every value is exact in float32."""
    params = {}
    for name, shape in parameter_shapes(o).items():
        values = rng.standard_normal(shape)
        if len(shape) == 1:
            values = (1 if name.endswith("_w") else 0) + 0.2 * values
        else:
            values *= 0.5 if name in ("wte", "wpe", "head_w") else 1.2 / np.sqrt(shape[1])
        params[name] = values.astype(np.float32).astype(np.float64)
    return params


def draw_batch(o, documents, rng):
    tokens = rng.integers(0, o["vocab"], (BATCH, LENGTH + 1))
    targets = tokens[:, 1:].copy()
    targets[0, [2, 7]] = -1
    targets[1, LENGTH - 1] = -1
    weights = np.ones((BATCH, LENGTH))
    weights[0, 3:6] = 0.5
    weights[1, 1] = 0.5
    weights[1, 5] = 0.0
    first_visible = np.zeros((BATCH, LENGTH), int)
    for row, starts in enumerate(documents):
        for start in starts:
            first_visible[row, start:] = start
    positions = np.tile(np.arange(LENGTH), (BATCH, 1))
    return dict(tokens=tokens[:, :-1], targets=targets, positions=positions, first_visible=first_visible,
                weights=weights)


# ---- the network ----

def layernorm(x, gain, bias, epsilon):  # Ba, Kiros, Hinton 2016
    mean = x.mean(-1, keepdims=True)
    variance = ((x - mean) ** 2).mean(-1, keepdims=True)
    return (x - mean) / jnp.sqrt(variance + epsilon) * gain + bias


def rmsnorm(x, gain, epsilon):  # Zhang, Sennrich 2019
    return x / jnp.sqrt((x * x).mean(-1, keepdims=True) + epsilon) * gain


def rotate(x, positions, theta):
    """Su et al. 2021 on (B, T, H, D); channel i turns together with channel i + D/2."""
    half = x.shape[-1] // 2
    angle = positions[:, :, None, None] * theta ** (-jnp.arange(half) / half)
    real, imaginary = x[..., :half], x[..., half:]
    return jnp.concatenate([real * jnp.cos(angle) - imaginary * jnp.sin(angle),
                            real * jnp.sin(angle) + imaginary * jnp.cos(angle)], -1)


def activate(x, kind):
    if kind == "gelu":  # Hendrycks, Gimpel 2016, with tanh
        return 0.5 * x * (1 + jnp.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x ** 3)))
    if kind == "relu2":  # So et al. 2021
        return jnp.maximum(x, 0) ** 2
    gate, up = jnp.split(x, 2, -1)  # Shazeer 2020
    return gate / (1 + jnp.exp(-gate)) * up


def forward(params, o, batch):
    """Logits (B, T, V)."""
    def norm(name, x):
        if o["norm"] == "rmsnorm":
            return rmsnorm(x, params[f"{name}_w"], o["norm_epsilon"])
        return layernorm(x, params[f"{name}_w"], params.get(f"{name}_b", 0), o["norm_epsilon"])

    def linear(name, x):
        return x @ params[f"{name}_w"].T + params.get(f"{name}_b", 0)

    def heads_norm(name, x):
        return rmsnorm(x, params[f"{name}_norm_w"], o["norm_epsilon"]) if o["qk_norm"] else x

    def attention(block, x):
        head, heads, groups = o["head_dim"], o["heads"], o["kv_heads"]
        q, k, v = jnp.split(linear(f"{block}.qkv", x), [heads * head, (heads + groups) * head], -1)
        q, k, v = (t.reshape(*t.shape[:2], -1, head) for t in (q, k, v))
        q, k = heads_norm(f"{block}.q", q), heads_norm(f"{block}.k", k)
        if o["position"] == "rope":
            q, k = (rotate(t, batch["positions"], o["rope_theta"]) for t in (q, k))
        k, v = (jnp.repeat(t, heads // groups, 2) for t in (k, v))
        scores = jnp.einsum("bqhd,bkhd->bhqk", q, k) / np.sqrt(head)
        index = np.arange(x.shape[1])
        seen = (index[None, None, :] <= index[None, :, None]) & (index >= batch["first_visible"][:, :, None])
        p = jax.nn.softmax(jnp.where(seen[:, None], scores, -jnp.inf), -1)
        return jnp.einsum("bhqk,bkhd->bqhd", p, v).reshape(*x.shape[:2], heads * head)

    x = params["wte"][batch["tokens"]]
    if o["position"] == "learned":
        x = x + params["wpe"][batch["positions"]]
    for layer in range(o["depth"]):
        block = f"h.{layer}"
        x = x + linear(f"{block}.attn_out", attention(block, norm(f"{block}.norm1", x)))
        x = x + linear(f"{block}.mlp_out", activate(linear(f"{block}.mlp_in", norm(f"{block}.norm2", x)), o["mlp"]))
    return norm("norm", x) @ params["wte" if o["tied"] else "head_w"].T


def weighted_loss(params, o, batch):
    """The weighted mean, and losses (B, T) that are 0 where there is no target."""
    logp = jax.nn.log_softmax(forward(params, o, batch), -1)
    targets = batch["targets"]
    picked = jnp.take_along_axis(logp, np.maximum(targets, 0)[..., None], -1)[..., 0]
    losses = jnp.where(targets >= 0, -picked, 0)
    weights = np.where(targets >= 0, batch["weights"], 0)
    return (weights * losses).sum() / weights.sum(), losses


# ---- AdamW ----

def adamw_losses(params, gradient_of):
    """Loshchilov, Hutter 2019: the loss before each step."""
    moments = {name: (np.zeros_like(p), np.zeros_like(p)) for name, p in params.items()}
    losses = []
    for t in range(1, STEPS + 1):
        (loss, _), grads = gradient_of(params)
        losses.append(float(loss))
        moved = {}
        for name, p in params.items():
            g = np.asarray(grads[name])
            m = BETAS[0] * moments[name][0] + (1 - BETAS[0]) * g
            v = BETAS[1] * moments[name][1] + (1 - BETAS[1]) * g * g
            moments[name] = m, v
            direction = m / (1 - BETAS[0] ** t) / (np.sqrt(v / (1 - BETAS[1] ** t)) + EPSILON)
            moved[name] = p - LR * (direction + (DECAY if p.ndim > 1 else 0) * p)
        params = moved
    return np.array(losses)


def torch_adamw_losses(params, gradient_of):
    """The same ten steps by PyTorch's own optimizer."""
    tensors = {name: torch.nn.Parameter(torch.tensor(p)) for name, p in params.items()}
    groups = [dict(params=[p for p in tensors.values() if p.ndim > 1], weight_decay=DECAY),
              dict(params=[p for p in tensors.values() if p.ndim == 1], weight_decay=0.0)]
    optimizer = torch.optim.AdamW(groups, lr=LR, betas=BETAS, eps=EPSILON)
    losses = []
    for _ in range(STEPS):
        (loss, _), grads = gradient_of({name: p.detach().numpy() for name, p in tensors.items()})
        losses.append(float(loss))
        for name, p in tensors.items():
            p.grad = torch.tensor(np.asarray(grads[name]))
        optimizer.step()
    return np.array(losses)


# ---- the same network by transformers ----

def gpt2_model(o, params):
    config = transformers.GPT2Config(
        vocab_size=o["vocab"], n_positions=o["context"], n_embd=o["width"], n_layer=o["depth"], n_head=o["heads"],
        n_inner=o["ffn_width"], layer_norm_epsilon=o["norm_epsilon"], resid_pdrop=0, embd_pdrop=0, attn_pdrop=0,
        attn_implementation="eager", bos_token_id=None, eos_token_id=None)
    names = {"norm1": "ln_1", "norm2": "ln_2", "qkv": "attn.c_attn", "attn_out": "attn.c_proj", "mlp_in": "mlp.c_fc",
             "mlp_out": "mlp.c_proj"}
    state = {"transformer.wte.weight": params["wte"], "transformer.wpe.weight": params["wpe"],
             "transformer.ln_f.weight": params["norm_w"], "transformer.ln_f.bias": params["norm_b"],
             "lm_head.weight": params["wte"]}
    for name, p in params.items():
        if name.startswith("h."):
            _, layer, row = name.split(".")
            module, kind = row.rsplit("_", 1)
            suffix = {"w": "weight", "b": "bias"}[kind]
            state[f"transformer.h.{layer}.{names[module]}.{suffix}"] = p.T  # its linear layers are (in, out)
    return transformers.GPT2LMHeadModel(config), state


def rotary_model(o, params):
    family = "Qwen3" if o["qk_norm"] else "Llama" if o["mlp"] == "swiglu" else "Arcee"
    config = getattr(transformers, f"{family}Config")(
        vocab_size=o["vocab"], hidden_size=o["width"], intermediate_size=o["ffn_width"], num_hidden_layers=o["depth"],
        num_attention_heads=o["heads"], num_key_value_heads=o["kv_heads"], head_dim=o["head_dim"],
        max_position_embeddings=o["context"], rms_norm_eps=o["norm_epsilon"], tie_word_embeddings=o["tied"],
        rope_theta=o["rope_theta"], rope_parameters=dict(rope_type="default", rope_theta=o["rope_theta"]),
        attn_implementation="eager", bos_token_id=None, eos_token_id=None, pad_token_id=None)
    state = {"model.embed_tokens.weight": params["wte"], "model.norm.weight": params["norm_w"],
             "lm_head.weight": params["wte" if o["tied"] else "head_w"]}
    queries, keys = o["heads"] * o["head_dim"], o["kv_heads"] * o["head_dim"]
    for layer in range(o["depth"]):
        def of(name):
            return params[f"h.{layer}.{name}"]

        q, k, v = np.split(of("qkv_w"), [queries, queries + keys])
        block = {"input_layernorm": of("norm1_w"), "post_attention_layernorm": of("norm2_w"),
                 "self_attn.q_proj": q, "self_attn.k_proj": k, "self_attn.v_proj": v,
                 "self_attn.o_proj": of("attn_out_w"), "mlp.down_proj": of("mlp_out_w")}
        if o["mlp"] == "swiglu":
            block["mlp.gate_proj"], block["mlp.up_proj"] = np.split(of("mlp_in_w"), 2)
        else:
            block["mlp.up_proj"] = of("mlp_in_w")
        if o["qk_norm"]:
            block |= {"self_attn.q_norm": of("q_norm_w"), "self_attn.k_norm": of("k_norm_w")}
        state |= {f"model.layers.{layer}.{name}.weight": p for name, p in block.items()}
    return getattr(transformers, f"{family}ForCausalLM")(config), state


@contextlib.contextmanager
def double_throughout():
    """The classes compute norms, angles and softmax in float32 whatever the model's dtype; here that means float64."""
    with contextlib.ExitStack() as patches:
        for owner, attribute, value in ((torch, "float32", torch.float64), (torch, "float", torch.float64),
                                        (torch.Tensor, "float", torch.Tensor.double)):
            patches.enter_context(unittest.mock.patch.object(owner, attribute, value))
        yield


def transformers_logits(o, params, batch):
    """Each document on its own, so that packing is checked too."""
    logits = np.zeros((BATCH, LENGTH, o["vocab"]))
    with double_throughout(), torch.no_grad():
        model, state = (gpt2_model if o["position"] == "learned" else rotary_model)(o, params)
        model = model.double().eval()
        model.load_state_dict({name: torch.tensor(np.ascontiguousarray(p)) for name, p in state.items()}, strict=True)
        for row in range(BATCH):
            starts = np.unique(batch["first_visible"][row])
            for start, end in zip(starts, [*starts[1:], LENGTH]):
                out = model(input_ids=torch.tensor(batch["tokens"][row : row + 1, start:end]),
                            position_ids=torch.tensor(batch["positions"][row : row + 1, start:end]), use_cache=False)
                logits[row, start:end] = out.logits[0].numpy()
    return logits


# ---- files ----

def check(what, ours, theirs):
    difference = float(np.abs(np.asarray(ours) - np.asarray(theirs)).max())
    if not difference <= TOLERANCE:
        sys.exit(f"{what}: differs by {difference:.3g}, more than {TOLERANCE:g}")
    return difference


def make(name, out, index):
    o = MODELS[name]["options"]
    rng = np.random.default_rng([2024, index])
    params = draw_parameters(o, rng)
    batch = draw_batch(o, MODELS[name]["documents"], rng)
    gradient_of = jax.jit(lambda p: jax.value_and_grad(lambda q: weighted_loss(q, o, batch), has_aux=True)(p))

    logits = check(f"{name}: logits", forward(params, o, batch), transformers_logits(o, params, batch))
    steps = adamw_losses(params, gradient_of)
    adamw = check(f"{name}: AdamW", steps, torch_adamw_losses(params, gradient_of))
    (loss, losses), grads = gradient_of(params)

    tensors = params | {f"grad.{key}": np.asarray(grad) for key, grad in grads.items()}
    tensors |= {key: batch[key].astype(np.int32) for key in ("tokens", "targets", "positions", "first_visible")}
    tensors |= {"weights": batch["weights"].astype(np.float32), "losses": np.asarray(losses),
                "loss": np.array([float(loss)]), "adamw.losses": steps}
    path = out / f"{name}.safetensors"
    path.write_bytes(save({key: np.ascontiguousarray(value) for key, value in tensors.items()}))
    (out / f"{name}.json").write_text(json.dumps(o, indent=2) + "\n")
    print(f"{name:13} {path.stat().st_size / 1024:4.0f} KiB  loss {loss:.6f} -> {steps[-1]:.6f}  "
          f"logits within {logits:.1e}, AdamW within {adamw:.1e}")


def main():
    root = pathlib.Path(__file__).resolve().parents[2]
    out = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else root / "tests/fixtures/models"
    out.mkdir(parents=True, exist_ok=True)
    for index, name in enumerate(MODELS):
        make(name, out, index)


if __name__ == "__main__":
    main()
