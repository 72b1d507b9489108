"""Train the byte-level BPE tokenizer and turn the corpus into token shards.

Writes ``OUT/tokenizer.json``, ``OUT/tokens.N.bin`` (little-endian uint16, documents shuffled and
separated by <|endoftext|>) and ``OUT/heldout.bin``.

Usage: python tokens.py --corpus DIR --out DIR
"""

import argparse
import json
import random
from pathlib import Path

import numpy as np
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

SEED = 20
VOCABULARY = 4096
SHARDS = 2
SAMPLE_CHARACTERS = 60_000_000
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
THINK = ["<think>", "</think>"]
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def train_tokenizer(texts) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    split = pre_tokenizers.Split(Regex(SPLIT), "isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[*SPECIAL, *(AddedToken(t, special=False, normalized=False) for t in THINK)],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def encode(tokenizer: Tokenizer, documents: list[dict]) -> np.ndarray:
    parts, end = [], np.zeros(1, np.uint16)
    for start in range(0, len(documents), 1000):
        batch = [document["text"] for document in documents[start : start + 1000]]
        for encoding in tokenizer.encode_batch_fast(batch, add_special_tokens=False):
            parts += [np.array(encoding.ids, np.uint16), end]
    return np.concatenate(parts)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)

    with open(args.corpus / "corpus.jsonl") as file:
        documents = [json.loads(line) for line in file]
    with open(args.corpus / "heldout.jsonl") as file:
        held_out = [d for d in map(json.loads, file) if d["lang"] in ("rust", "python")]
    marked = [d for d in documents if d["lang"] != "chat" and any(s in d["text"] for s in SPECIAL + THINK)]
    for document in marked:
        documents.remove(document)
    random.Random(SEED).shuffle(documents)

    sample, size = [], 0
    for document in documents:
        if document["lang"] != "chat" and size < SAMPLE_CHARACTERS:
            sample.append(document["text"])
            size += len(document["text"])
    tokenizer = train_tokenizer(sample)
    compact = json.dumps(json.loads(tokenizer.to_str()), ensure_ascii=False, separators=(",", ":"))
    (args.out / "tokenizer.json").write_text(compact)

    characters = sum(len(d["text"]) for d in documents)
    total = 0
    for shard in range(SHARDS):
        tokens = encode(tokenizer, documents[shard::SHARDS])
        tokens.tofile(args.out / f"tokens.{shard}.bin")
        total += len(tokens)
    encode(tokenizer, held_out).tofile(args.out / "heldout.bin")
    print(f"{total} tokens, {characters / total:.2f} characters each")


if __name__ == "__main__":
    main()
