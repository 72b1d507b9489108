"""A Qwen3.5-class language model with an MTP head, as plain functions over a dict of tensors.

The dict ``w`` uses the names and layouts of the MLX artifact without the ``language_model.``
prefix: zero-centred norms are stored as ``1 + w``, convolutions as [channels, taps, 1]. The same
functions serve training (whole sequences), evaluation and the reference dump (with a cache).
"""

import math
from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

Weights = dict[str, Tensor]


@dataclass(frozen=True)
class Config:
    vocab_size: int = 4096
    hidden_size: int = 384
    intermediate_size: int = 640
    num_hidden_layers: int = 16
    full_attention_interval: int = 4
    num_attention_heads: int = 6
    num_key_value_heads: int = 2
    head_dim: int = 64
    partial_rotary_factor: float = 0.25
    rope_theta: float = 10_000.0
    rms_norm_eps: float = 1e-6
    linear_num_key_heads: int = 3
    linear_num_value_heads: int = 6
    linear_key_head_dim: int = 64
    linear_value_head_dim: int = 64
    linear_conv_kernel_dim: int = 4
    max_position_embeddings: int = 2048

    @classmethod
    def from_json(cls, config: dict) -> "Config":
        text = config["text_config"]
        values = {key: text[key] for key in asdict(cls()) if key in text}
        return cls(**values, rope_theta=text["rope_parameters"]["rope_theta"])

    def is_attention(self, layer: int) -> bool:
        return (layer + 1) % self.full_attention_interval == 0

    @property
    def rotary_dim(self) -> int:
        return int(self.head_dim * self.partial_rotary_factor)

    @property
    def conv_channels(self) -> int:
        keys = self.linear_num_key_heads * self.linear_key_head_dim
        return 2 * keys + self.linear_num_value_heads * self.linear_value_head_dim


def init_weights(c: Config, seed: int) -> Weights:
    """Fresh float32 weights; residual outputs start at zero."""
    generator = torch.Generator().manual_seed(seed)
    w: Weights = {}

    def linear(name: str, rows: int, columns: int, gain: float = 0.7):
        w[name] = torch.randn(rows, columns, generator=generator) * gain / math.sqrt(columns)

    def block(prefix: str, attention: bool):
        hidden = c.hidden_size
        for norm in ("input_layernorm", "post_attention_layernorm"):
            w[f"{prefix}.{norm}.weight"] = torch.ones(hidden)
        if attention:
            p, width = f"{prefix}.self_attn", c.num_attention_heads * c.head_dim
            linear(f"{p}.q_proj.weight", 2 * width, hidden)
            linear(f"{p}.k_proj.weight", c.num_key_value_heads * c.head_dim, hidden)
            linear(f"{p}.v_proj.weight", c.num_key_value_heads * c.head_dim, hidden)
            linear(f"{p}.o_proj.weight", hidden, width, 0.0)
            w[f"{p}.q_norm.weight"] = torch.ones(c.head_dim)
            w[f"{p}.k_norm.weight"] = torch.ones(c.head_dim)
        else:
            p, heads = f"{prefix}.linear_attn", c.linear_num_value_heads
            width = heads * c.linear_value_head_dim
            linear(f"{p}.in_proj_qkv.weight", c.conv_channels, hidden)
            linear(f"{p}.in_proj_z.weight", width, hidden)
            linear(f"{p}.in_proj_a.weight", heads, hidden)
            linear(f"{p}.in_proj_b.weight", heads, hidden)
            linear(f"{p}.out_proj.weight", hidden, width, 0.0)
            bound = 1 / math.sqrt(c.linear_conv_kernel_dim)
            taps = torch.rand(c.conv_channels, c.linear_conv_kernel_dim, 1, generator=generator)
            w[f"{p}.conv1d.weight"] = (2 * taps - 1) * bound
            w[f"{p}.A_log"] = torch.empty(heads).uniform_(1, 16, generator=generator).log()
            step = torch.exp(torch.empty(heads).uniform_(math.log(1e-3), math.log(0.1), generator=generator))
            w[f"{p}.dt_bias"] = step + torch.log(-torch.expm1(-step))  # softplus(dt_bias) = step
            w[f"{p}.norm.weight"] = torch.ones(c.linear_value_head_dim)
        linear(f"{prefix}.mlp.gate_proj.weight", c.intermediate_size, hidden)
        linear(f"{prefix}.mlp.up_proj.weight", c.intermediate_size, hidden)
        linear(f"{prefix}.mlp.down_proj.weight", hidden, c.intermediate_size, 0.0)

    w["model.embed_tokens.weight"] = torch.randn(c.vocab_size, c.hidden_size, generator=generator) * 0.02
    for layer in range(c.num_hidden_layers):
        block(f"model.layers.{layer}", c.is_attention(layer))
    w["model.norm.weight"] = torch.ones(c.hidden_size)
    linear("mtp.fc.weight", c.hidden_size, 2 * c.hidden_size)
    block("mtp.layers.0", attention=True)
    for norm in ("pre_fc_norm_embedding", "pre_fc_norm_hidden", "norm"):
        w[f"mtp.{norm}.weight"] = torch.ones(c.hidden_size)
    return w


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    y = x.float()
    y = y * torch.rsqrt(y.square().mean(-1, keepdim=True) + eps)
    return (y * weight.float()).to(x.dtype)


