"""Putting a mask's folder on the Hub, or saying what would be put there."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from oubliette.core.errors import UserError
from oubliette.core.manifest import hash_file
from oubliette.guard.artefact import CARD_NAME, JSON_NAME, SCORES_NAME
from oubliette.guard.canonical import one_line
from oubliette.guard.mask import read_mask
from oubliette.guard.sign import SIGNATURE_NAME

__all__ = ["Published", "PublishedFile", "publish"]

_PARTS = (JSON_NAME, SCORES_NAME, CARD_NAME, SIGNATURE_NAME, "where.png")
_REPO = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


@dataclass(frozen=True)
class PublishedFile:
    """A file of the mask: its name, its size in bytes, its sha256."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Published:
    """What was put on the Hub, or, with `dry_run`, would be.

    `url` and `commit` are the Hub's answer, None in a dry run; `steps` say in words what was or would be
    done; `mask` is the mask's digest.
    """

    repo: str
    private: bool
    dry_run: bool
    mask: str
    files: tuple[PublishedFile, ...]
    steps: list[str]
    url: str | None = None
    commit: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


def publish(
    folder: Path | str,
    repo: str,
    *,
    private: bool = False,
    dry_run: bool = False,
    create_pr: bool = False,
    api: Any = None,
) -> Published:
    """Upload a mask's folder to the Hub's model repository `repo` ("owner/name"), making it where it is not
    there.

    Only the files of a mask go up: guard.json, scores.safetensors, README.md, model.sig and where.png. The
    token is the one `huggingface_hub` finds (its environment variable or its login) and is never printed.
    `dry_run` says what would be done and touches no network; `create_pr` opens a pull request instead of
    committing. `api` stands in for `huggingface_hub.HfApi()`. UserError for a folder that holds no valid mask
    or other files, before anything is sent, for a repository id that is none, and where the Hub refuses.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; expected a mask's folder")
    if not _REPO.fullmatch(repo) or ".." in repo or "--" in repo:
        raise UserError(f"repository {one_line(ascii(repo))}: expected owner/name, as on the Hub")
    mask = read_mask(folder)
    others = sorted(entry.name for entry in folder.iterdir() if entry.name not in _PARTS)
    if others:
        raise UserError(
            f"{folder}: holds {one_line(others[0])}, which is no part of a mask; move it elsewhere first"
        )
    files = tuple(
        PublishedFile(name, (folder / name).stat().st_size, hash_file(folder / name))
        for name in _PARTS
        if (folder / name).is_file()
    )
    total = sum(file.size for file in files)
    steps = [
        f"make the {'private' if private else 'public'} model repository {repo}, if it is not there",
        f"{'open a pull request' if create_pr else 'commit'} with {len(files)} files, {total:,} bytes",
    ]
    made = Published(repo, private, dry_run, mask.digest(), files, steps)
    return made if dry_run else _upload(made, folder, create_pr, api)


def _upload(made: Published, folder: Path, create_pr: bool, api: Any) -> Published:
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError

    api = api if api is not None else HfApi(library_name="oubliette")
    try:
        api.create_repo(repo_id=made.repo, repo_type="model", private=made.private, exist_ok=True)
        done = api.upload_folder(
            repo_id=made.repo,
            repo_type="model",
            folder_path=str(folder),
            allow_patterns=[file.name for file in made.files],
            commit_message=f"Freeze mask {made.mask[:12]}",
            create_pr=create_pr,
        )
    except (HfHubHTTPError, HFValidationError, LocalTokenNotFoundError, OSError) as error:
        # Their text has addresses and request ids, and never the token; the first line says what it was.
        reason = one_line(str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__)
        raise UserError(f"{made.repo}: the Hub did not take the mask ({reason})") from error
    url = getattr(done, "pr_url", None) or getattr(done, "commit_url", None)
    return Published(
        **{**vars(made), "url": None if url is None else str(url), "commit": getattr(done, "oid", None)}
    )
