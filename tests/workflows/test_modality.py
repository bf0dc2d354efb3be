"""What a model makes is asked in one place; and what each modality brings is all there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import oubliette
from oubliette.core.errors import UserError
from oubliette.eval.pictures.sampling import Sampling
from oubliette.eval.text.decoding import Decoding
from oubliette.workflows.modality import ANSWERS, PICTURES, Modality, modality_of

SOURCE = Path(oubliette.__file__).parent
#: Questions after the kind of model: a comparison, a table, a capability by name.
ASKING = re.compile(
    r"""kind\s*(?:==|!=|in\s*[(\[{])\s*["'](?:diffusion|language)["']"""
    r"""|["']kind["'],\s*None\)\s*(?:==|!=)|["'](?:diffusion|language)["']:\s"""
    r"""|hasattr\([^)]*["'](?:draw|respond)["']\)|\[(?:model|opened|backend)\.kind\]"""
)
#: Where it may be asked, and why.
ALLOWED = {
    "workflows/modality.py": "the one place",
    "backends": "a backend knows what it is",
    "guard/verify/adapter_targets.py": "reads the kind that a mask's file names",
    "erase/__init__.py": "the registry of what prepares data: a backend of another package brings its own",
    "guard/learn/draws.py": "tells data sets from lists of them: rows are drawn, not pictures",
    "workflows/world/check.py": "the embedded world is one of pictures",
}


def test_nowhere_else_is_a_model_asked_for_its_kind() -> None:
    found = [
        f"{path.relative_to(SOURCE)}:{number}: {line.strip()}"
        for path in sorted(SOURCE.rglob("*.py"))
        if not any(path.relative_to(SOURCE).as_posix().startswith(allowed) for allowed in ALLOWED)
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if ASKING.search(line)
    ]
    assert found == []


@pytest.mark.parametrize(
    "line",
    [
        'if model.kind == "diffusion":',
        'if opened.kind != "language":',
        'if getattr(one, "kind", None) != wanted:',
        'TABLE = {"diffusion": draw}',
        'if not hasattr(model, "draw"):',
        "_OPENERS[model.kind](model)",
    ],
)
def test_the_question_is_known_when_it_is_seen(line: str) -> None:
    assert ASKING.search(line)


@pytest.mark.parametrize("modality", [PICTURES, ANSWERS])
def test_each_modality_brings_everything(modality: Modality) -> None:
    from oubliette.audit.read_suite import read_suite
    from oubliette.erase import METHODS

    wanted = {name for name in vars(Modality) if not name.startswith("_")} | set(Modality.__annotations__)
    assert wanted <= set(dir(modality))
    assert modality.method in METHODS.names()
    assert read_suite(modality.suite).name == modality.suite
    how: Any = Sampling() if modality is PICTURES else Decoding()
    tries = modality.tries(how, fixed=True)
    assert {asked for asked, _ in tries} == {how}
    sizes = [size for _, size in tries]
    assert sizes == sorted(set(sizes), reverse=True)
    assert max(sizes) == max(size for _, size in modality.tries(how, fixed=False))
    assert modality.sized(24)["n"] == 24
    assert modality.holding.format(share="4 %", n=8)


class Draws:
    source = "a"

    def draw(self) -> None: ...


class Responds:
    source = "b"

    def respond(self) -> None: ...

    def encode(self) -> None: ...


class Neither:
    source = "c"


def test_a_model_is_what_it_can_do() -> None:
    assert modality_of(Draws()) is PICTURES
    assert modality_of(Responds()) is ANSWERS
    with pytest.raises(UserError, match="c: neither draws nor answers"):
        modality_of(Neither())


def test_a_model_as_it_was_before_is_of_the_same_modality() -> None:
    from oubliette.workflows.check import OriginalView

    nothing: Any = None
    assert modality_of(OriginalView(Draws(), nothing)) is PICTURES
    assert modality_of(OriginalView(Responds(), nothing)) is ANSWERS
