"""Every registered world keeps what `World` promises, and nobody asks for a world by its name."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import oubliette
from oubliette.core.registry import import_target
from oubliette.data.concept import Concept, kinds
from oubliette.data.prompts import BANKS, load_bank
from oubliette.data.words import pattern
from oubliette.eval.judge import JUDGES
from oubliette.world import embedded
from oubliette.world.world import WORLDS, World

SOURCE = Path(oubliette.__file__).parent


@pytest.fixture(params=WORLDS.names())
def world(request: pytest.FixtureRequest) -> World:
    return WORLDS.get(request.param)


def things(world: World) -> Iterator[tuple[str, str]]:
    return ((kind, name) for kind in world.tables for name in world.all_names(kind))


def test_it_has_the_name_it_is_registered_by(world: World) -> None:
    assert WORLDS.get(str(world.name)) is world
    assert set(world.tables) <= set(kinds())


def test_every_word_means_one_thing(world: World) -> None:
    for kind, name in things(world):
        fact = world.tables[kind][name]
        assert fact.words
        assert {world.resolve(kind, word) for word in (name, *fact.words, *fact.withheld)} == {name}
        assert not {word.lower() for word in fact.words} & {word.lower() for word in fact.withheld}
        assert world.kind_of(name) == kind


def test_neighbours_are_known_others_of_the_kind(world: World) -> None:
    for kind, name in things(world):
        near = world.near(kind, name)
        assert near is None or (near != name and near in world.names(kind))


def test_what_gold_never_saw_is_in_it_with_its_anchor(world: World) -> None:
    if world.tables:
        assert (world.gold is None) == (not world.unseen)
    else:  # its things are rows of files: whose gold it is, the user says
        assert not world.unseen
    for name, anchor, kind in world.unseen:
        assert name in world.names(kind)
        assert anchor == world.anchor(kind)
        assert world.is_unseen(kind, name)
        assert world.near(kind, name) not in {other for other, _, its in world.unseen if its == kind}


def test_everything_in_it_is_a_concept_with_an_anchor(world: World) -> None:
    for kind, name in things(world):
        assert Concept(name, world.anchor(kind), kind).anchor


def test_its_bank_names_what_it_is_asked_for(world: World) -> None:
    assert world.bank in BANKS
    bank = load_bank(world.bank)
    for kind in world.tables:
        name = world.names(kind)[0]
        concept, fact = Concept(name, world.anchor(kind), kind), world.tables[kind][name]
        named = pattern((name, *fact.words, *fact.withheld))
        for split in ("in-set", "withheld"):
            assert all(named.search(prompt) for prompt in bank.evaluation(concept, 6, split))
        assert not any(named.search(prompt) for prompt in bank.retain(concept, 6, 0))


def test_what_it_names_is_there(world: World) -> None:
    for judge, weights in world.judges.items():
        assert judge in JUDGES
        assert weights in embedded.names() or Path(weights).is_dir()
    if world.gold is not None:
        assert world.gold in embedded.names() or Path(world.gold).is_dir()
    if world.scenes is not None:
        assert callable(import_target(world.scenes))
    assert world.title
    assert world.can
    assert world.cannot


# -- who asks


def is_a_world(node: ast.expr) -> bool:
    """`world`, `x.world`, `getattr(x, "world", ...)`: the recorded name of a world."""
    text = ast.unparse(node)
    return re.fullmatch(r"(.*\.)?world(\.name)?( or .*)?", text) is not None or "'world'" in text


def askings(text: str) -> list[str]:
    """Where a world's recorded name is compared, looked up in a table, or asked whether it is there."""
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            plain = [s for s in sides if isinstance(s, ast.Constant | ast.Tuple | ast.List | ast.Set)]
            if plain and any(is_a_world(side) for side in sides if side not in plain):
                found.append(ast.unparse(node))
        elif isinstance(node, ast.IfExp | ast.If | ast.While):
            if re.fullmatch(r"(not )?.*\.world", ast.unparse(node.test)):
                found.append(ast.unparse(node.test))
        elif isinstance(node, ast.Subscript) and is_a_world(node.slice):
            found.append(ast.unparse(node))
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(".get"):
            found += [ast.unparse(node)] * any(
                is_a_world(key) for key in node.args[:1] if not isinstance(key, ast.Constant)
            )
    return found


#: A page may be of a world that is not installed here: it looks before it asks.
ALLOWED = {"report/words.py": ["world is not None", "WORLDS.get(world)"]}


def test_nobody_asks_for_a_world_by_its_name() -> None:
    wrong = {}
    for path in sorted(SOURCE.rglob("*.py")):
        place = path.relative_to(SOURCE).as_posix()
        found = [one for one in askings(path.read_text("utf-8")) if one not in ALLOWED.get(place, ())]
        if found:
            wrong[place] = found
    assert wrong == {}, "ask the object instead: oubliette.world.world.world_of(model)"


@pytest.mark.parametrize(
    "line",
    [
        'model.world == "picture"',
        'getattr(base, "world", None) != "picture"',
        'self.world in ("picture", "text")',
        "model.world is None",
        '"world" if self.model.world else "general"',
        "PRESETS[model.world]",
        'PRESETS.get(model.world or "", "")',
        "if world == 'picture': pass",
    ],
)
def test_such_a_line_would_be_found(line: str) -> None:
    assert len(askings(line)) == 1


@pytest.mark.parametrize(
    "line", ["world_of(model).bank", 'record.get("world")', "name is None", 'x == "world"']
)
def test_others_are_not(line: str) -> None:
    assert askings(line) == []
