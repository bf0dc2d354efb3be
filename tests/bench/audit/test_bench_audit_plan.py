"""Plans: the shipped one, its cells, and every refusal in one line."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from oubliette.bench.audit.plan import Plan, read_plan
from oubliette.bench.shipped import plan_text
from oubliette.core.errors import UserError

SMALL = {
    "name": "small",
    "concepts": [{"name": "car", "runs": 2}, {"name": "engraving"}],
    "subjects": [{"name": "none", "control": "none", "runs": 1}, {"name": "UCE", "method": "uce"}],
}


def write(folder: Path, **changes: object) -> Path:
    path = folder / "plan.yaml"
    path.write_text(yaml.safe_dump({**SMALL, **changes}))
    return path


def test_the_shipped_plan_holds_every_eraser_with_and_without_sam_and_all_controls() -> None:
    plan = read_plan()
    methods = {subject.method for subject in plan.subjects if subject.method}
    assert {"uce", "doco", "ablation", "esd-x", "esd-u"} <= methods
    assert {s.control for s in plan.subjects if s.control} == {
        "base",
        "gold",
        "random weights",
        "prompt filter",
    }
    assert {target.name: target.runs for target in plan.concepts} == {
        "car": 3,
        "engraving": 1,
        "Mira Voss": 1,
    }
    assert len({cell.key for cell in plan.cells()}) == len(plan.cells())
    assert Plan.model_validate(yaml.safe_load(plan_text("audit"))) == plan


def test_cells_come_seed_by_seed_and_runs_are_capped(tmp_path: Path) -> None:
    cells = read_plan(write(tmp_path)).cells()
    assert [cell.key for cell in cells] == [
        "none-car-0",
        "none-engraving-0",
        "uce-car-0",
        "uce-engraving-0",
        "uce-car-1",
    ]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"subjects": [{"name": "x", "method": "uze"}]}, "subject 'x': no method or preset is called 'uze'"),
        ({"subjects": [{"name": "x"}]}, "give one of 'method', 'model', 'control'; found none"),
        ({"subjects": [{"name": "x", "method": "uce", "control": "gold"}]}, "found method and control"),
        (
            {"subjects": [{"name": "x", "control": "gold", "set": ["seed=1"]}]},
            "'set' and 'published' are of a method's recipe",
        ),
        ({"subjects": [{"name": "x", "method": "uce", "set": ["method.no=1"]}]}, "unknown key"),
        ({"subjects": [SMALL["subjects"][0]] * 2}, "two subjects have one name"),
        ({"contrasts": [{"name": "c", "pairs": [["UCE", "ESD"]]}]}, "a contrast names 'ESD'"),
        ({"concepts": [{"name": "caar"}]}, "the picture world has no 'caar'"),
        ({"concepts": []}, "concepts"),
        ({"suite": "no-such"}, "no suite is called 'no-such'"),
        ({"subject": []}, "unknown key 'subject'; did you mean 'subjects'"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(tmp_path: Path, changes: dict[str, object], words: str) -> None:
    with pytest.raises(UserError) as caught:
        read_plan(write(tmp_path, **changes))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_plan(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        read_plan(tmp_path / "none.yaml")
    (tmp_path / "list.yaml").write_text("- 1\n")
    with pytest.raises(UserError, match="expected keys with values, found list"):
        read_plan(tmp_path / "list.yaml")
    (tmp_path / "broken.yaml").write_text("a: [")
    with pytest.raises(UserError, match="not YAML"):
        read_plan(tmp_path / "broken.yaml")
    with pytest.raises(UserError, match="no plan is called"):
        plan_text("audits")
