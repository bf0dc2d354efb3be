"""The picture cache: identical bytes, nothing drawn twice, nothing half-written."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from fakes import ToyModel

from oubliette.data.png import is_whole_png
from oubliette.eval import sample_store as pictures
from oubliette.eval.pictures.sampling import Sampling
from oubliette.eval.sample_store import SampleStore, sample_keys

HOW = Sampling()
PROMPTS = ["a car", "a truck", "a car"]
SEEDS = [1, 2, 3]


def test_the_second_time_nothing_is_drawn_and_every_byte_is_the_same(tmp_path: Path) -> None:
    model = ToyModel()
    first = SampleStore(tmp_path).draw(model, PROMPTS, SEEDS, HOW)
    again = SampleStore(tmp_path)
    second = again.draw(model, PROMPTS, SEEDS, HOW)
    assert np.array_equal(first, second)
    assert np.array_equal(first, ToyModel().draw(PROMPTS, SEEDS))
    assert len(model.calls) == 3
    assert (again.drawn, again.found) == (0, 3)


def test_only_the_missing_pictures_are_drawn(tmp_path: Path) -> None:
    model = ToyModel()
    cache = SampleStore(tmp_path)
    cache.draw(model, PROMPTS[:1], SEEDS[:1], HOW)
    cache.draw(model, PROMPTS, SEEDS, HOW)
    assert model.calls == [("a car", 1), ("a truck", 2), ("a car", 3)]


def test_a_picture_asked_for_twice_in_one_call_is_drawn_once() -> None:
    model = ToyModel()
    found = SampleStore().draw(model, ["a car", "a car"], [5, 5], HOW)
    assert model.calls == [("a car", 5)]
    assert np.array_equal(found[0], found[1])


def test_all_that_determines_a_picture_is_in_its_key() -> None:
    facts = {"fingerprint": "f", "prompt": "p", "seed": 1, "sampler": "ddim", "steps": 25, "guidance": 3.0}
    other = {"fingerprint": "g", "prompt": "q", "seed": 2, "sampler": "dpm", "steps": 26, "guidance": 3.5}

    def key(fingerprint: str, prompt: str, seed: int, sampler: str, steps: int, guidance: float) -> str:
        model, how = SimpleNamespace(sampler=sampler), Sampling(steps, guidance)
        return sample_keys(fingerprint, [prompt], [seed], how.facts(model))[0]

    keys = {key(**facts)} | {key(**(facts | {name: value})) for name, value in other.items()}
    assert len(keys) == 7


def test_a_model_that_changed_is_drawn_anew() -> None:
    cache, model = SampleStore(), ToyModel()
    before = cache.draw(model, ["a car"], [0], HOW)
    model.knows = ("truck",)
    after = cache.draw(model, ["a car"], [0], HOW)
    assert len(model.calls) == 2
    assert not np.array_equal(before, after)


def test_pictures_come_in_the_order_asked_for(tmp_path: Path) -> None:
    cache, model = SampleStore(tmp_path), ToyModel()
    cache.draw(model, ["a boat"], [9], HOW)
    prompts, seeds = ["a car", "a boat", "a truck", "a flat one"], [1, 9, 2, 3]
    assert np.array_equal(
        cache.draw(model, prompts, seeds, Sampling(batch=2)), ToyModel().draw(prompts, seeds)
    )


def test_read_draws_nothing(tmp_path: Path) -> None:
    with pytest.raises(pictures.UserError, match="cannot be read"):
        SampleStore(tmp_path).read(sample_keys("f", ["p"], [1], []))


def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("oubliette.core.writing.os.replace", fail)
    with pytest.raises(OSError, match="disk full"):
        SampleStore(tmp_path).draw(ToyModel(), ["a car"], [0], HOW)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_killed_write_leaves_no_picture(tmp_path: Path) -> None:
    """Kill a process between writing and renaming: the picture is not there, and is drawn when asked for
    again.
    """
    code = f"""
        import os, signal
        import numpy as np
        from oubliette.core import writing
        from oubliette.eval import sample_store as pictures
        writing.os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
        key, = pictures.sample_keys("f", ["p"], [1], [])
        pictures.SampleStore({str(tmp_path)!r})._write(key, ".png", b"picture")
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], env=dict(os.environ), check=False)
    assert done.returncode == -signal.SIGKILL
    assert list(tmp_path.rglob("*.png")) == []
    model = ToyModel()
    SampleStore(tmp_path).draw(model, ["a car"], [0], HOW)
    assert len(model.calls) == 1


