#!/usr/bin/env python3
"""Does mlx-lm load an artifact's trunk unchanged, and give the same logits?

usage: mlx_lm_check.py ARTIFACT EXPECTED.safetensors [--tolerance 2e-4]
       mlx_lm_check.py ARTIFACT EXPECTED.safetensors --save FILE

EXPECTED holds `input_ids` [n] and `trunk.logits` [n, vocab], as `mtplx parity` takes them. Needs mlx-lm 0.32.2 on MLX 0.32.4
(`pip install mlx-lm==0.32.2 'mlx[cpu]==0.32.4'`). Prints one JSON line; exit status 1 beyond the tolerance. With --save, writes
mlx-lm's own logits in the same form instead, and `mtplx parity ARTIFACT FILE` compares with those: `cargo xtask test mlx-lm`
does so with tests/fixtures.

Loading is strict: a tensor that mlx-lm does not know, or one that is missing, is an error.
"""
import argparse
import json
import sys
from pathlib import Path

import mlx.core as mx
from mlx_lm.utils import load_model


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("artifact", type=Path)
    arguments.add_argument("expected", type=Path)
    arguments.add_argument("--tolerance", type=float, default=2e-4)
    arguments.add_argument("--save", type=Path)
    arguments = arguments.parse_args()

    # Where f32 products are f32.
    mx.set_default_device(mx.cpu)
    model, _ = load_model(arguments.artifact, strict=True)
    expected = mx.load(str(arguments.expected))
    logits = model(expected["input_ids"][None])[0].astype(mx.float32)
    if arguments.save:
        # The logits of EXPECTED may be those of other weights.
        mx.save_safetensors(str(arguments.save), {"input_ids": expected["input_ids"], "trunk.logits": logits})
        return
    reference = expected["trunk.logits"].astype(mx.float32)
    difference = mx.abs(logits - reference)
    largest = mx.max(difference).item()
    report = {
        "artifact": arguments.artifact.name,
        "largest": largest,
        "mean": mx.mean(difference).item(),
        "same_argmax": mx.mean((mx.argmax(logits, -1) == mx.argmax(reference, -1)).astype(mx.float32)).item(),
    }
    print(json.dumps(report))
    sys.exit(largest > arguments.tolerance)


if __name__ == "__main__":
    main()
