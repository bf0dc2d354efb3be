"""The artefact on disk: its schema, and that no change and no hostile file gets past reading."""

from __future__ import annotations

import hashlib
import json
import struct
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from guard.toy_model import FROZEN, SHAPES, TO_K, mask, one_line
from oubliette.core.errors import UserError
from oubliette.guard.artefact import make_schema, schema
from oubliette.guard.mask import read_mask

RUN = settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("masks") / "mask"
    mask(scores={name: float(place) for place, name in enumerate(SHAPES)}, learned={"seed": 1}).write(folder)
    return folder


@pytest.fixture
def copy(written: Path, tmp_path: Path) -> Path:
    for entry in written.iterdir():
        (tmp_path / entry.name).write_bytes(entry.read_bytes())
    return tmp_path


def test_schema_is_published_and_in_step() -> None:
    assert schema() == make_schema(), "write it again: json.dump(make_schema(), ...)"
    assert schema()["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    jsonschema.Draft202012Validator.check_schema(schema())


def test_schema_holds_for_what_is_written_and_not_for_less(written: Path, tmp_path: Path) -> None:
    validator = jsonschema.Draft202012Validator(schema())
    content = json.loads((written / "guard.json").read_text())
    validator.validate(content)
    mask().write(tmp_path / "plain", card=False)
    validator.validate(json.loads((tmp_path / "plain" / "guard.json").read_text()))
    for key in content:
        assert not validator.is_valid({name: value for name, value in content.items() if name != key}), key
    assert not validator.is_valid({**content, "extra": 1})
    broken = json.loads(json.dumps(content))
    broken["frozen"][0]["sha256"]["float16"] = "no digest"
    assert not validator.is_valid(broken)


@pytest.mark.parametrize("name", ["guard.json", "scores.safetensors"])
@RUN
@given(data=st.data())
def test_any_changed_byte_is_detected(copy: Path, written: Path, name: str, data: st.DataObject) -> None:
    whole = (written / name).read_bytes()
    place = data.draw(st.integers(0, len(whole) - 1))
    value = data.draw(st.integers(0, 255).filter(lambda value: value != whole[place]))
    (copy / name).write_bytes(whole[:place] + bytes([value]) + whole[place + 1 :])
    with pytest.raises(UserError) as raised:
        read_mask(copy)
    one_line(raised.value)


@pytest.mark.parametrize("name", ["guard.json", "scores.safetensors"])
@RUN
@given(data=st.data())
def test_anything_cut_off_put_in_or_added_is_detected(
    copy: Path, written: Path, name: str, data: st.DataObject
) -> None:
    whole = (written / name).read_bytes()
    start = data.draw(st.integers(0, len(whole)))
    stop = data.draw(st.integers(start, len(whole)))
    put = data.draw(st.binary(max_size=8))
    changed = whole[:start] + put + whole[stop:]
    (copy / name).write_bytes(changed)
    if changed == whole:
        read_mask(copy)
        return
    with pytest.raises(UserError) as raised:
        read_mask(copy)
    one_line(raised.value)


def test_whole_files_that_go_or_come_are_detected(copy: Path) -> None:
    scores = (copy / "scores.safetensors").read_bytes()
    (copy / "scores.safetensors").unlink()
    with pytest.raises(UserError, match="no such file"):
        read_mask(copy)
    mask().write(copy / "plain")
    (copy / "plain" / "scores.safetensors").write_bytes(scores)
    with pytest.raises(UserError, match="names no scores"):
        read_mask(copy / "plain")


def test_the_card_may_be_edited(copy: Path) -> None:
    before = read_mask(copy)
    (copy / "README.md").write_text("edited on the Hub")
    assert read_mask(copy) == before


def resealed(content: dict[str, Any]) -> bytes:
    """As an attacker would write it: whatever content, with a digest that is right."""
    content = {key: value for key, value in content.items() if key != "digest"}
    head = json.dumps(content, indent=1).removesuffix("\n}") + ",\n"
    return f'{head} "digest": "{hashlib.sha256(head.encode()).hexdigest()}"\n}}\n'.encode()


def _set(*path: Any) -> Callable[[Any, Any], None]:
    def change(content: Any, value: Any) -> None:
        for part in path[:-1]:
            content = content[part]
        content[path[-1]] = value

    return change


PLACES: list[tuple[Any, ...]] = [
    ("format",),
    ("base",),
    ("base", "source"),
    ("base", "revision"),
    ("base", "fingerprint"),
    ("base", "kind"),
    ("base", "world"),
    ("budget",),
    ("budget", "of"),
    ("budget", "share"),
    ("budget", "parameter_share"),
    ("frozen",),
    ("frozen", 0),
    ("frozen", 0, "name"),
    ("frozen", 0, "shape"),
    ("frozen", 0, "dtype"),
    ("frozen", 0, "sha256"),
    ("frozen", 0, "sha256", "float16"),
    ("candidates",),
    ("candidates", TO_K),
    ("learned",),
    ("measured",),
    ("scores",),
    ("scores", "sha256"),
    ("scores", "file"),
]
HOSTILE = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**30), 10**30),
    st.sampled_from([10**400, -(10**400), 1e308, "../../etc/passwd", "\x1b[31m", "a\nb", "\u2028", "\u202e"]),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=20),
    st.lists(st.integers(-2, 2**70), max_size=4),
    st.dictionaries(st.text(max_size=4), st.integers(), max_size=3),
)


