"""Control characters are named; a text that a model reads only in part is told of."""

from __future__ import annotations

import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tiny
from oubliette.backends.diffusion import DiffusionBackend
from oubliette.core.errors import UserError
from oubliette.data.text import InputWarning, check_text, refuse_cut, warn_of_cut

LONG = "car " * 40


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a\nb", "a newline"),
        ("a\x00b", "NUL"),
        ("a\x1bb", "ESC"),
        ("a\x85b", r"U\+0085"),
        ("\ud800", r"U\+D800"),
    ],
)
def test_a_control_character_is_named(text: str, found: str) -> None:
    with pytest.raises(UserError, match=f"the prompt .* holds {found}; expected plain text on one line"):
        check_text(text, "the prompt")


def test_blanks_around_and_lines_where_they_belong() -> None:
    assert check_text(" a car\n", "the prompt") == " a car\n"
    assert check_text("a\n\tb\r\nc", "the answer", lines=True)
    with pytest.raises(UserError, match=r"holds BEL; expected plain text$"):
        check_text("a\n\x07", "the answer", lines=True)


@given(st.text())
def test_what_passes_is_one_printable_line(text: str) -> None:
    try:
        check_text(text, "x")
    except UserError:
        return
    assert len(text.strip().splitlines()) <= 1


def test_what_a_model_cuts_is_said() -> None:
    model = DiffusionBackend.from_pipeline(tiny.pipeline())
    with pytest.warns(InputWarning, match="1 of 2 prompts is cut"):
        warn_of_cut(model, ["a car", LONG], "prompts")
    with pytest.raises(UserError, match=r"the concept 'car .* is longer than the text encoder reads"):
        refuse_cut(model, LONG, "the concept")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_cut(model, ["a car"], "prompts")
        warn_of_cut(object(), [LONG], "prompts")
