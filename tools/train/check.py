"""Compare the GPU path, forward and backward, with the plain float32 functions it replaces.

Exits with an error if any gradient differs by more than bfloat16 rounding explains: Triton has
miscompiled the gated delta rule on some GPUs before.

Usage: python check.py
"""

import sys

import torch

import fast
import model
from model import Config, init_weights, mtp_depths, trunk

ROWS, DEPTH, TOLERANCE = 256, 3, 0.06


def gradients(w, ids, probes, ops, dtype):
    c = Config()
    leaves = {name: tensor.cuda().requires_grad_() for name, tensor in w.items()}
    matrices = {n: t if t.ndim != 2 else t.to(dtype) for n, t in leaves.items()}
    hidden = trunk(matrices, ids[:, :ROWS], c, ops)
    outputs = [hidden, *mtp_depths(matrices, hidden, ids[:, 1:], DEPTH, c, ops)]
    sum((out.float() * probe).sum() for out, probe in zip(outputs, probes)).backward()
    return {f"output {i}": out.detach().float() for i, out in enumerate(outputs)} | {
        name: leaf.grad for name, leaf in leaves.items()
    }


def main():
    torch.manual_seed(0)
    w = {
        n: torch.randn_like(t) * 0.03 if t.ndim == 2 and not t.any() else t
        for n, t in init_weights(Config(), 0).items()
    }
    w = {n: t.bfloat16().float() if t.ndim == 2 else t for n, t in w.items()}
    ids = torch.randint(Config().vocab_size, (2, ROWS + DEPTH), device="cuda")
    probes = [torch.randn(2, ROWS, Config().hidden_size, device="cuda") for _ in range(DEPTH + 1)]
    exact = gradients(w, ids, probes, model.REFERENCE, torch.float32)
    plain = gradients(w, ids, probes, model.REFERENCE, torch.bfloat16)
    quick = gradients(w, ids, probes, fast.FAST, torch.bfloat16)

    def error(a, b):
        return ((a - b).norm() / b.norm()).item()

    worst = sorted(((error(quick[n], exact[n]), error(plain[n], exact[n]), n) for n in exact), reverse=True)
    print("relative error of the GPU path, of plain bfloat16, tensor")
    for row in worst[:12] + worst[-3:]:
        print("{:.5f} {:.5f} {}".format(*row))
    sys.exit(not all(quick <= max(TOLERANCE, 2 * plain) for quick, plain, _ in worst))


if __name__ == "__main__":
    main()
