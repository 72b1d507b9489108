"""Write the values that a runtime must reproduce for an artifact, from its dequantized weights.

Tensors: input_ids, trunk.post_norm, trunk.logits, mtp.next_ids, mtp.logits, mtp.post_norm,
mtp.chain_ids, mtp.chain_logits (greedy drafts at depth 1 to 4 after the last row). Computed in float32.

Usage: python reference.py ARTIFACT --out golden.safetensors
"""

import argparse
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer

import artifact
from model import Session, logits, mtp_depths, trunk

TEXT = """fn factorial(n: u64) -> u64 {
    if n == 0 {
        1
    } else {
        n * factorial(n - 1)
    }
}
"""
CHAIN = 4


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("artifact", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()

    weights, config = artifact.load(args.artifact)
    ids = Tokenizer.from_file(str(args.artifact / "tokenizer.json")).encode(TEXT).ids
    hidden = trunk(weights, torch.tensor([ids]), config)
    scores = logits(weights, hidden)[0]
    following = ids[1:] + [int(scores[-1].argmax())]
    draft = mtp_depths(weights, hidden, torch.tensor([following]), 1, config)[0]

    session = Session(weights, config)
    state, table = session.head(hidden[0], following)
    chain_ids, chain_logits = [], []
    while True:
        chain_logits.append(table[-1])
        chain_ids.append(int(table[-1].argmax()))
        if len(chain_ids) == CHAIN:
            break
        state, table = session.head(state[-1:], chain_ids[-1:])

    save_file(
        {
            "input_ids": torch.tensor(ids, dtype=torch.int32),
            "trunk.post_norm": hidden[0].contiguous(),
            "trunk.logits": scores,
            "mtp.next_ids": torch.tensor(following, dtype=torch.int32),
            "mtp.logits": logits(weights, draft)[0],
            "mtp.post_norm": draft[0].contiguous(),
            "mtp.chain_ids": torch.tensor(chain_ids, dtype=torch.int32),
            "mtp.chain_logits": torch.stack(chain_logits),
        },
        args.out,
    )


if __name__ == "__main__":
    main()
