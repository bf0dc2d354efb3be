"""Pictures come with captions, at the model's side; broken ones are named; none at all is an error."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from oubliette.core.errors import UserError
from oubliette.data.pictures import decode, read_pictures


def encoded(colour: tuple, size: tuple[int, int] = (8, 8), kind: str = "PNG", mode: str = "RGB") -> bytes:
    out = io.BytesIO()
    Image.new(mode, size, colour).save(out, kind)
    return out.getvalue()


RED, GREEN = encoded((255, 0, 0)), encoded((0, 255, 0))


def test_captions_from_metadata(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "a.png").write_bytes(RED)
    (tmp_path / "sub" / "b.png").write_bytes(GREEN)
    (tmp_path / "unlisted.png").write_bytes(GREEN)
    rows = [{"file_name": "a.png", "text": "red"}, {"file_name": "sub/b.png", "text": "green"}]
    (tmp_path / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    found = read_pictures(tmp_path, 4)
    assert found.captions == ("red", "green")
    assert found.pictures.shape == (2, 4, 4, 3)
    assert found.pictures.dtype == np.uint8
    assert found.pictures[0, 0, 0].tolist() == [255, 0, 0]
    (tmp_path / "metadata.jsonl").unlink()
    (tmp_path / "metadata.csv").write_text('file_name,caption\na.png,"very, red"\n')
    assert read_pictures(tmp_path, 4).captions == ("very, red",)


def test_captions_from_class_folders(tmp_path: Path) -> None:
    for name in ("fire_truck", "cat"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.png").write_bytes(RED)
    (tmp_path / "loose.png").write_bytes(RED)
    assert read_pictures(tmp_path, 4).captions == ("cat", "fire truck", "")
    assert len(read_pictures(tmp_path, 4, limit=2)) == 2


def test_broken_pictures_are_named_and_counted(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(RED)
    (tmp_path / "b.png").write_bytes(b"nothing")
    (tmp_path / "c.jpg").write_bytes(encoded((1, 2, 3), (64, 64), "JPEG")[:300])
    (tmp_path / "metadata.csv").write_text("file_name,text\na.png,red\nb.png,x\nc.jpg,y\nd.png,z\n")
    seen: list[str] = []
    found = read_pictures(tmp_path, 4, on_skip=lambda where, reason: seen.append(f"{where}: {reason}"))
    assert found.captions == ("red",)
    assert [name for name, _ in found.skipped] == ["b.png", "c.jpg", "d.png"]
    assert seen[0] == "b.png: not a picture"
    assert seen[2] == "d.png: is in the metadata but not in the folder"


@pytest.mark.parametrize("broken", [False, True])
def test_no_picture_at_all_is_an_error(tmp_path: Path, broken: bool) -> None:
    if broken:
        (tmp_path / "a.png").write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"a\.png: not a picture" if broken else "found none"):
        read_pictures(tmp_path, 4)


def test_wrong_places_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        read_pictures(tmp_path / "absent", 4)
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(UserError, match="parquet"):
        read_pictures(tmp_path / "notes.txt", 4)
    with pytest.raises(UserError, match="side"):
        read_pictures(tmp_path, 0)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("metadata.jsonl", "{", "line 1: not JSON"),
        ("metadata.jsonl", "[[]]", "row 1: found a list"),
        ("metadata.jsonl", '{"text": "x"}', "line 1: no 'file_name'; found text"),
        ("metadata.csv", "name,text\na.png,x\n", "no column 'file_name'; found name, text"),
        ("metadata.csv", "file_name,text\na.png,x, y\n", "line 2: has 3 cells, expected 2"),
        ("metadata.csv", "file_name,text\na.png,x\x1b\n", "line 2: text .* holds ESC"),
        ("metadata.csv", 'file_name,text\n"a.png"x,x\n', "not a CSV row"),
    ],
)
def test_broken_metadata_is_named(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / "a.png").write_bytes(RED)
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=message):
        read_pictures(tmp_path, 4)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (encoded((10, 20, 30, 0), mode="RGBA"), [255, 255, 255]),
        (encoded((10, 20, 30, 255), mode="RGBA"), [10, 20, 30]),
        (encoded(77, mode="L"), [77, 77, 77]),
        (encoded((10, 20, 30), (16, 4)), [10, 20, 30]),
    ],
)
def test_modes_and_shapes(content: bytes, expected: list[int]) -> None:
    picture = decode(content, 6)
    assert picture.shape == (6, 6, 3)
    assert picture[3, 3].tolist() == expected


def test_the_middle_is_cut_out() -> None:
    wide = np.zeros((4, 12, 3), np.uint8)
    wide[:, 4:8] = 200
    out = io.BytesIO()
    Image.fromarray(wide).save(out, "PNG")
    assert (decode(out.getvalue(), 4) == 200).all()


@pytest.mark.parametrize("caption", ["text", "label"])
def test_parquet_as_datasets_writes_it(tmp_path: Path, caption: str) -> None:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    image = [
        {"bytes": RED, "path": "a"},
        {"bytes": b"x", "path": "b"},
        {"bytes": None, "path": "c"},
        {"bytes": GREEN, "path": "d"},
    ]
    table = pa.table(
        {"image": image, "label": [0, 1, 1, 1], **({"text": list("abcd")} if caption == "text" else {})}
    )
    features = {"info": {"features": {"label": {"names": ["fire_truck", "cat"], "_type": "ClassLabel"}}}}
    table = table.replace_schema_metadata({b"huggingface": json.dumps(features).encode()})
    pq.write_table(table, tmp_path / "train.parquet")
    for place in (tmp_path, tmp_path / "train.parquet"):
        found = read_pictures(place, 4)
        assert found.captions == (("a", "d") if caption == "text" else ("fire truck", "cat"))
        assert [where for where, _ in found.skipped] == ["train.parquet, row 1", "train.parquet, row 2"]


def test_parquet_without_pictures_or_metadata(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"a": [1]}), tmp_path / "a.parquet")
    with pytest.raises(UserError, match="no column 'image'; found a"):
        read_pictures(tmp_path, 4)
    pq.write_table(pa.table({"image": [RED], "label": [7]}), tmp_path / "a.parquet")
    assert read_pictures(tmp_path, 4).captions == ("7",)
