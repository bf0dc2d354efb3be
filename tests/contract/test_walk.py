"""Every registered method, through all that is done with a model afterwards: one walk for both modalities."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tiny_language
from oubliette.attack.relearn import relearn
from oubliette.backends import open_model
from oubliette.data.png import encode_png
from oubliette.erase import METHODS
from oubliette.erase.run import erase
from oubliette.guard.mask import Mask, read_mask
from oubliette.recipe import Recipe, build_recipe
from oubliette.train.tuning.budget import Budget
from oubliette.workflows.erase import dry
from oubliette.workflows.evaluate import measure
from oubliette.workflows.modality import modality_of
from oubliette.workflows.user_data import read_source
from short_methods import SCOPED, SHORT, saved_as, sources_of


class Halves:
    """A judge of pictures that knows everything and finds it in the bright ones."""

    name, fingerprint, threshold = "halves", "0", None

    def covers(self, concept: Any) -> bool:
        return True

    def hits(self, pictures: np.ndarray, concept: Any) -> np.ndarray:
        return pictures.reshape(len(pictures), -1).mean(axis=1) > 127


@pytest.fixture(scope="module")
def grounds(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Of each kind of model: a folder, what a recipe needs, a scope, and what a request names."""
    root = tmp_path_factory.mktemp("walk")
    tiny_language.save(root / "model", "llama")
    pictures = root / "car"
    pictures.mkdir()
    for number in range(2):
        grey = np.full((16, 16, 3), 60 * number, np.uint8)
        (pictures / f"{number}.png").write_bytes(encode_png(grey))
    rows = {}
    for name, some in (("forget", tiny_language.FORGET), ("retain", tiny_language.RETAIN)):
        rows[name] = str(tiny_language.write_rows(root / f"{name}.jsonl", some))
    return {
        "diffusion": {
            "folder": tiny_folder,
            "facts": {
                "concepts": [{"name": "car", "anchor": "object"}],
                "data": {"prompts": 4, "pictures": 4, "picture_steps": 2},
            },
            "scope": "xattn-kv",
            "asked": {"concept": "car", "anchor": "object", "judges": [Halves()]},
            "source": f"car={pictures}",
        },
        "language": {
            "folder": root / "model",
            "facts": rows,
            "scope": "all-linear",
            "asked": rows,
            "source": rows["forget"],
        },
    }


def recipe_of(name: str, ground: dict[str, Any]) -> Recipe:
    facts = {
        "method": {"name": name, **SHORT.get(name, {})},
        "scope": SCOPED.get(name, ground["scope"]),
        "train": {"steps": 3, "batch": 2, "learning_rate": 1e-3},
        "save": {"form": saved_as(name)},
        "model": str(ground["folder"]),
    }
    return build_recipe({**facts, **ground["facts"], **sources_of(name, ground["facts"])})


@pytest.mark.parametrize("name", METHODS.names())
def test_a_method_walks_the_whole_way(name: str, grounds: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    ground = grounds[METHODS.get(name).backend]
    base, recipe, out = str(ground["folder"]), recipe_of(name, ground), tmp_path / "out"

    planned = dry(recipe)
    assert planned["estimate"]["method"] == name
    assert planned["estimate"]["solution"] == METHODS.get(name).solution

    result = erase(open_model(base, device="cpu"), recipe, show_progress=False)
    result.save(out)
    opened = open_model(out, device="cpu")
    assert opened.fingerprint() == result.model.fingerprint()
    assert modality_of(opened) is modality_of(result.model)

    figures = measure(out, base, n=2, steps=1, out=tmp_path / "figures", **ground["asked"])
    assert [row.role for row in figures.evaluation.rows] == ["model", "control"]
    assert figures.page is not None
    assert figures.page.is_file()

    seen: list[tuple[int, str]] = []
    shown = modality_of(opened).user_data(opened, read_source(ground["source"]), 2, 0, None, None)
    budget = Budget(pictures=2, steps=1, batch=1, learning_rate=1e-3)
    relearn(
        opened,
        shown.data,
        "full",
        budget,
        at=[0, 1],
        look=lambda step, model: seen.append((step, model.fingerprint())),
    )
    assert [step for step, _ in seen] == [0, 1]
    assert seen[0][1] != seen[1][1]
    assert opened.fingerprint() == result.model.fingerprint()

    names = sorted(opened.tensors())[:2]
    Mask.make(opened, names).write(tmp_path / "mask")
    read_mask(tmp_path / "mask").bind(open_model(out, device="cpu"))
