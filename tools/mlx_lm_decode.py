#!/usr/bin/env python3
"""How fast does mlx-lm decode an artifact's trunk?

usage: mlx_lm_decode.py ARTIFACT [ARTIFACT ...] [--context 512]

The other side of `mtplx bench decode ARTIFACT --depths 0 --contexts 512`. Needs mlx-lm 0.32.2 and an MLX for the device. One JSON
line each: tokens a second in three stretches of 32, behind `context` tokens and ten more. The prompt is fed token by token, so that
few kernels are compiled.
"""
import argparse
import json
import time
from pathlib import Path

import mlx.core as mx
from mlx_lm.generate import generate_step
from mlx_lm.utils import load_model

STRETCH, STRETCHES, WARM_UP = 32, 3, 10


def decode(model, context):
    """The times at which new tokens came."""
    tokens = WARM_UP + STRETCH * STRETCHES
    steps = generate_step(mx.array([1] * context), model, max_tokens=tokens, prefill_step_size=1)
    return [time.perf_counter() for _ in steps]


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("artifact", type=Path, nargs="+")
    arguments.add_argument("--context", type=int, default=512)
    arguments = arguments.parse_args()
    for artifact in arguments.artifact:
        model, _ = load_model(artifact)
        came = decode(model, arguments.context)[WARM_UP - 1 :: STRETCH]
        rates = [round(STRETCH / (after - before), 1) for before, after in zip(came, came[1:])]
        print(json.dumps({"artifact": str(artifact), "context": arguments.context, "tok_s": rates}), flush=True)
        del model
        mx.clear_cache()


if __name__ == "__main__":
    main()
