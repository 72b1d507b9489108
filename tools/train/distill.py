"""Teach the head the trunk's own distribution, the trunk frozen as the artifact stores it.

Half of the text is sampled from the trunk, half comes from the corpus. At every row a branch of
DEPTH drafts is unrolled as inference unrolls it. The loss is the negative expected number of
accepted drafts, the sum over depths of the product of the overlaps sum(min(p, q)), plus the
cross-entropy of q against p at every depth. Replaces the head of the artifact in OUT.

Usage: python distill.py --run OUT_OF_TRAIN --tokens tokens.*.bin --minutes 4 --sample-minutes 0.7
"""

import argparse
import csv
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

import artifact
from fast import FAST, compiled
from masters import Masters, Optimizer
from model import Config, Weights, delta_step, layer_weights, logits, mtp_depths, rms_norm, trunk
from train import Tokens

SEED = 21
ROWS = 1024
BATCH = 64
DEPTH = 4
SAMPLES, PROMPT = 1024, 48  # sequences sampled at a time; tokens of corpus text that start each
TEMPERATURE, TOP_P, TOP_K = 0.6, 0.95, 20
MUON_LR, ADAM_LR = 0.01, 1e-3
WARMUP_STEPS = 50
DECAY_FROM = 0.4


def filtered(scores: Tensor) -> tuple[Tensor, Tensor]:
    """The TOP_K likeliest tokens and their probabilities after temperature, top-p and top-k."""
    p = torch.softmax(scores.float() / TEMPERATURE, -1)
    top, tokens = p.topk(TOP_K, -1)
    top = top * (top.cumsum(-1) - top < TOP_P)
    return tokens, top / top.sum(-1, keepdim=True)


step_rule = compiled(delta_step)


@compiled
def masked(scores: Tensor, hidden: Tensor) -> Tensor:
    scores = scores.float() * Config.head_dim**-0.5
    return scores.masked_fill(hidden, -torch.inf).softmax(-1).to(torch.bfloat16)


class Sampler:
    """Samples many sequences at once; one CUDA graph holds the step."""

    def __init__(self, w: Weights, c: Config):
        self.w, self.c = w, c
        self.position = torch.zeros(1, dtype=torch.int64, device="cuda")
        self.ids = torch.zeros(SAMPLES, ROWS + DEPTH, dtype=torch.int64, device="cuda")
        self.columns = torch.arange(self.ids.shape[1], device="cuda")
        self.cache = [self.new_cache(layer) for layer in range(c.num_hidden_layers)]
        self.graph = torch.cuda.CUDAGraph()
        stream = torch.cuda.Stream()
        with torch.no_grad(), torch.cuda.stream(stream):
            for _ in range(3):
                self.step()
        torch.cuda.current_stream().wait_stream(stream)
        with torch.no_grad(), torch.cuda.graph(self.graph):
            self.step()

    def new_cache(self, layer: int) -> list[Tensor]:
        c, options = self.c, {"device": "cuda", "dtype": torch.bfloat16}
        if c.is_attention(layer):
            shape = (SAMPLES, c.num_key_value_heads, self.ids.shape[1], c.head_dim)
            return [torch.zeros(shape, **options), torch.zeros(shape, **options)]
        state = (SAMPLES, c.linear_num_value_heads, c.linear_value_head_dim, c.linear_key_head_dim)
        history = (SAMPLES, c.linear_conv_kernel_dim - 1, c.conv_channels)
        return [torch.zeros(history, **options), torch.zeros(state, device="cuda")]

    def step(self):
        """Read the token at ``position``; write the next one unless it is part of the prompt."""
        w, c = self.w, self.c
        x = F.embedding(self.ids.index_select(1, self.position), w["model.embed_tokens.weight"])
        for layer, (a, b) in enumerate(self.cache):
            own = layer_weights(w, f"model.layers.{layer}")
            if c.is_attention(layer):
                q, k, v, gate = FAST.attention_inputs(own, "x", x, self.position, c)
                a.index_copy_(2, self.position, k.transpose(1, 2))
                b.index_copy_(2, self.position, v.transpose(1, 2))
                q = q.squeeze(1).unflatten(1, (c.num_key_value_heads, -1))
                scores = masked(q @ a.mT, self.columns > self.position)
                mixed = (scores @ b).flatten(1, 2).unsqueeze(1)
                x = FAST.attention_output(own, "x", x, mixed, gate, c)
            else:
                q, k, v, g, beta, z, padded = FAST.delta_inputs(own, "x", x, c, a)
                mixed, state = step_rule(b, q[:, 0], k[:, 0], v[:, 0], g[:, 0], beta[:, 0])
                a.copy_(padded[:, 1:])
                b.copy_(state)
                x = FAST.delta_output(own, "x", x, mixed.unsqueeze(1), z, c)
        hidden = rms_norm(x[:, 0], w["model.norm.weight"], c.rms_norm_eps)
        tokens, p = filtered(logits(w, hidden))
        noise = -torch.log(torch.rand_like(p).clamp_min(1e-20))
        chosen = tokens.gather(1, (p / noise.clamp_min(1e-20)).argmax(-1, keepdim=True))
        following = self.position + 1
        given = self.ids.index_select(1, following)
        self.ids.index_copy_(1, following, torch.where(following < PROMPT, given, chosen))
        self.position.add_(1)

    @torch.no_grad()
    def sample(self, prompts: Tensor) -> Tensor:
        for layer, (a, b) in enumerate(self.cache):
            if not self.c.is_attention(layer):
                a.zero_()
                b.zero_()
        self.position.zero_()
        self.ids[:, :PROMPT] = prompts
        for _ in range(self.ids.shape[1] - 1):
            self.graph.replay()
        return self.ids.to(torch.int16)