def l2_norm(x: Tensor) -> Tensor:
    y = x.float()
    return (y * torch.rsqrt(y.square().sum(-1, keepdim=True) + 1e-6)).to(x.dtype)


def rotate(x: Tensor, positions: Tensor, c: Config) -> Tensor:
    """Rotary embedding of the first ``rotary_dim`` entries of each head; x is [batch, row, head, dim]."""
    half = c.rotary_dim // 2
    exponents = torch.arange(half, device=x.device, dtype=torch.float32) / half
    angles = positions.float()[..., None] * c.rope_theta**-exponents
    cos, sin = angles.cos()[..., None, :], angles.sin()[..., None, :]
    a, b, rest = x.float().split([half, half, c.head_dim - 2 * half], -1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin, rest], -1).to(x.dtype)


def mlp(w: Weights, prefix: str, x: Tensor, c: Config) -> Tensor:
    """The second half of a block: x + ffn(norm(x))."""
    y = rms_norm(x, w[f"{prefix}.post_attention_layernorm.weight"], c.rms_norm_eps)
    gate, up = y @ w[f"{prefix}.mlp.gate_proj.weight"].T, y @ w[f"{prefix}.mlp.up_proj.weight"].T
    return x + (F.silu(gate) * up) @ w[f"{prefix}.mlp.down_proj.weight"].T


def attention_inputs(w: Weights, prefix: str, x: Tensor, positions: Tensor, c: Config):
    """q, k, v as [batch, row, head, dim] and the output gate as [batch, row, width]."""
    p = f"{prefix}.self_attn"
    y = rms_norm(x, w[f"{prefix}.input_layernorm.weight"], c.rms_norm_eps)
    q = (y @ w[f"{p}.q_proj.weight"].T).unflatten(-1, (c.num_attention_heads, 2 * c.head_dim))
    q, gate = q.chunk(2, -1)
    k = (y @ w[f"{p}.k_proj.weight"].T).unflatten(-1, (c.num_key_value_heads, c.head_dim))
    v = (y @ w[f"{p}.v_proj.weight"].T).unflatten(-1, (c.num_key_value_heads, c.head_dim))
    q = rotate(rms_norm(q, w[f"{p}.q_norm.weight"], c.rms_norm_eps), positions, c)
    k = rotate(rms_norm(k, w[f"{p}.k_norm.weight"], c.rms_norm_eps), positions, c)
    return q, k, v, gate.flatten(-2)


def attention_output(w: Weights, prefix: str, x: Tensor, mixed: Tensor, gate: Tensor, c: Config) -> Tensor:
    """Gate, project, add the residual, and run the block's MLP; mixed is [batch, row, head, dim]."""
    y = mixed.flatten(-2) * torch.sigmoid(gate)
    return mlp(w, prefix, x + y @ w[f"{prefix}.self_attn.o_proj.weight"].T, c)


