"""An evaluation that is cut short goes on from its pictures: killed for good, or interrupted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import CAR, RETAINED, THINGS, ToyBank, ToyJudge, ToyModel

from oubliette.core.errors import UserError
from oubliette.eval.evaluate import compare
from oubliette.eval.pictures.kept import pictures_kept
from oubliette.eval.pictures.sampling import Sampling
from oubliette.eval.result import Evaluation
from oubliette.eval.sample_store import SampleStore

OTHERS = [name for name in THINGS if name != "car"]
#: Pictures that every row draws: two splits of the concept, three things to be kept.
EACH_ROW = 2 * 20 + 3 * 4


def run(
    cache: SampleStore | Path | None, model: ToyModel | None = None, base: ToyModel | None = None
) -> Evaluation:
    return compare(
        {"good": model or ToyModel(OTHERS)},
        base or ToyModel(),
        [CAR],
        judges=[ToyJudge()],
        n=20,
        each=4,
        near_n=4,
        bank=ToyBank(),
        retained=RETAINED,
        controls=["random weights"],
        cache=cache,
    )


def test_a_killed_evaluation_draws_only_what_is_missing(tmp_path: Path) -> None:
    """SIGKILL in the second row: every whole batch is kept, and the figures are as if nothing had been."""
    code = f"""
        import os, signal, sys
        sys.path[:0] = {[str(Path(__file__).parents[i]) for i in (0, 1, 2)]!r}
        import test_kept as here
        from pathlib import Path

        class Doomed(here.ToyModel):
            def draw(self, prompts, seeds, **how):
                found = super().draw(prompts, seeds, **how)
                if len(self.calls) > 40:
                    os.kill(os.getpid(), signal.SIGKILL)
                return found

        here.run(Path({str(tmp_path)!r}), Doomed(here.OTHERS))
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], env=dict(os.environ), check=False)
    assert done.returncode == -signal.SIGKILL
    kept = len(list(tmp_path.rglob("*.png")))
    whole = SampleStore()
    wanted = run(whole)
    assert kept == whole.drawn - 2 * EACH_ROW + 32  # all of the base's, and one batch of the second row's
    model, cache = ToyModel(OTHERS), SampleStore(tmp_path)
    found = run(cache, model)
    assert cache.drawn == whole.drawn - kept
    assert len(model.calls) == EACH_ROW - 32
    assert [row.concepts for row in found.rows] == [row.concepts for row in wanted.rows]
    assert found.samples == wanted.samples


def cut_short(out: Path) -> None:
    with pictures_kept(out) as cache:
        cache.draw(ToyModel(), ["a car", "a boat"], [1, 2], Sampling())
        raise KeyboardInterrupt


def test_pictures_are_kept_beside_the_output_until_all_is_well(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / "figures"
    kept = tmp_path / "new" / "figures.unfinished-pictures"
    with pytest.raises(KeyboardInterrupt):
        cut_short(out)
    assert len(list(kept.rglob("*.png"))) == 2
    assert f"what was drawn lies in {kept}; the same command goes on" in capsys.readouterr().err
    model = ToyModel()
    with pictures_kept(out) as cache:
        found = cache.draw(model, ["a car", "a boat", "a truck"], [1, 2, 3], Sampling())
    assert model.calls == [("a truck", 3)]
    assert np.array_equal(found, ToyModel().draw(["a car", "a boat", "a truck"], [1, 2, 3]))
    assert not kept.exists()


def test_nothing_drawn_leaves_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="wrong"), pictures_kept(tmp_path / "a" / "b" / "figures"):
        raise ValueError("wrong")
    assert list(tmp_path.iterdir()) == []
    assert capsys.readouterr().err == f"oubliette: made the folder {tmp_path / 'a' / 'b'} for figures\n"


def test_a_folder_of_the_user_s_own_stays(tmp_path: Path) -> None:
    with pictures_kept(tmp_path / "figures", tmp_path / "mine") as cache:
        cache.draw(ToyModel(), ["a car"], [1], Sampling())
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
    with pictures_kept(None) as cache:
        assert cache.folder is None


def test_measure_goes_on_after_an_interrupt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from oubliette.workflows.evaluate import measure

    class Interrupted(ToyModel):
        def draw(self, prompts: Sequence[str], seeds: Sequence[int], **how: Any) -> np.ndarray:
            if self.calls:
                raise KeyboardInterrupt
            return super().draw(prompts, seeds, **how)

    monkeypatch.setattr("oubliette.backends.open_model", lambda model: model)
    out = tmp_path / "figures"
    arguments: dict[str, Any] = {"concept": "car", "n": 20, "judges": [ToyJudge()], "out": out}
    with pytest.raises(KeyboardInterrupt):
        measure(Interrupted(OTHERS), ToyModel(), **arguments)
    assert [path.name for path in tmp_path.iterdir()] == ["figures.unfinished-pictures"]
    model, base = ToyModel(OTHERS), ToyModel()
    found = measure(model, base, **arguments)
    assert (len(model.calls), base.calls) == (2 * 20 - 32, [])  # a batch of 32 was there
    assert found.page == out / "index.html"
    assert [path.name for path in tmp_path.iterdir()] == ["figures"]


def test_two_measurements_into_one_folder(tmp_path: Path) -> None:
    out = tmp_path / "figures"
    with pictures_kept(out):
        said = rf"process {os.getpid()} on .* is at work"
        with pytest.raises(UserError, match=said), pictures_kept(out):
            pass
        with pytest.raises(UserError, match=said), pictures_kept(out, tmp_path / "cache"):
            pass


def test_another_measurement_is_not_resumed_but_may_begin(tmp_path: Path) -> None:
    def cut(n: int, **more: Any) -> None:
        with pictures_kept(tmp_path / "figures", identity={"n": n}, **more) as cache:
            cache.draw(ToyModel(), ["a car"], [1], Sampling())
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cut(1, resume=True)
    with pytest.raises(UserError, match="n was 1, here it is 2"):
        cut(2, resume=True)
    with pytest.raises(KeyboardInterrupt):
        cut(2)
    with pytest.raises(KeyboardInterrupt):
        cut(2, resume=True)
