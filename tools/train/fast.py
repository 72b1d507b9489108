"""The GPU versions of model.py's functions: compiled pieces around Triton's chunked gated delta rule."""

import functools

import fla.ops.gated_delta_rule.chunk as fla_chunk
import torch
from fla.ops.gated_delta_rule import chunk_gated_delta_rule
from torch import Tensor
from torch.nn.attention.flex_attention import create_block_mask, flex_attention

import model

compiled = functools.partial(torch.compile, dynamic=False)


@compiled
def chunk_gradients(q, k, v, do, h, dh, w, g, dv, scale, chunk_size=64):
    """Gradients within each chunk, of q, k, w and the (base 2) log decay, as batched products.

    Takes the place of a Triton kernel that Triton 3.4 to 3.7.0 miscompile for Hopper GPUs and that
    flash-linear-attention therefore refuses to run there. Shapes are [batch, row, head, dim]; h and
    dh are [batch, chunk, value head, key dim, value dim], the state a chunk starts from and the
    gradient of the state it ends with."""
    batch, rows, key_heads, _ = q.shape
    value_heads = v.shape[2]

    def chunks(x: Tensor) -> Tensor:  # [batch, chunk, head, row, dim]
        x = x.repeat_interleave(value_heads // x.shape[2], 2)
        return x.unflatten(1, (-1, chunk_size)).transpose(2, 3)

    def unchunk(x: Tensor) -> Tensor:
        return x.transpose(2, 3).flatten(1, 2)

    dtype = q.dtype
    q, k, v, do, dv = map(chunks, (q, k, v, do, dv))
    g = g.unflatten(1, (-1, chunk_size)).transpose(2, 3).float()
    last = g[..., -1:]
    ht, dht = h.to(dtype).transpose(-1, -2), dh.to(dtype).transpose(-1, -2)

    dw = -(dv.to(dtype) @ ht)
    dq = (do @ ht).float() * torch.exp2(g)[..., None] * scale
    dk = (v @ dht).float() * torch.exp2(last - g)[..., None]
    dlast = (h.float() * dh.float()).sum((-1, -2)) * torch.exp2(last[..., 0]) + (dk * k).sum((-1, -2))
    index = torch.arange(chunk_size, device=q.device)
    decay = torch.exp2((g[..., :, None] - g[..., None, :]).masked_fill(index[:, None] < index, -torch.inf))
    ds = ((do @ v.transpose(-1, -2)).float() * decay * scale).to(dtype)
    dq = dq + (ds @ k).float()
    dk = dk + (ds.transpose(-1, -2) @ q).float()
    dg = (dq * q).sum(-1) - (dk * k).sum(-1)
    dg = dg + torch.where(index == chunk_size - 1, dlast[..., None], 0.0)

    if key_heads != value_heads:
        dq = dq.unflatten(2, (key_heads, -1)).sum(3)
        dk = dk.unflatten(2, (key_heads, -1)).sum(3)
    return unchunk(dq).to(dtype), unchunk(dk).to(dtype), unchunk(dw).to(w.dtype), dg.transpose(2, 3).flatten(1, 2)


def chunk_bwd_dqkwg(q, k, v, do, h, dh, w=None, g=None, dv=None, scale=None, chunk_size=64, **_):
    return chunk_gradients(q, k, v, do, h, dh, w, g, dv, scale, chunk_size)


fla_chunk.chunk_bwd_dqkwg = chunk_bwd_dqkwg


def delta_rule(q: Tensor, k: Tensor, v: Tensor, g: Tensor, beta: Tensor) -> Tensor:
    return chunk_gated_delta_rule(q, k, v, g, beta)[0]


@functools.cache
def branch_mask(rows: int, depth: int):
    def visible(batch, head, query, key):
        row = key % rows
        return torch.where(key < rows, row <= query, row == query)

    return create_block_mask(visible, None, None, rows, rows * depth, device="cuda")


flex = compiled(flex_attention)


def branch_attention(q: Tensor, keys: list[Tensor], values: list[Tensor]) -> Tensor:
    k, v = torch.cat(keys, 1).transpose(1, 2), torch.cat(values, 1).transpose(1, 2)
    mask = branch_mask(q.shape[1], len(keys))
    return flex(q.transpose(1, 2), k, v, block_mask=mask, enable_gqa=True).transpose(1, 2)


class FAST:
    attention_inputs = compiled(model.attention_inputs)
    attention_output = compiled(model.attention_output)
    branch_attention = staticmethod(branch_attention)
    delta_inputs = compiled(model.delta_inputs)
    delta_output = compiled(model.delta_output)
    delta_rule = staticmethod(delta_rule)
