#!/usr/bin/env python3
"""How fast mlx-lm decodes shapes that docs/benchmarks.md names, with random 4-bit weights.

usage: mlx_lm_decode.py [4b] [27b] [--context 512]

Needs mlx and mlx-lm (0.32.2) for the device. One JSON line a shape: tokens a second in three stretches of 32, behind
`context` tokens and ten more. The prompt is fed token by token, so that few kernels are compiled.
"""
import argparse
import json
import time

import mlx.core as mx
import mlx.nn as nn
from mlx_lm.generate import generate_step
from mlx_lm.models import qwen3_5

STRETCH, STRETCHES, WARM_UP = 32, 3, 10

# As `mtplx forge synth --like qwen3.5-4b` and `qwen3.6-27b` write them.
SHARED = {
    "model_type": "qwen3_5", "rms_norm_eps": 1e-6, "vocab_size": 248320, "num_key_value_heads": 4, "head_dim": 256,
    "linear_num_key_heads": 16, "linear_key_head_dim": 128, "linear_value_head_dim": 128, "linear_conv_kernel_dim": 4,
    "full_attention_interval": 4,
}
SHAPES = {
    "4b": {
        "hidden_size": 2560, "intermediate_size": 9216, "num_hidden_layers": 32, "num_attention_heads": 16,
        "linear_num_value_heads": 32, "tie_word_embeddings": True,
    },
    "27b": {
        "hidden_size": 5120, "intermediate_size": 17408, "num_hidden_layers": 64, "num_attention_heads": 24,
        "linear_num_value_heads": 48, "tie_word_embeddings": False,
    },
}


def build(shape):
    model = qwen3_5.TextModel(qwen3_5.TextModelArgs.from_dict(SHARED | SHAPES[shape]))
    model.set_dtype(mx.bfloat16)
    nn.quantize(model, group_size=64, bits=4)
    mx.eval(model.parameters())
    return model


def decode(model, context):
    """The times at which new tokens came."""
    tokens = WARM_UP + STRETCH * STRETCHES
    steps = generate_step(mx.array([1] * context), model, max_tokens=tokens, prefill_step_size=1)
    return [time.perf_counter() for _ in steps]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shapes", nargs="*", default=list(SHAPES), choices=SHAPES)
    parser.add_argument("--context", type=int, default=512)
    args = parser.parse_args()
    for shape in args.shapes:
        came = decode(build(shape), args.context)
        marks = came[WARM_UP - 1 :: STRETCH]
        rates = [STRETCH / (after - before) for before, after in zip(marks, marks[1:])]
        print(json.dumps({"shape": shape, "context": args.context, "tok_s": [round(rate, 1) for rate in rates]}), flush=True)
        mx.clear_cache()


if __name__ == "__main__":
    main()
