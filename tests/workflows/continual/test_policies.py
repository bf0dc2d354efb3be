"""Streams that a policy decides about, FIT's or one's own; checkpoints, what is on record, resuming."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch

import tiny_language
from oubliette.backends import open_model
from oubliette.cli import main
from oubliette.core.errors import UserError
from oubliette.core.manifest import read_manifest
from oubliette.core.validation import StrictModel
from oubliette.erase import POLICIES
from oubliette.erase.policy import Asked, Decision, StatelessPolicy
from oubliette.workflows.continual.run import checkpoints_of, dry_stream, run_stream
from oubliette.workflows.order import Job, Order

NAMES = ("Ada", "Bram", "Cleo", "Dorn", "Esme", "Finn")
FIT = Order(policy="fit", overrides=["scope.top=1", "policy.bounds=null", "train.learning_rate=0.01"])


def records(path: Path, count: int = 6, twice: bool = False) -> Path:
    rows = [
        {
            "id": name.lower(),
            "text": f"{name} is from the town of {name[::-1]}.",
            "question": f"Where is {name} from?",
            "answer": f"the town of {name[::-1]}",
        }
        for name in NAMES[:count]
    ]
    rows += [{**rows[0], "id": "again"}] if twice else []
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    tiny_language.save(tmp_path / "base", "llama")
    tiny_language.write_rows(tmp_path / "retain.jsonl", tiny_language.RETAIN)
    records(tmp_path / "r.jsonl")
    return tmp_path


def streamed(root: Path, out: str, order: Order = FIT, *, resume: bool = False, **how: Any) -> Any:
    job = Job(root / out, resume=resume, show_progress=False)
    given = replace(order, retain=root / "retain.jsonl")
    return run_stream(root / "r.jsonl", given, job, model=root / "base", **how)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return {name: tensor.detach() for name, tensor in open_model(folder, device="cpu").tensors().items()}


def same(one: Path, two: Path) -> bool:
    ours, theirs = weights(one), weights(two)
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


class KilledError(Exception):
    """Stands for a signal."""


def killed_at(patch: pytest.MonkeyPatch, calls: int, where: str = "run") -> None:
    """Make the `calls`-th call of a loop's method raise once it is done."""
    from oubliette.train.loop import Loop

    original, seen = getattr(Loop, where), []

    def stop(loop: Any) -> None:
        original(loop)
        seen.append(1)
        if len(seen) == calls:
            raise KilledError

    patch.setattr(Loop, where, stop)


def test_only_checkpoints_are_kept_and_asked(root: Path) -> None:
    done = streamed(root, "out", checkpoints=[2, 4])
    folders = sorted(path.name for path in (root / "out").iterdir() if path.is_dir())
    assert folders == ["02-bram", "04-dorn", "06-finn"]
    assert same(root / "out", root / "out" / "06-finn")
    assert not same(root / "out" / "02-bram", root / "out" / "04-dorn")
    found = json.loads((root / "out" / "stream.json").read_text())["stages"]
    assert [stage["checkpoint"] for stage in found] == [False, True] * 3
    sizes = [{name: one["of"] for name, one in stage["likelihood"].items()} for stage in found[1::2]]
    assert sizes == [
        {"forget": 2, "to come": 4, "retain": 3},
        {"forget": 2, "earlier": 2, "to come": 2, "retain": 3},
        {"forget": 2, "earlier": 4, "retain": 3},
    ]
    assert found[1]["answers"][0]["question"] == "Where is Ada from?"  # the text was forgotten
    assert all(stage["scope"]["blocks"] for stage in found)
    table = (root / "out" / "stream.md").read_text()
    assert [line.split("|")[1].strip() for line in table.splitlines()[2:5]] == folders
    assert read_manifest(root / "out" / "04-dorn")["stream"] == {"stage": 4, "of": 6}
    assert len(done.stages) == 6


def test_a_whole_stream_is_the_same_however_often_it_is_kept(root: Path) -> None:
    streamed(root, "one", checkpoints=[6])
    streamed(root, "two")
    assert same(root / "one", root / "two")
    assert sorted(path.name[:2] for path in (root / "two").iterdir() if path.is_dir()) == [
        f"0{number}" for number in range(1, 7)
    ]


@pytest.mark.parametrize(("calls", "where"), [(3, "run"), (8, "save_checkpoint"), (6, "run")])
def test_killed_between_and_within_requests_it_ends_in_the_same_bits(
    root: Path, monkeypatch: pytest.MonkeyPatch, calls: int, where: str
) -> None:
    order = replace(FIT, overrides=[*FIT.overrides, "train.checkpoint_every=1"])
    streamed(root, "whole", order, checkpoints=[3])
    with monkeypatch.context() as patch:
        killed_at(patch, calls, where)
        with pytest.raises(KilledError):
            streamed(root, "out", order, checkpoints=[3])
    done = streamed(root, "out", order, resume=True, checkpoints=[3])
    assert same(root / "out", root / "whole")
    assert same(root / "out" / "03-cleo", root / "whole" / "03-cleo")
    whole = json.loads((root / "whole" / "stream.json").read_text())["stages"]
    facts = [(stage.record["method"], stage.record["decision"]) for stage in done.stages]
    assert facts == [(stage["method"], stage["decision"]) for stage in whole]


