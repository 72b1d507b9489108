"""MLX's affine group quantization: rounding, packing, and the straight-through version to train with."""

import torch
from torch import Tensor

from model import Weights

GROUP = 64
EMBEDDING_BITS = 8
LINEAR_BITS = 4
UNQUANTIZED = ("mtp.fc.weight", "in_proj_a.weight", "in_proj_b.weight", "conv1d.weight")


def bits_of(name: str, weight: Tensor) -> int | None:
    """How many bits a tensor is stored in, None if it is not quantized."""
    if weight.ndim != 2 or name.endswith(UNQUANTIZED):
        return None
    return EMBEDDING_BITS if name == "model.embed_tokens.weight" else LINEAR_BITS


def quantize(weight: Tensor, bits: int) -> tuple[Tensor, Tensor, Tensor]:
    """Codes [rows, columns], and bfloat16-valued scales and biases [rows, groups], all float32:
    weight = scale * code + bias. The end of the range with the larger magnitude is exact, as is zero."""
    levels = 2**bits - 1
    groups = weight.detach().float().unflatten(-1, (-1, GROUP))
    low, high = groups.amin(-1), groups.amax(-1)
    scale = ((high - low) / levels).clamp_min(1e-7)
    low_is_edge = low.abs() > high.abs()
    scale = torch.where(low_is_edge, scale, -scale)
    edge = torch.where(low_is_edge, low, high)
    steps = torch.round(edge / scale)
    scale = torch.where(steps != 0, edge / steps, scale)
    bias = torch.where(steps != 0, edge, 0.0)
    scale, bias = scale.bfloat16().float(), bias.bfloat16().float()
    codes = torch.round((groups - bias[..., None]) / scale[..., None]).clamp(0, levels)
    return codes.flatten(-2), scale, bias


def dequantize(codes: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    groups = codes.unflatten(-1, (scale.shape[-1], -1))
    return (groups * scale[..., None] + bias[..., None]).flatten(-2)


def fake_quantize(weight: Tensor, bits: int) -> Tensor:
    """The rounded weight, with the gradient passed straight through."""
    return weight + (dequantize(*quantize(weight, bits)) - weight).detach()


def rounded(w: Weights) -> Weights:
    """All weights as the artifact stores them: quantized, or in bfloat16 (A_log stays float32)."""
    result = {}
    for name, weight in w.items():
        bits = bits_of(name, weight)
        if bits:
            result[name] = fake_quantize(weight, bits)
        else:
            result[name] = weight if name.endswith("A_log") else weight + (weight.bfloat16().float() - weight).detach()
    return result


def pack(codes: Tensor, bits: int) -> Tensor:
    """Codes as unsigned 32-bit words, the first code in the lowest bits."""
    fields = codes.to(torch.int64).unflatten(-1, (-1, 32 // bits))
    shifts = torch.arange(0, 32, bits, device=codes.device)
    words = (fields << shifts).sum(-1)
    return words.to(torch.uint32)


def unpack(words: Tensor, bits: int) -> Tensor:
    shifts = torch.arange(0, 32, bits, device=words.device)
    return ((words.to(torch.int64)[..., None] >> shifts) & (2**bits - 1)).flatten(-2).float()
