"""The Acme family in float64 numpy, written without a look at the crate: makes fixtures/acme_tiny.

    python3 reference.py fixtures/acme_tiny
"""

import json
import pathlib
import struct
import sys

import numpy as np

CONFIG = {
    "model_type": "acme", "dtype": "float32", "hidden_size": 32, "vocab_size": 64, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 12, "intermediate_size": 40,
    "rms_norm_eps": 1e-5, "rope_theta": 500000.0, "num_nextn_predict_layers": 1,
}
HIDDEN, VOCAB, LAYERS = CONFIG["hidden_size"], CONFIG["vocab_size"], CONFIG["num_hidden_layers"]
HEADS, KV, DIM = CONFIG["num_attention_heads"], CONFIG["num_key_value_heads"], CONFIG["head_dim"]
ROWS, DRAFTS = 24, 4


def weights(rng):
    w = {}
    def linear(name, out, inputs):
        w[name + ".weight"] = rng.normal(0, 1.5 / inputs**0.5, (out, inputs)).astype(np.float32)
    def norm(name, width):
        w[name + ".weight"] = rng.uniform(0.5, 1.5, width).astype(np.float32)
    linear("model.embed_tokens", VOCAB, HIDDEN)
    linear("lm_head", VOCAB, HIDDEN)
    norm("model.norm", HIDDEN)
    for i in range(LAYERS + 1):
        p = f"model.layers.{i}."
        norm(p + "input_layernorm", HIDDEN)
        norm(p + "post_attention_layernorm", HIDDEN)
        for name, heads in (("q", HEADS), ("k", KV), ("v", KV)):
            linear(p + f"self_attn.{name}_proj", heads * DIM, HIDDEN)
        linear(p + "self_attn.o_proj", HIDDEN, HEADS * DIM)
        norm(p + "self_attn.q_norm", DIM)
        norm(p + "self_attn.k_norm", DIM)
        for name, (out, inputs) in {"gate": (40, HIDDEN), "up": (40, HIDDEN), "down": (HIDDEN, 40)}.items():
            linear(p + f"mlp.{name}_proj", out, inputs)
    head = f"model.layers.{LAYERS}."
    linear(head + "eh_proj", HIDDEN, 2 * HIDDEN)
    for name in ("enorm", "hnorm", "shared_head.norm"):
        norm(head + name, HIDDEN)
    return w


def rms(x, weight):
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + CONFIG["rms_norm_eps"]) * weight


def rope(x):  # [rows, heads, dim]: the two halves of a head are the two parts of each pair
    half = DIM // 2
    angles = np.outer(np.arange(len(x)), CONFIG["rope_theta"] ** (-np.arange(half) / half))[:, None]
    a, b = x[..., :half], x[..., half:]
    return np.concatenate([a * np.cos(angles) - b * np.sin(angles), b * np.cos(angles) + a * np.sin(angles)], -1)


def layer(w, p, x):
    n = len(x)
    h = rms(x, w[p + "input_layernorm.weight"])
    q, k, v = ((h @ w[p + f"self_attn.{name}_proj.weight"].T).reshape(n, -1, DIM) for name in "qkv")
    q, k = rope(rms(q, w[p + "self_attn.q_norm.weight"])), rope(rms(k, w[p + "self_attn.k_norm.weight"]))
    mixed = np.zeros((n, HEADS, DIM))
    for head in range(HEADS):
        group = head // (HEADS // KV)
        scores = q[:, head] @ k[:, group].T / DIM**0.5 + np.triu(np.full((n, n), -np.inf), 1)
        scores = np.exp(scores - scores.max(-1, keepdims=True))
        mixed[:, head] = scores / scores.sum(-1, keepdims=True) @ v[:, group]
    x = x + mixed.reshape(n, -1) @ w[p + "self_attn.o_proj.weight"].T
    h = rms(x, w[p + "post_attention_layernorm.weight"])
    gate = h @ w[p + "mlp.gate_proj.weight"].T
    return x + (gate / (1 + np.exp(-gate)) * (h @ w[p + "mlp.up_proj.weight"].T)) @ w[p + "mlp.down_proj.weight"].T


def trunk(w, ids):
    x = w["model.embed_tokens.weight"][ids]
    for i in range(LAYERS):
        x = layer(w, f"model.layers.{i}.", x)
    return rms(x, w["model.norm.weight"])


def head(w, hidden, next_ids):
    p = f"model.layers.{LAYERS}."
    embedding = rms(w["model.embed_tokens.weight"][next_ids], w[p + "enorm.weight"])
    joined = np.concatenate([embedding, rms(hidden, w[p + "hnorm.weight"])], -1)
    return rms(layer(w, p, joined @ w[p + "eh_proj.weight"].T), w[p + "shared_head.norm.weight"])


def save(path, tensors):
    names = {np.dtype("float32"): "F32", np.dtype("int32"): "I32"}
    header, data = {}, b""
    for name, tensor in tensors.items():
        raw = np.ascontiguousarray(tensor).tobytes()
        header[name] = {"dtype": names[tensor.dtype], "shape": tensor.shape, "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def main(folder):
    rng = np.random.default_rng(20261123)
    stored = weights(rng)
    w = {name: tensor.astype(np.float64) for name, tensor in stored.items()}
    logits = lambda hidden: hidden @ w["lm_head.weight"].T
    ids = rng.integers(0, VOCAB, ROWS)
    hidden = trunk(w, ids)
    next_ids = np.append(ids[1:], logits(hidden[-1]).argmax())
    drafted = head(w, hidden, next_ids)
    # Drafts feed the head its own last output and the draft.
    chain, rows, tokens = [], hidden, next_ids
    for _ in range(DRAFTS):
        outputs = head(w, rows, tokens)
        chain.append(logits(outputs[-1]))
        rows, tokens = np.vstack([rows, outputs[-1:]]), np.append(tokens, chain[-1].argmax())
    text = list(ids)
    for _ in range(16):
        text.append(logits(trunk(w, np.array(text))[-1]).argmax())
    golden = {
        "input_ids": ids, "trunk.post_norm": hidden, "trunk.logits": logits(hidden), "mtp.next_ids": next_ids,
        "mtp.post_norm": drafted, "mtp.logits": logits(drafted), "mtp.chain_ids": np.array(chain).argmax(-1),
        "mtp.chain_logits": np.array(chain), "greedy_ids": np.array(text[ROWS:]),
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(CONFIG, indent=1) + "\n")
    save(folder / "model.safetensors", stored)
    kinds = {"i": np.int32, "f": np.float32}
    save(folder / "golden.safetensors", {name: value.astype(kinds[value.dtype.kind]) for name, value in golden.items()})


main(pathlib.Path(sys.argv[1]))