@pytest.mark.parametrize("place", PLACES, ids=lambda place: ".".join(map(str, place)))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=HOSTILE)
def test_hostile_values_under_a_right_digest_give_one_line(
    copy: Path, written: Path, place: tuple[Any, ...], value: Any
) -> None:
    content = json.loads((written / "guard.json").read_text())
    _set(*place)(content, value)
    (copy / "guard.json").write_bytes(resealed(content))
    try:
        found = read_mask(copy)
    except UserError as error:
        one_line(error)
        return
    # What is let in can do no harm: it is what the schema allows, and no name is anything but a tensor's.
    jsonschema.validate(content, schema())
    assert all("/" not in name and name.isprintable() for name in found.names)
    assert not {unicodedata.category(c) for c in found.base.source} & {"Cc", "Cs", "Zl", "Zp"}
    assert "\u202e" not in found.base.source


def hostile_files(content: dict[str, Any], text: str) -> dict[str, bytes]:
    frozen = content["frozen"]
    other = {**frozen[0], "name": "unet.nowhere.weight"}
    return {
        "empty": b"",
        "nothing but zeros": bytes(1000),
        "not utf-8": b'{"a": "\xff\xfe"}',
        "a list": b"[]",
        "a number": b"1",
        "deep lists": b"[" * 200_000,
        "deep objects": b'{"a":' * 100_000,
        "deep inside": resealed(content).replace(b'"seed": 1', b'"seed": ' + b"[" * 5000 + b"]" * 5000),
        "a long number": b'{"a": ' + b"9" * 10_000 + b"}",
        "not a number": text.replace('"seed": 1', '"seed": NaN').encode(),
        "infinite": text.replace('"seed": 1', '"seed": 1e999').encode(),
        "minus infinite": text.replace('"seed": 1', '"seed": -Infinity').encode(),
        "a key twice": text.replace('"seed": 1', '"seed": 1, "seed": 2').encode(),
        "another version": resealed({**content, "format": "oubliette-guard/2"}),
        "no version": resealed({key: value for key, value in content.items() if key != "format"}),
        "unknown key": resealed({**content, "licence": "mit"}),
        "frozen twice": resealed({**content, "frozen": [*frozen, frozen[0]]}),
        "no candidate": resealed({**content, "frozen": [*frozen, other]}),
        "another shape": resealed({**content, "frozen": [{**frozen[0], "shape": [1]}, *frozen[1:]]}),
        "a stored digest that is not its dtype's": resealed(
            {
                **content,
                "frozen": [
                    {**frozen[0], "sha256": {**frozen[0].get("sha256", {}), "stored": "0" * 64}},
                    *frozen[1:],
                ],
            }
        ),
        "a digest short": resealed({**content, "frozen": [{**frozen[0], "sha256": {}}, *frozen[1:]]}),
        "half a surrogate": resealed({**content, "learned": {"a": "\ud800"}}),
        "another share": resealed({**content, "budget": {**content["budget"], "parameter_share": 0.99}}),
        "path in a name": resealed(
            {**content, "frozen": [{**frozen[0], "name": "../../" + frozen[0]["name"]}, *frozen[1:]]}
        ),
        "nothing frozen": resealed({**content, "frozen": []}),
    }


