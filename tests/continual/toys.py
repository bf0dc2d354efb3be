"""A labelled set small enough to learn in a second: one colour a class, with noise."""

import numpy as np

from oubliette.continual.run import Settings
from oubliette.data.labelled import LabelledSet

SMALL = {
    "tasks": "3x2",
    "side": 8,
    "widths": [8, 8],
    "epochs": 2,
    "batch": 4,
    "replay": 4,
    "buffer": 6,
    "fisher_rows": 4,
    "learning_rate": 0.05,
}


def toy(classes=6, train=8, test=4, side=8):
    rng = np.random.default_rng(0)
    colours = rng.integers(40, 215, size=(classes, 3))

    def part(each):
        labels = np.repeat(np.arange(classes), each)
        noise = rng.normal(0, 25, size=(len(labels), side, side, 3))
        pictures = np.clip(colours[labels][:, None, None] + noise, 0, 255).astype(np.uint8)
        order = rng.permutation(len(labels))
        return pictures[order], labels[order].astype(np.int64)

    return LabelledSet(tuple(f"class {i}" for i in range(classes)), *part(train), *part(test))


def settings(**changes):
    return Settings(**{**SMALL, **changes})
