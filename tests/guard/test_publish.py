"""Publishing with an API that stands in for the Hub's: what would go up, what does, and what never does."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError

from guard.toy_model import mask, one_line
from oubliette import guard
from oubliette.core.errors import UserError
from oubliette.guard.publish import publish


class Hub:
    """As much of HfApi as publishing uses."""

    def __init__(self, refuses: Exception | None = None) -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.refuses = refuses

    def create_repo(self, **options: Any) -> None:
        if self.refuses:
            raise self.refuses
        self.calls.append(("create_repo", options))

    def upload_folder(self, **options: Any) -> Any:
        self.calls.append(("upload_folder", options))
        pull = "https://hub.example/owner/name/discussions/1" if options["create_pr"] else None
        return SimpleNamespace(commit_url="https://hub.example/owner/name/commit/abc", oid="abc", pr_url=pull)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    mask(scores={mask().names[0]: 1.0}).write(tmp_path / "mask")
    return tmp_path / "mask"


def test_a_dry_run_says_everything_and_touches_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def touched(*_: Any, **__: Any) -> None:
        raise AssertionError("the Hub was asked")

    monkeypatch.setattr("huggingface_hub.HfApi.__init__", touched)
    found = guard.publish(folder, "owner/name", dry_run=True, private=True)
    assert [file.name for file in found.files] == ["guard.json", "scores.safetensors", "README.md"]
    for file in found.files:
        raw = (folder / file.name).read_bytes()
        assert (file.size, file.sha256) == (len(raw), hashlib.sha256(raw).hexdigest())
    assert "private model repository owner/name" in found.steps[0]
    assert "3 files" in found.steps[1]
    assert (found.url, found.commit, found.dry_run) == (None, None, True)
    assert json.loads(json.dumps(found.to_dict()))["repo"] == "owner/name"


@pytest.mark.parametrize("create_pr", [False, True])
def test_what_goes_up(folder: Path, create_pr: bool) -> None:
    hub = Hub()
    found = publish(folder, "owner/name", private=True, create_pr=create_pr, api=hub)
    (made, options), (uploaded, upload) = hub.calls
    assert (made, uploaded) == ("create_repo", "upload_folder")
    assert options == {"repo_id": "owner/name", "repo_type": "model", "private": True, "exist_ok": True}
    assert upload["folder_path"] == str(folder)
    assert upload["allow_patterns"] == ["guard.json", "scores.safetensors", "README.md"]
    assert upload["create_pr"] is create_pr
    assert mask(scores={mask().names[0]: 1.0}).digest()[:12] in upload["commit_message"]
    assert found.commit == "abc"
    assert ("discussions" in str(found.url)) is create_pr


def _broken(folder: Path) -> None:
    (folder / "guard.json").write_bytes((folder / "guard.json").read_bytes()[:-10])


def test_what_is_no_mask_is_refused_before_anything(folder: Path, tmp_path: Path) -> None:
    hub = Hub()
    cases: list[tuple[Path, str, str]] = [
        (tmp_path / "nowhere", "owner/name", "no such folder"),
        (tmp_path, "owner/name", "guard.json"),
        (folder, "name", "expected owner/name"),
        (folder, "owner/name/more", "expected owner/name"),
        (folder, "https://hub.example/owner/name", "expected owner/name"),
        (folder, "../name", "expected owner/name"),
        (folder, "owner/na\nme", "expected owner/name"),
    ]
    for path, repo, said in cases:
        with pytest.raises(UserError, match=said) as raised:
            publish(path, repo, api=hub)
        one_line(raised.value)
    (folder / "private-notes.txt").write_text("x")
    with pytest.raises(UserError, match=r"private-notes\.txt, which is no part of a mask"):
        publish(folder, "owner/name", api=hub)
    (folder / "private-notes.txt").unlink()
    _broken(folder)
    with pytest.raises(UserError):
        publish(folder, "owner/name", api=hub)
    assert hub.calls == []


def test_what_the_hub_refuses_gives_one_line_without_the_token(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secretsecretsecret")
    answer: Any = SimpleNamespace(headers={}, request=None)
    for error in (
        HfHubHTTPError("403 Forbidden: no right to write\nRequest ID: 1", response=answer),
        LocalTokenNotFoundError("Token is required, but no token found."),
        OSError("no route to host"),
    ):
        with pytest.raises(UserError, match="the Hub did not take the mask") as raised:
            publish(folder, "owner/name", api=Hub(error))
        assert "hf_secret" not in one_line(raised.value)
    assert "hf_secret" not in "".join(capsys.readouterr())
