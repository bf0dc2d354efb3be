"""The class protocol: reading its tables, figures by hand, and a transformers classifier end to end."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import THINGS, ToyJudge, ToyModel
from hypothesis import given
from hypothesis import strategies as st
from tiny_judges import classifier_folder, clip_folder

from oubliette.core.errors import UserError
from oubliette.data.concept import Concept
from oubliette.eval.pictures.classifier_judge import ClassifierJudge
from oubliette.eval.protocols.classes import (
    IMAGENETTE,
    ClassResult,
    ClassRow,
    class_figures,
    class_protocol,
    read_classes,
)
from oubliette.eval.sample_store import SampleStore
from oubliette.eval.statistics import Rate

HEADER = "case_number,prompt,evaluation_seed,class\n"
TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20).filter(str.strip)
ROWS = [ClassRow(n, f"an image of a {n}", 10 * i, i) for i, n in enumerate(["car", "truck", "boat"] * 4)]
OTHERS = [name for name in THINGS if name != "car"]


def written(folder: Path, content: str | bytes) -> Path:
    path = folder / "classes.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_the_fields_own_layouts(tmp_path: Path) -> None:
    esd = HEADER + "0,an image of a French horn,2219,French horn\n"
    assert read_classes(written(tmp_path, esd)) == [
        ClassRow("French horn", "an image of a French horn", 2219, 0)
    ]
    salun = "\ufeff,prompt,classidx,case_number,evaluation_seed\r\n0,an image of church,497,0.0,4068\r\n\r\n"
    assert read_classes(written(tmp_path, salun)) == [ClassRow("church", "an image of church", 4068, 0)]
    short = "class,seed,prompt\ntench,5,a tench\n"
    assert read_classes(written(tmp_path, short)) == [ClassRow("tench", "a tench", 5, None)]
    assert len(IMAGENETTE) == 10


@given(
    st.lists(st.tuples(TEXT, TEXT, st.integers(0, 2**63 - 1), st.integers(0, 10**9)), min_size=1, max_size=8)
)
def test_what_is_written_comes_back(tmp_path_factory: pytest.TempPathFactory, rows: list[Any]) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(["class", "prompt", "evaluation_seed", "case_number"])
    writer.writerows(rows)
    path = written(tmp_path_factory.getbasetemp(), text.getvalue())
    wanted = [
        ClassRow(" ".join(name.split()), prompt.strip(), seed, case) for name, prompt, seed, case in rows
    ]
    assert read_classes(path) == wanted


@given(st.binary(max_size=120))
def test_rubbish_is_refused_and_never_crashes(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    with pytest.raises(UserError, match=r"classes\.csv"):
        read_classes(written(tmp_path_factory.getbasetemp(), content))


@given(st.text(max_size=60))
def test_any_row_is_read_or_named(tmp_path_factory: pytest.TempPathFactory, row: str) -> None:
    path = written(tmp_path_factory.getbasetemp(), HEADER.encode() + row.encode("utf-8", "replace"))
    try:
        assert all(found.name and found.prompt for found in read_classes(path))
    except UserError:
        return


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("prompt,evaluation_seed\na,1\n", "no column 'class'; found prompt, evaluation_seed"),
        ("prompt,class\na,b\n", "no column 'evaluation_seed'"),
        ("text,class,seed\na,b,1\n", "no column 'prompt'"),
        (HEADER + "0,a car,1,car\n1,,2,car\n", r"classes\.csv, line 3: the prompt is empty"),
        (HEADER + "0,a car,1, \n", "line 2: the class is empty"),
        (HEADER + "0,a car,x,car\n", "line 2: evaluation_seed must be a whole number, found 'x'"),
        (HEADER + "x,a car,1,car\n", "line 2: case_number must be a whole number"),
        (HEADER + "0,a car,-1,car\n", "evaluation_seed must lie in"),
        ("prompt,seed,classidx\na,1,3\n", "line 2: classidx 3 is no Imagenette class"),
        (HEADER, "no rows"),
    ],
)
def test_mistakes_are_named(content: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        read_classes(written(tmp_path, content))


def test_figures_by_hand() -> None:
    hits = {"a": np.array([True, False, False, False]), "b": np.ones(4, bool), "c": np.array([True, False])}
    found = class_figures("j", hits, ["a"])
    assert (found.erased, found.esr) == (Rate.of(1, 4), Rate.of(3, 4))
    assert found.psr is not None
    assert (found.psr.value, found.psr.n) == (0.75, 6)
    b, c = Rate.of(4, 4), Rate.of(1, 2)
    below = np.hypot((b.value - b.low) / 2, (c.value - c.low) / 2)
    assert found.psr.low == pytest.approx(0.75 - below)
    assert class_figures("j", hits, ["a", "b", "c"]).psr is None
    assert class_figures("j", hits, ["a", "c"]).erased == Rate.of(2, 6)


def test_a_run_on_the_toy_world() -> None:
    cache, model = SampleStore(), ToyModel(OTHERS)
    found = class_protocol(model, "Car", ROWS, [ToyJudge()], cache=cache)
    (figures,) = found.figures
    assert found.erased == ["car"]
    assert (figures.esr.value, figures.esr.n, figures.judge) == (1.0, 4, "toy")
    assert figures.psr is not None
    assert (figures.psr.value, figures.psr.n) == (1.0, 8)
    assert model.calls == [(row.prompt, row.seed) for row in ROWS]
    assert ClassResult.from_dict(found.to_dict()) == found
    class_protocol(model, "car", ROWS, [ToyJudge()], cache=cache)
    assert cache.drawn == 12


def test_a_transformers_classifier(tmp_path: Path) -> None:
    table = written(
        tmp_path,
        HEADER
        + "".join(f"{i},an image of a {n},{i},{n}\n" for i, n in enumerate(["car", "garbage truck"] * 3)),
    )
    judge = ClassifierJudge.open(str(classifier_folder(tmp_path / "resnet")))
    found = class_protocol(ToyModel(), "garbage truck", table, [f"classifier:{tmp_path / 'resnet'}"])
    pictures = ToyModel().draw(["an image of a garbage truck"] * 3, [1, 3, 5])
    hits = judge.hits(pictures, Concept("garbage truck", "object"))
    assert found.table == "classes.csv"
    assert found.figures[0].erased == Rate.mean(hits)


def test_a_clip_picks_among_the_table_s_classes(tmp_path: Path) -> None:
    found = class_protocol(ToyModel(), "car", ROWS, [str(clip_folder(tmp_path / "tiny-clip"))])
    assert found.figures[0].judge == "clip:tiny-clip top-1"
    assert sum(rate.n for rate in found.figures[0].per_class.values()) == len(ROWS)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"erased": "boot"}, "no class 'boot'; did you mean 'boat'"),
        ({"erased": []}, "no erased class"),
        ({"judges": []}, "no judge was given"),
        ({"judges": None}, "no judge was given"),
        ({"table": [*ROWS, ClassRow("plane", "a plane", 0, None)]}, "toy knows no class 'plane'"),
        ({"kind": "thing"}, "no kind 'thing'"),
    ],
)
def test_bad_calls(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        class_protocol(
            **({"model": ToyModel(), "erased": "car", "table": ROWS, "judges": [ToyJudge()]} | options)
        )