def test_a_state_on_disk_is_the_last_one_and_no_more(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("oubliette.workflows.continual.progress._SHARE", 0)
    sizes: list[int] = []
    from oubliette.workflows.continual.progress import Progress

    original = Progress.add

    def look(progress: Progress, *given: Any, **how: Any) -> None:
        original(progress, *given, **how)
        files = [path for path in (root / "out.unfinished").rglob("*") if path.is_file()]
        sizes.append(sum(path.stat().st_size for path in files))

    monkeypatch.setattr(Progress, "add", look)
    # Everywhere alike: what moves is the same from the first request on.
    over = ["policy.target=false", "policy.filter=false", "policy.importance=false"]
    streamed(root, "out", replace(FIT, overrides=[*FIT.overrides, *over]), checkpoints=[6])
    assert max(sizes[1:5]) - sizes[0] < 5000


@pytest.mark.parametrize(
    ("how", "order", "message"),
    [
        ({"permutation": 8}, FIT, "order was 7, here it is 8"),
        ({"permutation": 7}, replace(FIT, policy="fixed"), r"policy\.name was \"fit\", here it is \"fixed\""),
        ({"permutation": 7, "checkpoints": [2]}, FIT, "checkpoints"),
    ],
)
def test_it_goes_on_with_the_same_order_and_policy_alone(
    root: Path, monkeypatch: pytest.MonkeyPatch, how: dict[str, Any], order: Order, message: str
) -> None:
    with monkeypatch.context() as patch:
        killed_at(patch, 2)
        with pytest.raises(KilledError):
            streamed(root, "out", permutation=7)
    if order.policy == "fixed":
        order = replace(order, overrides=["scope.top=1"], method="fit")
    with pytest.raises(UserError, match=f"is another run's: {message}"):
        streamed(root, "out", order, resume=True, **how)


def test_a_damaged_stage_that_is_removed_is_erased_again(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    streamed(root, "whole")
    with monkeypatch.context() as patch:
        killed_at(patch, 4)
        with pytest.raises(KilledError):
            streamed(root, "out")
    import shutil

    shutil.rmtree(root / "out.unfinished" / "03-cleo")
    streamed(root, "out", resume=True)
    assert same(root / "out", root / "whole")


def test_what_repeats_is_skipped_and_counts(root: Path) -> None:
    records(root / "r.jsonl", 2, twice=True)
    over = [*FIT.overrides, "policy.matters=100", "policy.similar=0.99"]
    done = streamed(root, "out", replace(FIT, overrides=over))
    assert [stage.record["method"] is None for stage in done.stages] == [False, False, True]
    assert same(root / "out" / "02-bram", root / "out" / "03-again")
    assert "| 03-again | skipped |" in (root / "out" / "stream.md").read_text()
    again = json.loads((root / "out" / "stream.json").read_text())["stages"][2]
    assert again["decision"]["filter"]["kept"] == 0


class Refrain(StatelessPolicy):
    """Skips what the model finds unlikely already, and does the rest with gradient ascent."""

    name: ClassVar[str] = "refrain"

    class Options(StrictModel):
        """Its option."""

        enough: float = 0.0

    def decide(self, model: Any, asked: Asked) -> Decision:
        with torch.no_grad(), asked.before():
            batch = model.encode(list(asked.forget))
            then = float(model.log_likelihood(model.predict(batch), batch).sum())
        if asked.number == 2 or then > self.options.enough:
            return Decision(None, facts={"then": then})
        return Decision(
            asked.compose(method="graddiff", steps=2, set=["train.batch=1"]), facts={"then": then}
        )


def test_a_policy_of_ones_own_decides(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(POLICIES._targets, "refrain", Refrain)
    order = Order(method="npo", policy="refrain", overrides=["train.batch=1"], seed=5)
    done = streamed(root, "out", order)
    assert [stage.record["method"] for stage in done.stages] == ["graddiff", None, *["graddiff"] * 4]
    kept = read_manifest(root / "out" / "01-ada")["recipe"]
    assert (kept["train"]["steps"], kept["seed"], kept["policy"]) == (2, 5, None)
    none = streamed(root, "none", replace(order, overrides=["policy.enough=-1e9"]))
    assert {stage.record["method"] for stage in none.stages} == {None}
    assert same(root / "none", root / "base")
    with pytest.raises(UserError, match=r"unknown key 'enuogh'; did you mean 'enough'"):
        streamed(root, "other", replace(order, overrides=["policy.enuogh=1"]))


def test_pictures_are_decided_about_too(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Every(StatelessPolicy):
        """Every other request, by a method of its own."""

        name: ClassVar[str] = "every"

        def decide(self, model: Any, asked: Asked) -> Decision:
            if asked.number % 2 == 0:
                return Decision(None)
            return Decision(asked.compose(method="rece"), facts={"earlier": len(asked.recipe.data.avoid)})

    monkeypatch.setitem(POLICIES._targets, "every", Every)
    (tmp_path / "r.jsonl").write_text(
        '{"concept": "car", "anchor": "object"}\n{"concept": "dog", "anchor": "animal"}\n'
        '{"concept": "fish", "anchor": "animal"}\n'
    )
    order = Order(method="uce", policy="every", overrides=["data.prompts=4", "method.retain=given"])
    job = Job(tmp_path / "out", show_progress=False, check="off")
    done = run_stream(tmp_path / "r.jsonl", order, job, model=tiny_folder, checkpoints=[1])
    assert [stage.record["method"] for stage in done.stages] == ["rece", None, "rece"]
    assert [stage.record.get("decision") for stage in done.stages] == [{"earlier": 0}, None, {"earlier": 2}]
    assert same(tmp_path / "out", tmp_path / "out" / "03-fish")
    assert not same(tmp_path / "out" / "01-car", tmp_path / "out" / "03-fish")


def test_an_attachment_grows_between_checkpoints(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    over = ["method.blocks=[0, 1]", "train.batch=1", "train.optimizer=adam", "train.learning_rate=0.05"]
    order = Order(method="mrp", steps=2, overrides=over)
    streamed(root, "whole", order, checkpoints=[6])
    with monkeypatch.context() as patch:
        patch.setattr("oubliette.workflows.continual.progress._SHARE", 0)
        killed_at(patch, 4)
        with pytest.raises(KilledError):
            streamed(root, "out", order, checkpoints=[6])
    streamed(root, "out", order, resume=True, checkpoints=[6])
    one, two = (open_model(root / name, device="cpu") for name in ("whole", "out"))
    assert one.fingerprint() == two.fingerprint()


def test_checkpoints_of_a_long_stream() -> None:
    assert checkpoints_of(3, None) == [1, 2, 3]
    assert checkpoints_of(20, None) == list(range(1, 21))
    assert checkpoints_of(300, None) == [60, 120, 180, 240, 300]
    assert checkpoints_of(7, [4, 2, 4]) == [2, 4, 7]
    for wrong in (0, 8, -1):
        with pytest.raises(UserError, match=f"no request {wrong}; the stream has 7"):
            checkpoints_of(7, [wrong])


BAD = {
    "a checkpoint beyond the end": (["--checkpoints", "2,9"], "there is no request 9; the stream has 6"),
    "checkpoints that are none": (["--checkpoints", "2,x"], "--checkpoints 2,x: expected numbers"),
    "an encoder that is none": (["--encoder", "nowhere"], "encoder nowhere: no such folder"),
    "more blocks than there are": (["--set", "scope.top=3"], "scope.top is 3, and .* has 2 blocks"),
    "an unknown policy": (["--policy", "fitt"], "no policy is called 'fitt'; did you mean 'fit'"),
    "an unknown option": (["--policy-set", "simular=0.8"], "unknown key 'simular'; did you mean 'similar'"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_leaves_nothing(
    case: str, root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import re

    monkeypatch.chdir(root)
    more, message = BAD[case]
    command = ["erase", "--model", "base", "--stream", "r.jsonl", "--policy", "fit", "--out", "deep/out"]
    assert main([*command, "--set", "scope.top=1", *more]) == 2
    said = capsys.readouterr().err
    assert re.search(message, said)
    assert not (root / "deep").exists()


def test_a_stream_is_what_they_are_of(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["erase", "--model", str(root / "base"), "--forget", str(root / "r.jsonl"), "--out", "x"]
    for more in (["--order", "1"], ["--checkpoints", "1"], ["--policy", "fit"]):
        assert main([*command, *more]) == 2
        assert f"{more[0]} is of a stream of requests" in capsys.readouterr().err
    assert main([*command, "--method", "fit", "--set", "scope.top=1"]) == 2
    assert "policy 'fit' decides about one request after another: give --stream" in capsys.readouterr().err


def test_a_dry_run_counts_what_choosing_blocks_takes(root: Path) -> None:
    found = dry_stream(root / "r.jsonl", FIT, Job(), model=root / "base")
    assert [stage["stage"] for stage in found][:2] == ["01-ada", "02-bram"]
    assert found[0]["estimate"]["measuring"] == 3
