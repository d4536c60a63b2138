"""Classify image files: python main.py photo.jpg ..."""

import sys

from classifier import Classifier
from read_image import read_image


def main(paths: list[str]) -> int:
    """Print the five best labels of each file; 1 when one could not be classified."""
    if not paths:
        print("usage: python main.py IMAGE...", file=sys.stderr)
        return 2
    model, failed = Classifier(), 0
    for path in paths:
        try:
            found = model.classify(read_image(path))
        except Exception as error:  # a decoder fed with rubbish raises anything
            print(f"{path}: {error or type(error).__name__}", file=sys.stderr)
            failed = 1
            continue
        print(path)
        for label, score in found:
            print(f"{score:8.2%}  {label}")
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
