"""Choose the held-out prompts: beginnings of functions from packages that are not trained on.

Usage: python prompts.py --heldout heldout.jsonl --out ../eval/prompts.jsonl
"""

import argparse
import json
import random
import re
from collections import defaultdict
from pathlib import Path

SEED = 22
COUNT = 32  # of each language
LENGTHS = (400, 1200)  # characters of context
FUNCTION = {
    "rust": re.compile(r"^ *(pub )?fn \w+[^;{]*\{\n", re.M),
    "python": re.compile(r"^ *def \w+\([^)]*\)[^:\n]*:\n", re.M),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--heldout", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    rng = random.Random(SEED)

    found = defaultdict(lambda: defaultdict(list))
    for line in args.heldout.read_text().splitlines():
        document = json.loads(line)
        if pattern := FUNCTION.get(document["lang"]):
            for match in pattern.finditer(document["text"]):
                if match.end() > LENGTHS[1]:
                    found[document["lang"]][document["package"]].append((document, match.end()))
    with open(args.out, "w") as file:
        for lang, packages in found.items():
            names = sorted(packages)
            for i in range(COUNT):
                document, end = rng.choice(packages[names[i % len(names)]])
                start = document["text"].index("\n", end - rng.randint(*LENGTHS)) + 1
                name, version = document["package"].split()
                prompt = {"lang": lang, "package": name, "version": version, "licence": document["licence"]}
                file.write(json.dumps(prompt | {"text": document["text"][start:end]}) + "\n")


if __name__ == "__main__":
    main()