@compiled
def teacher(hidden: Tensor, embedding: Tensor) -> tuple[Tensor, Tensor]:
    return filtered(hidden @ embedding.T)


@compiled
def overlap(draft: Tensor, embedding: Tensor, tokens: Tensor, p: Tensor) -> tuple[Tensor, Tensor]:
    """sum(min(p, q)) and the cross-entropy of q against p, a row each; q has the temperature only."""
    scores = (draft @ embedding.T).float() / TEMPERATURE
    log_q = scores.gather(-1, tokens) - scores.logsumexp(-1, keepdim=True)
    return torch.minimum(p, log_q.exp()).sum(-1), -(p * log_q).sum(-1)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--tokens", type=Path, nargs="+", required=True)
    parser.add_argument("--minutes", type=float, required=True)
    parser.add_argument("--sample-minutes", type=float, required=True)
    args = parser.parse_args()
    torch.manual_seed(SEED)

    c, saved = Config(), torch.load(args.run / "masters.pt")
    masters = Masters(saved, "cuda")
    trunk_groups = [group for group in masters.flat if not group.startswith("head.")]
    head_groups = [group for group in masters.flat if group.startswith("head.")]
    with torch.no_grad():
        frozen = masters.effective(True, trunk_groups)
    embedding = frozen["model.embed_tokens.weight"]
    corpus = Tokens(sorted(args.tokens), ROWS + DEPTH, SEED)

    begun, samples = time.time(), []
    sampler = Sampler(frozen, c)
    started = time.time()
    while time.time() - started < 60 * args.sample_minutes:
        samples.append(sampler.sample(corpus.batch(SAMPLES)[:, :PROMPT]).clone())
        torch.cuda.synchronize()
    del sampler
    samples = torch.cat(samples)
    print(
        f"{samples.numel()} tokens sampled in {time.time() - started:.0f} s after {started - begun:.0f} s", flush=True
    )

    optimizer = Optimizer(masters, head_groups, MUON_LR, ADAM_LR, 0.0)
    order = torch.empty(0, dtype=torch.int64, device="cuda")
    log = csv.writer(open(args.run / "distill.csv", "w", buffering=1), lineterminator="\n")
    columns = [f"{kind}{depth}" for kind in ("overlap", "cross_entropy") for depth in range(1, DEPTH + 1)]
    log.writerow(["step", "seconds", "factor", "text", *columns])
    averages: dict[str, Tensor] = {}
    step, start = 0, None
    while True:
        if step == 6:
            torch.cuda.synchronize()
            start = time.time()
        elapsed = time.time() - start if start else 0.0
        progress = elapsed / (60 * args.minutes)
        if progress >= 1:
            break
        factor = min(1.0, (step + 1) / WARMUP_STEPS, (1 - progress) / (1 - DECAY_FROM))
        text = "sampled" if step % 2 else "corpus"
        if text == "corpus":
            ids = corpus.batch(BATCH)
        else:
            if len(order) < BATCH:
                order = torch.randperm(len(samples), device="cuda")
            ids, order = samples[order[:BATCH]].long(), order[BATCH:]

        with torch.no_grad():
            hidden = trunk(frozen, ids, c, FAST)
            tokens, p = teacher(hidden, embedding)
        w = frozen | masters.effective(True, head_groups)
        drafts = mtp_depths(w, hidden[:, :ROWS], ids[:, 1:], DEPTH, c, FAST)
        overlaps, entropies = [], []
        for depth, draft in enumerate(drafts, 1):
            span = slice(depth, depth + ROWS)
            shared, entropy = overlap(draft, embedding, tokens[:, span], p[:, span])
            overlaps.append(shared)
            entropies.append(entropy.mean())
        accepted = torch.stack(overlaps).cumprod(0).mean((1, 2)).sum()
        (sum(entropies) / DEPTH - accepted).backward()
        optimizer.step(factor, momentum=0.95)
        step += 1

        current = torch.stack([a.mean() for a in overlaps] + entropies).detach()
        averages[text] = torch.lerp(averages.get(text, current), current, 0.05)
        if step % 50 < 2 and step > 2:
            values = [f"{x:.4f}" for x in averages[text].tolist()]
            log.writerow([step, f"{elapsed:.1f}", f"{factor:.3f}", text, *values])
            if step % 500 < 2:
                print(step, f"{elapsed:.0f}", text, *values, flush=True)

    print(f"{step} steps, {step * BATCH * ROWS} tokens", {k: v.tolist() for k, v in averages.items()}, flush=True)
    state = masters.state()
    torch.save(state, args.run / "masters_distilled.pt")
    artifact.save(args.run / "artifact", state, c)


if __name__ == "__main__":
    main()