NAMES = list(hostile_files({"frozen": [{"name": ""}], "budget": {}}, ""))


@pytest.mark.parametrize("name", NAMES)
def test_hostile_files_give_one_line(copy: Path, name: str) -> None:
    text = (copy / "guard.json").read_text()
    (copy / "guard.json").write_bytes(hostile_files(json.loads(text), text)[name])
    with pytest.raises(UserError) as raised:
        read_mask(copy)
    one_line(raised.value)


@RUN
@given(raw=st.binary(max_size=200))
def test_rubbish_gives_one_line(copy: Path, raw: bytes) -> None:
    (copy / "guard.json").write_bytes(raw)
    with pytest.raises(UserError) as raised:
        read_mask(copy)
    one_line(raised.value)


def tensors_file(header: bytes, body: bytes = b"", length: int | None = None) -> bytes:
    return struct.pack("<Q", len(header) if length is None else length) + header + body


def score(name: str, start: int = 0, stop: int = 8, dtype: str = "F64", shape: str = "[]") -> bytes:
    return f'"{name}":{{"dtype":"{dtype}","shape":{shape},"data_offsets":[{start},{stop}]}}'.encode()


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\x00" * 7,
        tensors_file(b"{}", length=2**63),
        tensors_file(b"{" + score(TO_K) + b"}"),
        tensors_file(b"{" + score(TO_K, 0, 2**60) + b"}", bytes(8)),
        tensors_file(b"{" + score(TO_K, 8, 0) + b"}", bytes(8)),
        tensors_file(b"{" + score(TO_K) + b"," + score(TO_K) + b"}", bytes(8)),
        tensors_file(b"{" + score(TO_K, 0, 4, "F32") + b"}", bytes(4)),
        tensors_file(b"{" + score(TO_K, 0, 2, "BF16") + b"}", bytes(2)),
        tensors_file(b"{" + score(TO_K, 0, 8, "F64", "[1]") + b"}", bytes(8)),
        tensors_file(b"{" + score("unet.other.weight") + b"}", bytes(8)),
        tensors_file(b"{" + score(TO_K) + b"}", struct.pack("<d", float("nan"))),
        tensors_file(b'{"a":' * 2000, bytes(8)),
    ],
)
def test_hostile_scores_under_a_right_digest_give_one_line(copy: Path, raw: bytes) -> None:
    content = json.loads((copy / "guard.json").read_text())
    content["scores"]["sha256"] = hashlib.sha256(raw).hexdigest()
    (copy / "guard.json").write_bytes(resealed(content))
    (copy / "scores.safetensors").write_bytes(raw)
    try:
        found = read_mask(copy)
    except UserError as error:
        one_line(error)
    else:
        # A name that stands twice can only mean one value.
        assert found.scores == {TO_K: 0.0}


@pytest.mark.parametrize("path", ["nowhere", "with\0null", ".", "x" * 5000])
def test_paths_that_hold_no_mask(tmp_path: Path, path: str) -> None:
    with pytest.raises(UserError) as raised:
        read_mask(tmp_path / path)
    one_line(raised.value)


def test_too_large_a_file_is_not_read(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("oubliette.guard.artefact.LARGEST", 100)
    with pytest.raises(UserError, match="100 at most"):
        read_mask(copy)


def test_frozen_names_come_back(written: Path) -> None:
    assert read_mask(written).names == [name for name in SHAPES if name in FROZEN]