def causal_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Causal grouped attention; the rows of q are the last rows of k."""
    rows, columns = q.shape[1], k.shape[1]
    mask = None
    if rows != columns:
        mask = torch.ones(rows, columns, dtype=torch.bool, device=q.device).tril(columns - rows)
    q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
    mixed = F.scaled_dot_product_attention(q, k, v, mask, is_causal=mask is None, enable_gqa=True)
    return mixed.transpose(1, 2)


def delta_inputs(w: Weights, prefix: str, x: Tensor, c: Config, history: Tensor | None = None):
    """What the gated delta rule takes, [batch, row, head, dim]: q, k, v, log decay, beta; then z
    and the convolution's input with its history in front."""
    p = f"{prefix}.linear_attn"
    y = rms_norm(x, w[f"{prefix}.input_layernorm.weight"], c.rms_norm_eps)
    qkv = y @ w[f"{p}.in_proj_qkv.weight"].T
    z = y @ w[f"{p}.in_proj_z.weight"].T
    a = (y @ w[f"{p}.in_proj_a.weight"].T).float()
    beta = torch.sigmoid(y @ w[f"{p}.in_proj_b.weight"].T)
    g = -w[f"{p}.A_log"].float().exp() * F.softplus(a + w[f"{p}.dt_bias"].float())

    taps, rows = c.linear_conv_kernel_dim, qkv.shape[1]
    if history is None:
        history = qkv.new_zeros(qkv.shape[0], taps - 1, qkv.shape[2])
    padded = torch.cat([history, qkv], 1)
    kernel = w[f"{p}.conv1d.weight"].squeeze(-1).float()
    mixed = F.silu(sum(padded[:, i : i + rows].float() * kernel[:, i] for i in range(taps))).to(x.dtype)

    keys = c.linear_num_key_heads * c.linear_key_head_dim
    q, k, v = mixed.split([keys, keys, mixed.shape[-1] - 2 * keys], -1)
    q = l2_norm(q.unflatten(-1, (c.linear_num_key_heads, c.linear_key_head_dim)))
    k = l2_norm(k.unflatten(-1, (c.linear_num_key_heads, c.linear_key_head_dim)))
    v = v.unflatten(-1, (c.linear_num_value_heads, c.linear_value_head_dim))
    return q, k, v.contiguous(), g, beta, z, padded


def delta_output(w: Weights, prefix: str, x: Tensor, mixed: Tensor, z: Tensor, c: Config) -> Tensor:
    """Gated norm, projection, residual, and the block's MLP; mixed is [batch, row, head, dim]."""
    p = f"{prefix}.linear_attn"
    y = rms_norm(mixed, w[f"{p}.norm.weight"], c.rms_norm_eps)
    y = (y * F.silu(z.unflatten(-1, mixed.shape[-2:]).float())).to(x.dtype)
    return mlp(w, prefix, x + y.flatten(-2) @ w[f"{p}.out_proj.weight"].T, c)


def delta_step(state: Tensor, q: Tensor, k: Tensor, v: Tensor, g: Tensor, beta: Tensor):
    """One row of the gated delta rule; state is [batch, value head, value dim, key dim], float32."""
    repeat = v.shape[1] // k.shape[1]
    q = q.float().repeat_interleave(repeat, 1) * q.shape[-1] ** -0.5
    k = k.float().repeat_interleave(repeat, 1)
    state = state * g.float().exp()[..., None, None]
    error = (v.float() - torch.einsum("bhvk,bhk->bhv", state, k)) * beta.float()[..., None]
    state = state + error[..., None] * k[..., None, :]
    return torch.einsum("bhvk,bhk->bhv", state, q).to(v.dtype), state


def delta_rule(q: Tensor, k: Tensor, v: Tensor, g: Tensor, beta: Tensor) -> Tensor:
    """The gated delta rule from a zero state, row by row: the definition the fast kernels must match."""
    state = torch.zeros(v.shape[0], *v.shape[2:], q.shape[-1], device=v.device)
    rows = []
    for t in range(v.shape[1]):
        out, state = delta_step(state, q[:, t], k[:, t], v[:, t], g[:, t], beta[:, t])
        rows.append(out)
    return torch.stack(rows, 1)


