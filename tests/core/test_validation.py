from typing import Literal

import pytest
from pydantic import Field

from oubliette.core.errors import UserError
from oubliette.core.validation import StrictModel, call_checked, user_path, validated


class Inner(StrictModel):
    size: int = Field(default=1, ge=1)


class Outer(StrictModel):
    name: str
    inner: Inner = Inner()
    many: list[Inner] = Field(default_factory=list)
    maybe: Inner | None = None


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ({"name": "a", "innr": {}}, r"here: unknown key 'innr'; did you mean 'inner'\? known: inner, many"),
        ({"name": "a", "inner": {"siz": 1}}, r"unknown key 'inner\.siz'; did you mean 'size'\?"),
        ({"name": "a", "many": [{}, {"siz": 1}]}, r"unknown key 'many\.1\.siz'; did you mean 'size'\?"),
        ({"name": "a", "maybe": {"siz": 1}}, r"unknown key 'maybe\.siz'; did you mean 'size'\?"),
        ({"name": "a", "inner": {"size": 0}}, r"'inner\.size': .*greater than or equal to 1, found 0$"),
        ({"inner": {"size": 0}}, r"'name' is missing \(and 1 more\)"),
        ({"name": "a", "inner": {"size": float("nan")}}, r"'inner\.size'"),
    ],
)
def test_the_first_error_is_one_line_with_place_and_remedy(content, line):
    with pytest.raises(UserError, match=line) as caught:
        validated(Outer, content, "here")
    assert "\n" not in str(caught.value)


def test_call_checked_converts_and_refuses():
    def part(count: int, mode: Literal["a", "b"] = "a") -> tuple[int, str]:
        return count, mode

    assert call_checked(part, {"count": "3"}, "part") == (3, "a")
    with pytest.raises(UserError, match="part: 'count' is missing"):
        call_checked(part, {}, "part")
    with pytest.raises(UserError, match="part: 'mode': Input should be 'a' or 'b', found 'c'"):
        call_checked(part, {"count": 1, "mode": "c"}, "part")


def test_pairs_of_a_command_line_are_read_as_yaml_and_scientific_numbers_as_numbers() -> None:
    from oubliette.core.validation import settings

    found = settings(["steps=50", "learning_rate=1e-4", "clip=null", "words=[a, b]", "token=1e4x", "x = y"])
    assert found == {
        "steps": 50,
        "learning_rate": 1e-4,
        "clip": None,
        "words": ["a", "b"],
        "token": "1e4x",
        "x": "y",
    }
    for wrong in ("steps", "=3", "steps=[1"):
        with pytest.raises(UserError) as caught:
            settings([wrong])
        assert str(caught.value).startswith(wrong)
        assert "\n" not in str(caught.value)


def test_a_home_that_is_not_there_is_refused_wherever_a_path_is_taken(tmp_path, monkeypatch) -> None:
    from oubliette.backends import open_model
    from oubliette.eval.judge import open_judge
    from oubliette.eval.pictures.clip import open_clip_model
    from oubliette.guard.verify.checkpoint import open_checkpoint

    monkeypatch.setenv("HOME", str(tmp_path))
    assert user_path("~/a") == tmp_path / "a"
    for take in (user_path, open_model, open_clip_model, open_judge, open_checkpoint):
        with pytest.raises(UserError, match="'~no such user'"):
            take("~no such user")