def test_progress_is_told_of_pictures(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    cache = SampleStore(tmp_path)
    cache.draw(
        ToyModel(),
        ["a", "b", "c"],
        [0, 0, 0],
        Sampling(batch=2),
        progress=lambda done, total: told.append((done, total)),
    )
    assert told == [(0, 3), (2, 3), (3, 3)]


@pytest.mark.slow
def test_two_processes_share_the_drawing(tmp_path: Path) -> None:
    """Each picture is drawn by one of the two, and both get all of them."""
    code = f"""
        import sys
        import numpy as np, torch.distributed as distributed
        sys.path.insert(0, {str(Path(__file__).parents[1])!r})
        from fakes import ToyModel
        from oubliette.eval.pictures.sampling import Sampling
from oubliette.eval.sample_store import SampleStore
        rank = int(sys.argv[1])
        distributed.init_process_group("gloo", init_method="file://{tmp_path}/meet", rank=rank, world_size=2)
        prompts = [f"a car {{i}}" for i in range(20)]
        cache, model = SampleStore("{tmp_path}/cache"), ToyModel()
        found = cache.draw(model, prompts, list(range(20)), Sampling())
        assert np.array_equal(found, ToyModel().draw(prompts, list(range(20))))
        print(len(model.calls))
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    pair = [subprocess.Popen([*command, str(rank)], stdout=subprocess.PIPE, text=True) for rank in (0, 1)]
    counts = [int(process.communicate(timeout=120)[0].split()[-1]) for process in pair]
    assert sum(counts) == 20
    assert 0 < counts[0] < 20


def test_bad_calls_say_what_is_wrong() -> None:
    with pytest.raises(ValueError, match="one seed a prompt"):
        SampleStore().draw(ToyModel(), ["a"], [1, 2], HOW)
    with pytest.raises(ValueError, match="no prompts"):
        SampleStore().draw(ToyModel(), [], [], HOW)


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(pictures.UserError, match="cannot be written"):
        SampleStore(tmp_path / "file")


@pytest.mark.parametrize("place", [3, 20, 45, 60, -6])
def test_a_picture_with_a_flipped_bit_is_drawn_again(
    tmp_path: Path, place: int, capsys: pytest.CaptureFixture[str]
) -> None:
    model = ToyModel()
    whole = SampleStore(tmp_path).draw(model, PROMPTS[:1], SEEDS[:1], HOW)
    (path,) = tmp_path.rglob("*.png")
    content = bytearray(path.read_bytes())
    content[place] ^= 4
    path.write_bytes(content)
    again = SampleStore(tmp_path)
    assert np.array_equal(again.draw(model, PROMPTS[:1], SEEDS[:1], HOW), whole)
    assert (again.drawn, again.found) == (1, 0)
    assert "is damaged; it is drawn again" in capsys.readouterr().err
    assert not is_whole_png(path.read_bytes()[:-9])


@dataclass(frozen=True)
class Spoken:
    """Answers in the place of pictures."""

    batch: int = 2

    def facts(self, model: object) -> list[object]:
        return ["spoken"]

    def make(self, model: object, prompts: Sequence[str], seeds: Sequence[int]) -> list[str]:
        return [f"{prompt}, «{seed}»\n" for prompt, seed in zip(prompts, seeds, strict=True)]

    def together(self, prompts: Sequence[str], samples: Sequence[object]) -> np.ndarray:
        return np.array(list(samples), dtype=object)


def test_answers_are_kept_as_pictures_are_and_a_damaged_one_is_given_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store, model = SampleStore(tmp_path), SimpleNamespace(fingerprint=lambda: "f")
    said = store.draw(model, ["a", "b", "c"], [1, 2, 3], Spoken())
    assert list(said) == ["a, «1»\n", "b, «2»\n", "c, «3»\n"]
    first = sorted(tmp_path.rglob("*.json"))[0]
    first.write_bytes(first.read_bytes().replace(b", ", b"; ", 1).replace(b"\xab", b"\xaa"))
    again = SampleStore(tmp_path)
    assert list(again.draw(model, ["a", "b", "c"], [1, 2, 3], Spoken())) == list(said)
    assert (again.drawn, again.found) == (1, 2)
    assert "is damaged" in capsys.readouterr().err
    assert list(SampleStore().draw(model, ["a"], [1], Spoken())) == ["a, «1»\n"]