def layer_weights(w: Weights, prefix: str) -> Weights:
    """One layer's weights under the prefix "x", so that compiled functions serve every layer."""
    return {f"x{name.removeprefix(prefix)}": w[name] for name in w if name.startswith(prefix + ".")}


def trunk(w: Weights, ids: Tensor, c: Config, ops=None) -> Tensor:
    """Post-norm hidden states of whole sequences, [batch, row, hidden]. ``ops`` may name faster
    functions for delta_inputs, delta_rule, delta_output, attention_inputs and attention_output."""
    ops = ops or REFERENCE
    x = F.embedding(ids, w["model.embed_tokens.weight"])
    positions = torch.arange(ids.shape[1], device=ids.device)
    for layer in range(c.num_hidden_layers):
        own = layer_weights(w, f"model.layers.{layer}")
        if c.is_attention(layer):
            q, k, v, gate = ops.attention_inputs(own, "x", x, positions, c)
            x = ops.attention_output(own, "x", x, causal_attention(q, k, v), gate, c)
        else:
            q, k, v, g, beta, z, _ = ops.delta_inputs(own, "x", x, c)
            x = ops.delta_output(own, "x", x, ops.delta_rule(q, k, v, g, beta), z, c)
    return rms_norm(x, w["model.norm.weight"], c.rms_norm_eps)


def logits(w: Weights, hidden: Tensor) -> Tensor:
    return hidden @ w["model.embed_tokens.weight"].T


def mtp_fuse(w: Weights, hidden: Tensor, ids: Tensor, c: Config) -> Tensor:
    embedding = F.embedding(ids, w["model.embed_tokens.weight"])
    embedding = rms_norm(embedding, w["mtp.pre_fc_norm_embedding.weight"], c.rms_norm_eps)
    hidden = rms_norm(hidden, w["mtp.pre_fc_norm_hidden.weight"], c.rms_norm_eps)
    return torch.cat([embedding, hidden], -1) @ w["mtp.fc.weight"].T


def branch_attention(q: Tensor, keys: list[Tensor], values: list[Tensor]) -> Tensor:
    """Attention of draft rows, one branch a row: row t sees the first depth's rows up to t, and of
    every later depth the row of its own branch, t."""
    rows, depth = q.shape[1], len(keys)
    repeat = q.shape[2] // keys[0].shape[2]
    k = torch.stack([x.repeat_interleave(repeat, 2) for x in keys], 1)
    v = torch.stack([x.repeat_interleave(repeat, 2) for x in values], 1)
    scores = torch.einsum("bqhd,bjkhd->bhqjk", q.float(), k.float()) * q.shape[-1] ** -0.5
    index = torch.arange(rows, device=q.device)
    visible = torch.stack([index[:, None] >= index] + [index[:, None] == index] * (depth - 1), 1)
    weights = scores.masked_fill(~visible, -torch.inf).flatten(-2).softmax(-1).unflatten(-1, (depth, rows))
    return torch.einsum("bhqjk,bjkhd->bqhd", weights, v.float()).to(q.dtype)


def mtp_depths(w: Weights, hidden: Tensor, ids: Tensor, depth: int, c: Config, ops=None) -> list[Tensor]:
    """The head unrolled as drafting unrolls it, for a branch at every row of known text.

    ``hidden`` [batch, rows, hidden] are the trunk's post-norm rows, ``ids`` [batch, rows + depth]
    the tokens from the second on: row t at depth j is fed ids[t + j - 1] and predicts
    ids[t + j]. Returns the post-norm hidden states of every depth."""
    ops = ops or REFERENCE
    rows = hidden.shape[1]
    own = layer_weights(w, "mtp.layers.0")
    index = torch.arange(rows, device=ids.device)
    keys, values, outputs = [], [], []
    for j in range(depth):
        x = mtp_fuse(w, hidden, ids[:, j : j + rows], c)
        q, k, v, gate = ops.attention_inputs(own, "x", x, index + j, c)
        keys.append(k)
        values.append(v)
        mixed = causal_attention(q, k, v) if j == 0 else ops.branch_attention(q, keys, values)
        x = ops.attention_output(own, "x", x, mixed, gate, c)
        hidden = rms_norm(x, w["mtp.norm.weight"], c.rms_norm_eps)
        outputs.append(hidden)
    return outputs


