"""A model on disk as a platform gets it back: whole, a component, a delta or adapters; nothing is loaded."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from oubliette.backends.attachment import ATTACHED
from oubliette.backends.files.delta import DELTA_NAME, base_of
from oubliette.backends.files.stored import PICKLES, refuse_pickle
from oubliette.core.errors import UserError
from oubliette.core.validation import user_path
from oubliette.guard.canonical import json_object, one_line, own_name
from oubliette.guard.verify.adapter_file import CONFIG_NAME, AdapterFile, is_adapter
from oubliette.guard.verify.tensor_file import TensorPlace, open_file

__all__ = ["Checkpoint", "Weights", "open_checkpoint", "underlay"]

_SHARD = re.compile(r"-(\d{5})-of-(\d{5})")
_INDEX = ".safetensors.index"


@dataclass
class Weights:
    """One set of weights that a loader could choose, such as a component's float16 variant.

    `component` is what its tensors' names begin with in the model, None where the files do not say. `partial`
    where what is not in it is as in the mask's base.
    """

    label: str
    component: str | None
    places: dict[str, TensorPlace]
    partial: bool = False

    def named(self, wanted: Iterable[str]) -> dict[str, TensorPlace]:
        """Its tensors by names as a mask has them.

        Where the files do not say which component they are, it is the one that most of the `wanted` names
        fit.
        """
        names = list(wanted)
        prefixes = ["", *dict.fromkeys(name.partition(".")[0] + "." for name in names)]
        if self.component is not None:
            prefixes = [f"{self.component}."]
        whole = [{own_name(prefix + key): place for key, place in self.places.items()} for prefix in prefixes]
        own = {own_name(name) for name in names}
        best = max(whole, key=lambda named: len(own & named.keys()))
        if len(best) != len(self.places):
            raise UserError(
                f"{self.label}: holds two tensors that are one by name, once without wrappers' levels"
            )
        return best


@dataclass
class Checkpoint:
    """What a folder or file holds: sets of weights, adapters, and `notes` on what was not looked at.

    `form` is "pipeline", "weights", "delta" or "adapter".
    """

    path: Path
    form: str
    weights: list[Weights] = field(default_factory=list)
    adapters: list[AdapterFile] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    base_fingerprint: str | None = None


def open_checkpoint(source: Path | str) -> Checkpoint:
    """What lies in a folder, a safetensors file or under an embedded name ("nano"); headers alone are read.

    A folder is a diffusers pipeline, a component of one, a transformers model, a delta of this package or
    adapters of peft or diffusers. Every variant and every set of shards is its own set of weights, since any
    of them may be what is loaded. UserError for what is none of that, for pickles without safetensors beside
    them, and for broken or incomplete files.
    """
    path = _located(source)
    if path.is_file():
        places, _ = open_file(path)
        if is_adapter(places):
            return Checkpoint(path, "adapter", adapters=[AdapterFile.open(path)])
        return Checkpoint(path, "weights", [Weights(path.name, None, places)])
    if (path / DELTA_NAME).is_file():
        places, metadata = open_file(path / DELTA_NAME)
        found = Checkpoint(path, "delta", [Weights(DELTA_NAME, None, places, partial=True)])
        found.base_fingerprint = metadata.get("base_fingerprint")
        return found
    if (path / "model_index.json").is_file():
        return _pipeline(path)
    found = Checkpoint(path, "weights", _sets(path, None), notes=_pickles(path))
    _sort(found)
    if not found.weights and not found.adapters and (path / ATTACHED).is_file():
        raise UserError(
            f"{path}: holds what goes with a model ({ATTACHED}), no weights; give the model that it goes with"
        )
    if not found.weights and not found.adapters:
        raise UserError(
            f"{path}: holds no model; expected model_index.json (diffusers), safetensors weights, "
            f"{DELTA_NAME} or adapters (adapter_model.safetensors, pytorch_lora_weights.safetensors)"
        )
    if not found.weights:
        found.form = "adapter"
    return found


def underlay(delta: Checkpoint) -> Checkpoint | None:
    """The model on disk that a delta goes on, as its record names it; None where it is not here."""
    try:
        path = _located(base_of(delta.path))
    except UserError:
        return None  # whoever asks says that it is not here
    return open_checkpoint(path)


def _located(source: Path | str) -> Path:
    from oubliette.world import embedded

    path = user_path(source)
    try:
        if path.exists():
            if path.is_file():
                refuse_pickle(path)
            return path
    except (OSError, ValueError) as error:  # ValueError: a null character
        raise UserError(f"{one_line(source)}: cannot be read ({one_line(error)})") from error
    found = embedded.path(str(source))
    if found is None:
        raise UserError(
            f"{one_line(source)}: no such file or folder; expected a model's folder or a safetensors file"
        )
    return found


def _pipeline(path: Path) -> Checkpoint:
    index = json_object(path / "model_index.json")
    found = Checkpoint(path, "pipeline")
    for component, kind in index.items():
        folder = path / component
        # A name with a separator would be a folder outside this one.
        if not isinstance(kind, list) or Path(component).name != component or not folder.is_dir():
            continue
        found.weights.extend(_sets(folder, component))
        found.notes.extend(_pickles(folder, f"{component}/"))
    found.weights.extend(_sets(path, None))
    _sort(found)
    return found


def _sort(found: Checkpoint) -> None:
    """Move files with adapters from the weights to where they belong."""
    for weights in list(found.weights):
        if weights.component is None and is_adapter(weights.places):
            found.weights.remove(weights)
            file = next(iter(weights.places.values())).file
            found.adapters.append(AdapterFile.open(file))
    config = found.path / CONFIG_NAME
    if config.is_file() and not found.adapters:
        raise UserError(f"{config}: stands without adapter_model.safetensors; pickles are not read")


def _sets(folder: Path, component: str | None) -> list[Weights]:
    """The sets of weights in a folder: files of an index together, numbered shards together, others alone."""
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise UserError(f"{folder}: cannot be read ({error.strerror or error})") from error
    groups: dict[str, list[Path]] = {}
    taken: set[str] = set()
    for entry in entries:
        if _INDEX in entry.name and entry.suffix == ".json":
            shards = _indexed(entry)
            taken.update(shard.name for shard in shards)
            groups[entry.name.replace(_INDEX, "").removesuffix(".json")] = shards
    for entry in entries:
        if entry.suffix == ".safetensors" and entry.is_file() and entry.name not in taken:
            groups.setdefault(_SHARD.sub("", entry.stem), []).append(entry)
    if not groups and component is None and not (folder / "model_index.json").is_file():
        refused = [
            entry for entry in entries if entry.suffix in PICKLES and entry.name != "training_args.bin"
        ]
        if refused:
            refuse_pickle(refused[0])
    return [Weights(_label(component, stem), component, _together(files)) for stem, files in groups.items()]


def _label(component: str | None, stem: str) -> str:
    return f"{component}/{stem}" if component else stem


def _indexed(index: Path) -> list[Path]:
    listed = json_object(index).get("weight_map")
    if not isinstance(listed, dict) or not all(isinstance(name, str) for name in listed.values()):
        raise UserError(f"{index}: expected a 'weight_map' of tensor names to files")
    shards = []
    for name in sorted(set(listed.values())):
        if Path(name).name != name:
            raise UserError(f"{index}: names {one_line(ascii(name))}, which is no file beside it")
        if not (index.parent / name).is_file():
            raise UserError(f"{index}: names {name}, which is not there")
        shards.append(index.parent / name)
    return shards


def _together(files: list[Path]) -> dict[str, TensorPlace]:
    numbers = [match for file in files if (match := _SHARD.search(file.stem))]
    if numbers:
        there = {int(match[1]) for match in numbers}
        missing = set(range(1, int(numbers[0][2]) + 1)) - there if int(numbers[0][2]) < 10_000 else {0}
        if missing:
            raise UserError(f"{files[0].parent}: shard {min(missing)} of {numbers[0][2]} is not there")
    places: dict[str, TensorPlace] = {}
    for file in files:
        for key, place in open_file(file)[0].items():
            if key in places:
                raise UserError(
                    f"{file}: holds tensor {one_line(ascii(key))}, which {places[key].file.name} has too"
                )
            places[key] = place
    return places


def _pickles(folder: Path, before: str = "") -> list[str]:
    names = [entry.name for entry in sorted(folder.iterdir()) if entry.suffix in PICKLES]
    return [f"{before}{name} is a pickle and was not looked at" for name in names]
