"""Train trunk and MTP head together; the second half of the run rounds weights as the artifact will.

The learning rate is constant, then falls linearly to zero; progress is measured in wall time, so
that a run fills the time it is given. Writes ``OUT/train.csv`` and an artifact ``OUT/artifact``.

Usage: python train.py --tokens tokens.*.bin --heldout heldout.bin --minutes 10 --out OUT
"""

import argparse
import csv
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

import artifact
from fast import FAST, compiled
from masters import Masters, Optimizer
from model import Config, Weights, init_weights, mtp_depths, trunk

SEED = 20
ROWS = 2048
BATCH = 32
HEAD_DEPTH = 3
HEAD_BATCH = 8  # sequences of a batch on which the head is trained
HEAD_WEIGHTS = (0.3, 0.2, 0.15)
MUON_LR, ADAM_LR, DECAY = 0.02, 3e-3, 0.05
WARMUP_STEPS = 100
DECAY_FROM = 0.45  # of the run: where the learning rate starts to fall
QUANTIZE_FROM = 0.6


class Tokens:
    """Random windows of the corpus, which is one long tensor on the GPU. Every epoch cuts it anew."""

    def __init__(self, paths: list[Path], length: int, seed: int):
        data = np.concatenate([np.fromfile(path, np.uint16) for path in paths])
        self.data = torch.from_numpy(data.astype(np.int16)).cuda()
        self.length, self.window = length, torch.arange(length, device="cuda")
        self.generator = torch.Generator().manual_seed(seed)
        self.starts = torch.empty(0, dtype=torch.int64)

    def batch(self, size: int) -> Tensor:
        if len(self.starts) < size:
            offset = torch.randint(self.length, (1,), generator=self.generator)
            count = (len(self.data) - self.length) // self.length
            order = torch.randperm(count, generator=self.generator)
            self.starts = order * self.length + offset
        starts, self.starts = self.starts[:size], self.starts[size:]
        starts = starts.pin_memory().cuda(non_blocking=True)
        return self.data[starts[:, None] + self.window].long()


@compiled
def next_token_loss(hidden: Tensor, embedding: Tensor, targets: Tensor) -> Tensor:
    scores = (hidden @ embedding.T).flatten(0, 1).float()
    return F.cross_entropy(scores, targets.flatten())


def losses(w: Weights, ids: Tensor, c: Config, head_batch: int) -> list[Tensor]:
    """Mean cross-entropy of the trunk, then of the head at every depth on the first ``head_batch``."""
    embedding, rows = w["model.embed_tokens.weight"], ids.shape[1] - HEAD_DEPTH - 1
    hidden = trunk(w, ids[:, :rows], c, FAST)
    result = [next_token_loss(hidden, embedding, ids[:, 1 : rows + 1])]
    drafts = mtp_depths(w, hidden[:head_batch], ids[:head_batch, 1:-1], HEAD_DEPTH, c, FAST)
    for depth, draft in enumerate(drafts, 2):
        result.append(next_token_loss(draft, embedding, ids[:head_batch, depth : depth + rows]))
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=Path, nargs="+", required=True)
    parser.add_argument("--heldout", type=Path, required=True)
    parser.add_argument("--minutes", type=float, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(SEED)

    c = Config()
    tokens = Tokens(sorted(args.tokens), ROWS + HEAD_DEPTH + 1, SEED)
    held_out = Tokens([args.heldout], ROWS + HEAD_DEPTH + 1, SEED).batch(BATCH)
    masters = Masters(init_weights(c, SEED), "cuda")
    optimizer = Optimizer(masters, list(masters.flat), MUON_LR, ADAM_LR, DECAY)

    def held_out_losses() -> list[float]:
        with torch.no_grad():
            return [loss.item() for loss in losses(masters.effective(True), held_out, c, HEAD_BATCH)]

    log = csv.writer(open(args.out / "train.csv", "w", buffering=1), lineterminator="\n")
    log.writerow(["step", "seconds", "tokens", "factor", "quantized", "split", "trunk", "head1", "head2", "head3"])
    step, average, start, begun = 0, None, None, time.time()
    while True:
        if step == 5:  # what comes before is compilation
            held_out_losses()
            torch.cuda.synchronize()
            start = time.time()
            print(f"compiled in {start - begun:.0f} s", flush=True)
        elapsed = time.time() - start if start else 0.0
        progress = elapsed / (60 * args.minutes)
        if progress >= 1:
            break
        factor = min(1.0, (step + 1) / WARMUP_STEPS, (1 - progress) / (1 - DECAY_FROM))
        quantized = progress >= QUANTIZE_FROM

        result = losses(masters.effective(quantized), tokens.batch(BATCH), c, HEAD_BATCH)
        total = result[0] + sum(weight * loss for weight, loss in zip(HEAD_WEIGHTS, result[1:]))
        total.backward()
        optimizer.step(factor, momentum=min(0.95, 0.85 + step / 3000))
        step += 1

        current = torch.stack(result).detach()
        average = current if average is None else torch.lerp(average, current, 0.05)
        if step % 50 == 0:
            row = [step, f"{elapsed:.1f}", step * BATCH * ROWS, f"{factor:.3f}", int(quantized)]
            log.writerow([*row, "train", *(f"{x:.4f}" for x in average.tolist())])
            if step % 500 == 0:
                scores = [f"{x:.4f}" for x in held_out_losses()]
                log.writerow([*row, "heldout", *scores])
                print(*row, *scores, flush=True)

    elapsed = time.time() - start
    scores = [f"{x:.4f}" for x in held_out_losses()]
    log.writerow([step, f"{elapsed:.1f}", step * BATCH * ROWS, "0.000", 1, "heldout", *scores])
    print(f"{step} steps, {step * BATCH * ROWS} tokens, {elapsed:.0f} s, held out {scores}", flush=True)
    artifact.save(args.out / "artifact", masters.state(), c)
    torch.save(masters.state(), args.out / "masters.pt")


if __name__ == "__main__":
    main()
