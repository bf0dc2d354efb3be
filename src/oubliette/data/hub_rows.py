"""Rows of a data set on the Hub, "owner/name" or "owner/name:split": its JSON lines or parquet files."""

from __future__ import annotations

import re
from pathlib import Path

from oubliette.core.errors import UserError, suggest

__all__ = ["files_of", "named_on_hub"]

_ID = re.compile(r"([A-Za-z0-9][\w.-]*/[\w.-]+?)(?::([\w./-]+))?")
_KINDS = (".jsonl", ".json", ".parquet")
_SHARD = re.compile(r"-\d{5}-of-\d{5}$")


def named_on_hub(source: Path | str) -> bool:
    """Whether a source of rows that is no file here could be a data set's id."""
    path = Path(source)
    return not path.exists() and path.suffix.lower() not in _KINDS and _ID.fullmatch(str(source)) is not None


def files_of(source: Path | str) -> list[Path]:
    """The files that hold a source's rows: itself, or those of a split of a data set on the Hub, by name.

    A split is a file's name without its ending ("forget10" of forget10.json), the folder or the first part of
    shards ("test" of data/test-00000-of-00001.parquet), or a folder with one of these ("wmdp-bio/test"). It
    may be left out where there is one. Only files that the split could lie in are fetched, or taken from the
    Hub's cache. UserError where the Hub gives none, and for a split that is not there or is there twice.
    """
    if not named_on_hub(source):
        return [Path(source)]
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    found = _ID.fullmatch(str(source))
    assert found is not None
    name, split = found.groups()
    last = (split or "").rpartition("/")[2]
    wanted = [f"*{last}*{kind}" for kind in _KINDS] + ([f"*{last}/*"] if last else [])
    try:
        folder = Path(snapshot_download(name, repo_type="dataset", allow_patterns=wanted))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        said = " ".join(str(error).split())
        raise UserError(
            f"no rows {str(source)!r}: not a file here, and the Hub gave no such data set "
            f"({said[:200] or type(error).__name__})"
        ) from error
    splits: dict[str, list[Path]] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in _KINDS and path.is_file():
            splits.setdefault(_split(path.relative_to(folder)), []).append(path)
    fitting = [key for key in splits if split is None or key == split or key.endswith(f"/{split}")]
    if split in splits:
        fitting = [split]
    if len(fitting) == 1:
        return splits[fitting[0]]
    if split is None and len(splits) > 1:
        raise UserError(
            f"{name}: has the splits {', '.join(sorted(splits))}; name one, as in {name}:{min(splits)}"
        )
    if fitting:
        raise UserError(f"{source}: is one of {', '.join(sorted(fitting))}; name it whole")
    near = f"; {suggest(split or '', sorted(splits))}" if splits else ""
    raise UserError(f"{source}: the data set has no such split as {' or '.join(_KINDS)}{near}")


def _split(path: Path) -> str:
    """A file's split: its folder and name without ending and shard; the folder alone says it for "data"."""
    stem = _SHARD.sub("", path.with_suffix("").name)
    parts = [part for part in path.parent.parts if part != "data"]
    return "/".join(parts if parts and parts[-1] == stem else [*parts, stem])
