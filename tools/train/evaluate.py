"""Measure how many drafts of the head are accepted, with exact rejection sampling, on the CPU.

Every round drafts DEPTH tokens, verifies them in one trunk pass, accepts x with probability
min(1, p(x) / q(x)) and draws the residual at the first rejection; p and q go through the same
filters. Completes the prompts of PROMPTS (one JSON object a line) and writes counts by depth.

Usage: python evaluate.py ARTIFACT PROMPTS --out acceptance.json --samples completions.md
"""

import argparse
import json
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer

import artifact
from model import Session

SEED = 1
LENGTH = 129
MAX_PROMPT = 256


def distribution(scores: torch.Tensor, sampler: dict) -> np.ndarray:
    """Softmax at the temperature, then top-p (mass before a token below top_p), then top-k."""
    p = torch.softmax(scores.double() / sampler["temperature"], -1).numpy()
    order = np.argsort(-p, kind="stable")
    before = np.cumsum(p[order]) - p[order]
    kept = order[before < sampler["top_p"]][: sampler["top_k"]]
    result = np.zeros_like(p)
    result[kept] = p[kept] / p[kept].sum()
    return result


def complete(item: tuple[int, dict], folder: Path, depth: int, sampler: dict) -> dict:
    """One prompt's completion and, for every depth, how many drafts were made, examined, accepted."""
    torch.set_num_threads(1)
    index, prompt = item
    weights, config = artifact.load(folder)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    stop = set(json.loads((folder / "generation_config.json").read_text())["eos_token_id"])
    rng = np.random.default_rng([SEED, index])

    def draw(p: np.ndarray) -> int:
        return int(rng.choice(len(p), p=p))

    ids = tokenizer.encode(prompt["text"]).ids[-MAX_PROMPT:]
    session = Session(weights, config)
    hidden, scores = session.forward(ids)
    session.commit(len(ids))
    output = [draw(distribution(scores[-1], sampler))]
    counts = {kind: [0] * depth for kind in ("drafted", "examined", "accepted")}
    rounds, history = 0, 0  # history: rows the head has been fed from the trunk
    fed = (hidden, ids[1:] + output)

    while len(output) < LENGTH and not stop & set(output):
        hidden, scores = session.head(*fed)
        history += len(fed[1])
        drafts, laws = [], []
        for j in range(depth):
            laws.append(distribution(scores[-1], sampler))
            drafts.append(draw(laws[-1]))
            counts["drafted"][j] += 1
            if j + 1 < depth:
                hidden, scores = session.head(hidden[-1:], drafts[-1:])
        session.head_rollback(history)

        hidden, scores = session.forward([output[-1], *drafts])
        emitted = []
        for j, (draft, q) in enumerate(zip(drafts, laws)):
            p = distribution(scores[j], sampler)
            counts["examined"][j] += 1
            if rng.random() * q[draft] >= p[draft]:
                residual = np.maximum(p - q, 0)
                emitted.append(draw(residual / residual.sum()))
                break
            counts["accepted"][j] += 1
            emitted.append(draft)
        else:
            emitted.append(draw(distribution(scores[depth], sampler)))
        session.commit(len(emitted))
        rounds += 1
        output += emitted
        fed = (hidden[: len(emitted)], emitted)

    text = tokenizer.decode(output, skip_special_tokens=False)
    return {"rounds": rounds, "tokens": len(output), "completion": text, **counts}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("artifact", type=Path)
    parser.add_argument("prompts", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--samples", type=Path)
    parser.add_argument("--depth", type=int, default=4)
    parser.add_argument("--temperature", type=float, default=0.6)
    parser.add_argument("--jobs", type=int, default=2)
    args = parser.parse_args()

    sampler = {"temperature": args.temperature, "top_p": 0.95, "top_k": 20}
    prompts = [json.loads(line) for line in args.prompts.read_text().splitlines()]
    run = partial(complete, folder=args.artifact, depth=args.depth, sampler=sampler)
    with ProcessPoolExecutor(args.jobs) as pool:
        results = list(pool.map(run, enumerate(prompts)))

    report = {"sampler": sampler, "seed": SEED, "prompts": len(prompts), "max_tokens": LENGTH}
    for lang in ("all", *sorted({prompt["lang"] for prompt in prompts})):
        chosen = [r for r, prompt in zip(results, prompts) if lang in ("all", prompt["lang"])]
        total = {key: sum(r[key] for r in chosen) for key in ("rounds", "tokens")}
        for key in ("drafted", "examined", "accepted"):
            total[key] = np.sum([r[key] for r in chosen], 0).tolist()
        total["cumulative"] = [round(a / b, 4) for a, b in zip(total["accepted"], total["drafted"])]
        total["conditional"] = [round(a / max(b, 1), 4) for a, b in zip(total["accepted"], total["examined"])]
        report[lang] = total
    args.out.write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps(report["all"]))
    if args.samples:
        with open(args.samples, "w") as file:
            for prompt, result in zip(prompts, results):
                file.write(f"## {prompt['package']}\n\n```{prompt['lang']}\n{prompt['text']}")
                file.write(f"<<<>>>{result['completion']}\n```\n\n")


if __name__ == "__main__":
    main()
