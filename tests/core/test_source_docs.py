"""What parts say of themselves without being imported."""

from __future__ import annotations

import inspect

import pytest

from oubliette.attack import ATTACKS
from oubliette.core.registry import Registry
from oubliette.core.source_docs import described
from oubliette.erase import METHODS
from oubliette.eval.judge import JUDGES
from oubliette.guard.learners import LEARNERS
from oubliette.train import SCOPES, SMOOTHERS, SURGERIES

LISTED = {
    "methods": (METHODS, ("backend", "solution", "paper")),
    "attacks": (ATTACKS, ("kind", "about")),
    "learners": (LEARNERS, ("about", "paper")),
    "scopes": (SCOPES, ()),
    "surgeries": (SURGERIES, ()),
    "smoothers": (SMOOTHERS, ()),
    "judges": (JUDGES, ()),
}


@pytest.mark.parametrize("kind", LISTED)
def test_the_source_says_what_the_imported_part_does(kind: str) -> None:
    registry, attributes = LISTED[kind]
    for name in registry.names():
        found, member = registry.about(name, *attributes), registry.get(name)
        assert inspect.cleandoc(found["__doc__"]) == inspect.getdoc(member)
        assert {key: found[key] for key in attributes} == {key: getattr(member, key) for key in attributes}


def test_what_the_source_does_not_say_is_none() -> None:
    assert described("oubliette.erase.diffusion.uce:UCE", ["no_such"]) is None
    assert described("oubliette.erase.diffusion.uce:Nothing") is None
    assert described("json:JSONDecoder") is None


def test_a_part_that_is_no_text_is_asked_itself() -> None:
    class Part:
        """A part."""

        about = "made on the spot"

    parts: Registry = Registry("part", {"part": Part})
    assert parts.about("part", "about", "paper") == {
        **{"__doc__": "A part.", "about": "made on the spot", "paper": ""}
    }
