"""Master weights in a few flat float32 buffers, and the optimizer that steps them.

A group's tensors lie one after the other, tensors of one shape together, so that rounding, casting
and Muon's orthogonalization are a few launches a step however many layers there are.
"""

import torch
from torch import Tensor

from model import Weights
from quant import bits_of, dequantize, quantize

MATRICES = ("trunk.linear", "head.linear", "head.fc")


def group_of(name: str, tensor: Tensor) -> str:
    part = "head" if name.startswith("mtp.") else "trunk"
    if name == "model.embed_tokens.weight":
        return "embed"
    if bits_of(name, tensor):
        return f"{part}.linear"
    if name == "mtp.fc.weight":
        return "head.fc"
    return f"{part}.dense" if tensor.ndim == 2 else f"{part}.vectors"


@torch.compile(dynamic=False)
def cast(flat: Tensor, bits: int | None, quantized: bool) -> Tensor:
    """The bfloat16 weights to compute with; rounded as the artifact rounds them, if asked."""
    if bits and quantized:
        flat = flat + (dequantize(*quantize(flat, bits)) - flat).detach()
    return flat.bfloat16()


class Masters:
    def __init__(self, w: Weights, device: str):
        names = sorted(w, key=lambda name: (group_of(name, w[name]), w[name].shape, name))
        self.layout: dict[str, list[tuple[str, torch.Size]]] = {}
        for name in names:
            self.layout.setdefault(group_of(name, w[name]), []).append((name, w[name].shape))
        self.flat, self.bits = {}, {}
        for group, entries in self.layout.items():
            first = entries[0][0]
            self.bits[group] = bits_of(first, w[first])
            columns = w["model.embed_tokens.weight"].shape[1] if group == "embed" else 64
            buffer = torch.cat([w[name].float().flatten() for name, _ in entries]).to(device)
            shape = (-1, columns) if self.bits[group] else (-1,)
            self.flat[group] = buffer.view(shape).requires_grad_()

    def split(self, group: str, flat: Tensor) -> Weights:
        entries = self.layout[group]
        pieces = flat.flatten().split([shape.numel() for _, shape in entries])
        return {name: piece.view(shape) for piece, (name, shape) in zip(pieces, entries)}

    def effective(self, quantized: bool, groups=None) -> Weights:
        """Weights to compute with: bfloat16 matrices; norms, decays and convolutions in float32."""
        w = {}
        for group in groups or self.flat:
            flat = self.flat[group]
            if not group.endswith("vectors"):
                flat = cast(flat, self.bits[group], quantized)
            w |= self.split(group, flat)
        return w

    def state(self) -> Weights:
        return {n: t.detach().cpu() for group in self.flat for n, t in self.split(group, self.flat[group]).items()}


@torch.compile(dynamic=False)
def orthogonalize(x: Tensor) -> Tensor:
    """Newton-Schulz iteration towards the nearest semi-orthogonal matrices of a batch."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = x.bfloat16()
    transposed = x.shape[-2] > x.shape[-1]
    if transposed:
        x = x.mT
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(5):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if transposed else x


class Optimizer:
    """Muon for the matrices of the blocks, AdamW for everything else."""

    def __init__(self, masters: Masters, groups: list[str], muon_lr: float, adam_lr: float, decay: float):
        self.masters, self.muon_lr, self.decay = masters, muon_lr, decay
        self.matrices = [group for group in groups if group in MATRICES]
        self.momentum = {group: torch.zeros_like(masters.flat[group]) for group in self.matrices}
        others = [masters.flat[group] for group in groups if group not in MATRICES]
        self.adam_lr = adam_lr
        self.adam = torch.optim.AdamW(others, lr=adam_lr, betas=(0.9, 0.95), weight_decay=0.0, fused=True)

    @torch.no_grad()
    def step(self, factor: float, momentum: float):
        """One step with learning rates scaled by ``factor``."""
        for group in self.adam.param_groups:
            group["lr"] = self.adam_lr * factor
        self.adam.step()
        self.adam.zero_grad(set_to_none=True)
        lr = self.muon_lr * factor
        for group in self.matrices:
            flat, average = self.masters.flat[group], self.momentum[group]
            average.lerp_(flat.grad, 1 - momentum)
            update = torch.lerp(flat.grad, average, momentum).flatten()
            weights, start = flat.view(-1), 0
            weights.mul_(1 - lr * self.decay)
            for shape in dict.fromkeys(shape for _, shape in self.masters.layout[group]):
                count = sum(other == shape for _, other in self.masters.layout[group])
                end = start + count * shape.numel()
                step = orthogonalize(update[start:end].view(count, *shape))
                scale = max(1.0, shape[0] / shape[1]) ** 0.5
                weights[start:end].add_(step.flatten(), alpha=-lr * scale)
                start = end
            flat.grad = None
