"""Draw the training curves from the log of train.py.

Usage: python plot.py train.csv --out curves.svg
"""

import argparse
import csv
from pathlib import Path

import matplotlib

matplotlib.use("svg")
from matplotlib import pyplot


def read(path: Path) -> list[dict]:
    with open(path) as file:
        return list(csv.DictReader(file))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("log", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()

    figure, axes = pyplot.subplots(figsize=(6, 3.2), constrained_layout=True)
    for name, label in (("trunk", "next token"), ("head1", "head, depth 1"), ("head3", "head, depth 3")):
        points = {split: [] for split in ("train", "heldout")}
        for row in read(args.log):
            points[row["split"]].append((int(row["tokens"]) / 1e6, float(row[name])))
        (line,) = axes.plot(*zip(*points["train"]), label=label)
        axes.plot(*zip(*points["heldout"]), "o", color=line.get_color())
    axes.set(xlabel="million tokens", ylabel="cross-entropy (dots: held out)", ylim=(1, 4))
    axes.legend()
    figure.savefig(args.out)


if __name__ == "__main__":
    main()
