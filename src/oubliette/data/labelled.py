"""A labelled picture set of anybody's: pictures with one class name each, split into training and test."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from oubliette.core.errors import UserError
from oubliette.data.pictures import PictureSet, read_pictures

TEST_NAMES = ("test", "validation", "valid", "val")
#: Where the set has no test part of its own, this share of every class is held out.
HELD_OUT = 0.1
MOST_CLASSES = 1000


@dataclass(frozen=True)
class LabelledSet:
    """Pictures uint8 (n, side, side, 3) and class numbers int64 (n,), for training and for test."""

    classes: tuple[str, ...]
    pictures: np.ndarray
    labels: np.ndarray
    test_pictures: np.ndarray
    test_labels: np.ndarray

    @property
    def side(self) -> int:
        return int(self.pictures.shape[1])

    def fingerprint(self) -> str:
        """sha256 over classes, labels and pixels of both parts."""
        digest = hashlib.sha256("\0".join(self.classes).encode())
        for array in (self.pictures, self.labels, self.test_pictures, self.test_labels):
            digest.update(f"{array.dtype} {array.shape}".encode())
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()


def read_labelled(path: Path | str, side: int) -> LabelledSet:
    """Reads a parquet file, a folder of parquet files, or a folder of pictures; the caption is the class.

    Files or subfolders called test, validation, valid or val are the test part; where there are none, the
    last tenth of every class, in an order shuffled once for all, is held out. Raises UserError for a set
    without pictures, for a picture without a class, for fewer than two classes, for a class of one picture,
    and for captions that are sentences rather than classes.
    """
    path = Path(path)
    train_parts, test_parts = _parts(path)
    train = [read_pictures(part, side) for part in train_parts]
    test = [read_pictures(part, side) for part in test_parts]
    classes = _classes(path, train)
    number = {name: index for index, name in enumerate(classes)}
    pictures, labels = _joined(train, number, path)
    if test:
        return LabelledSet(classes, pictures, labels, *_joined(test, number, path))
    order = np.random.default_rng(0).permutation(len(labels))
    held = np.zeros(len(labels), dtype=bool)
    for index in range(len(classes)):
        own = order[labels[order] == index]
        held[own[-max(1, round(len(own) * HELD_OUT)) :]] = True
    return LabelledSet(classes, pictures[~held], labels[~held], pictures[held], labels[held])


def _parts(path: Path) -> tuple[list[Path], list[Path]]:
    """The files or folders of the training part and of the test part."""
    if not path.is_dir():
        return [path], []
    files = sorted(path.glob("*.parquet"))
    if files:
        test = [file for file in files if _is_test(file.stem)]
        train = [file for file in files if file not in test]
        if not train:
            raise UserError(f"{path}: only a test part is there ({test[0].name}); a train.parquet is needed")
        return train, test
    folders = [folder for folder in sorted(path.iterdir()) if folder.is_dir()]
    if not (path / "train").is_dir():
        return [path], []
    return [path / "train"], [folder for folder in folders if _is_test(folder.name)]


def _is_test(name: str) -> bool:
    """test.parquet, test-00000-of-00001.parquet, val/ ..."""
    return name.lower().replace("_", "-").split("-")[0] in TEST_NAMES


def _classes(path: Path, parts: list[PictureSet]) -> tuple[str, ...]:
    counts = Counter(" ".join(caption.split()) for part in parts for caption in part.captions)
    total = sum(counts.values())
    if "" in counts:
        raise UserError(
            f"{path}: {counts['']} of {total} pictures have no class; give a text or label column, "
            "a metadata file, or one subfolder a class"
        )
    if "none" in counts:
        raise UserError(f"{path}: a class is called 'none', which is the judge's word for rubbish; rename it")
    if len(counts) > MOST_CLASSES or (len(counts) > 2 and len(counts) * 2 > total):
        raise UserError(
            f"{path}: found {len(counts)} different captions on {total} pictures; a labelled set has one "
            "class name a picture, each for many pictures"
        )
    if len(counts) < 2:
        raise UserError(f"{path}: found the one class {next(iter(counts))!r}; at least two are needed")
    rarest = min(counts, key=lambda name: counts[name])
    if counts[rarest] < 2:
        raise UserError(f"{path}: the class {rarest!r} has one picture; each needs at least two")
    return tuple(sorted(counts))


def _joined(parts: list[PictureSet], number: dict[str, int], path: Path) -> tuple[np.ndarray, np.ndarray]:
    names = [" ".join(caption.split()) for part in parts for caption in part.captions]
    unknown = sorted(set(names) - set(number))
    if unknown:
        raise UserError(
            f"{path}: the test part has the class {unknown[0]!r}, which the training part has not"
        )
    pictures = np.concatenate([part.pictures for part in parts])
    return pictures, np.array([number[name] for name in names], dtype=np.int64)