class REFERENCE:
    """The plain versions, for CPU and for checking faster ones."""

    attention_inputs = staticmethod(attention_inputs)
    attention_output = staticmethod(attention_output)
    branch_attention = staticmethod(branch_attention)
    delta_inputs = staticmethod(delta_inputs)
    delta_output = staticmethod(delta_output)
    delta_rule = staticmethod(delta_rule)


class Session:
    """Incremental decoding of one sequence, trunk and head, with rollback."""

    def __init__(self, w: Weights, c: Config):
        self.w, self.c = w, c
        self.length = 0
        self.cache: list = [None] * c.num_hidden_layers
        self.head_kv: list[Tensor] = []

    def forward(self, ids: list[int]) -> tuple[Tensor, Tensor]:
        """Run the trunk over new tokens; returns post-norm hidden states and logits, a row each."""
        w, c = self.w, self.c
        tokens = torch.tensor([ids])
        x = F.embedding(tokens, w["model.embed_tokens.weight"])
        positions = torch.arange(self.length, self.length + len(ids))
        for layer in range(c.num_hidden_layers):
            prefix, cache = f"model.layers.{layer}", self.cache[layer]
            if c.is_attention(layer):
                q, k, v, gate = attention_inputs(w, prefix, x, positions, c)
                if cache is not None:
                    k, v = torch.cat([cache[0], k], 1), torch.cat([cache[1], v], 1)
                self.cache[layer] = (k, v)
                x = attention_output(w, prefix, x, causal_attention(q, k, v), gate, c)
            else:
                history, states = cache or (None, None)
                q, k, v, g, beta, z, padded = delta_inputs(w, prefix, x, c, history)
                shape = (1, c.linear_num_value_heads, c.linear_value_head_dim, c.linear_key_head_dim)
                states = [states if states is not None else torch.zeros(shape)]
                rows = []
                for t in range(len(ids)):
                    row, state = delta_step(states[-1], q[:, t], k[:, t], v[:, t], g[:, t], beta[:, t])
                    rows.append(row)
                    states.append(state)
                self.cache[layer] = (padded, states)
                x = delta_output(w, prefix, x, torch.stack(rows, 1), z, c)
        hidden = rms_norm(x, w["model.norm.weight"], c.rms_norm_eps)
        self.pending = len(ids)
        return hidden[0], logits(w, hidden)[0]

    def commit(self, rows: int):
        """Keep the first ``rows`` of the last forward's rows; forget the others."""
        taps = self.c.linear_conv_kernel_dim
        for layer, (a, b) in enumerate(self.cache):
            if self.c.is_attention(layer):
                end = self.length + rows
                self.cache[layer] = (a[:, :end], b[:, :end])
            else:
                self.cache[layer] = (a[:, rows : rows + taps - 1], b[rows])
        self.length += rows

    def head(self, hidden: Tensor, ids: list[int]) -> tuple[Tensor, Tensor]:
        """Append rows to the head's history; returns post-norm hidden states and logits, a row each."""
        w, c = self.w, self.c
        start = self.head_kv[0].shape[1] if self.head_kv else 0
        x = mtp_fuse(w, hidden[None], torch.tensor([ids]), c)
        positions = torch.arange(start, start + len(ids))
        q, k, v, gate = attention_inputs(w, "mtp.layers.0", x, positions, c)
        if self.head_kv:
            k, v = torch.cat([self.head_kv[0], k], 1), torch.cat([self.head_kv[1], v], 1)
        self.head_kv = [k, v]
        x = attention_output(w, "mtp.layers.0", x, causal_attention(q, k, v), gate, c)
        hidden = rms_norm(x, w["mtp.norm.weight"], c.rms_norm_eps)
        return hidden[0], logits(w, hidden)[0]

    def head_rollback(self, rows: int):
        self.head_kv = [x[:, :rows] for x in self.head_kv]
