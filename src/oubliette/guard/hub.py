"""What the Hub says of a model or a mask: ids, commits, and fetching a mask's folder."""

from __future__ import annotations

import re
from pathlib import Path

from oubliette.core.errors import UserError
from oubliette.guard.canonical import one_line

__all__ = ["checked_revision", "fetch", "is_repo", "revision_of"]

_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_COMMIT = re.compile(r"[0-9a-f]{40}")


def is_repo(source: str) -> bool:
    """Whether a source reads like a Hub id ("owner/name") and is nothing on this disk."""
    return bool(_ID.fullmatch(source)) and not Path(source).exists()


def checked_revision(revision: str) -> str:
    """A Hub commit; UserError for a branch or a tag, which may be moved to other weights."""
    if not _COMMIT.fullmatch(revision):
        raise UserError(
            f"revision {revision!r}: a branch or a tag can be moved; expected the commit, 40 hex digits"
        )
    return revision


def revision_of(source: str) -> str | None:
    """The commit of a model opened from the Hub's cache, by id or as a snapshot's folder; None elsewhere."""
    if is_repo(source):
        from huggingface_hub import try_to_load_from_cache

        for name in ("model_index.json", "config.json"):
            found = try_to_load_from_cache(source, name)
            if isinstance(found, str):
                return _in_snapshot(Path(found))
        return None
    return _in_snapshot(Path(source).absolute()) if Path(source).is_dir() else None


def fetch(repo: str, revision: str | None = None) -> Path:
    """The folder of a published mask, from the Hub or its cache; UserError where it cannot be had."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(
            snapshot_download(
                repo, revision=revision, allow_patterns=["*.json", "*.safetensors", "*.md", "*.sig"]
            )
        )
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise UserError(
            f"no mask {repo!r}: not a folder here, and the Hub gave none ({one_line(error)})"
        ) from error


def _in_snapshot(path: Path) -> str | None:
    parts = path.parts
    for place, part in enumerate(parts[:-1]):
        if part == "snapshots" and _COMMIT.fullmatch(parts[place + 1]):
            return parts[place + 1]
    return None
