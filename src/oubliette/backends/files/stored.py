"""A diffusers folder as it lies on disk: which tensor is in which file, in which dtype, byte for byte."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from oubliette.core.errors import UserError
from oubliette.core.manifest import RECORD_NAME, read_object, write_json
from oubliette.core.writing import write_tensors

PICKLES = (".bin", ".ckpt", ".pt", ".pth", ".pkl", ".pickle")
_STEMS = ("diffusion_pytorch_model", "model", "pytorch_model")  # diffusers' and transformers' file names
_PIECE = 1 << 18
_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


def canonical(name: str) -> str:
    """A tensor's name without the level that transformers 5 took out of CLIP's text tower ("text_model.")."""
    return name.replace(".text_model.", ".")


def narrowed(tensor: Tensor, dtype: torch.dtype | None) -> Tensor:
    """The tensor in `dtype` where that holds every value exactly; else, and for None, as it is.

    Compared in pieces that stay in the processor's cache: a sixth of the time.
    """
    if dtype is None or dtype == tensor.dtype:
        return tensor
    pieces = tensor.reshape(-1).split(_PIECE if tensor.device.type == "cpu" else max(tensor.numel(), 1))
    exact = all(torch.equal(piece.to(dtype).to(piece.dtype), piece) for piece in pieces)
    return tensor.to(dtype) if exact else tensor


@dataclass(frozen=True)
class Place:
    """Where a tensor lies: the file, its name in it, its stored dtype, how many values it has."""

    file: Path
    key: str
    dtype: torch.dtype
    size: int


class StoredModel:
    """The weight files of a diffusers folder, some components possibly taken from another folder.

    Tensors are named "<component>.<name>" in canonical form. Only headers are read until a tensor is asked
    for. Raises UserError where the folder is no diffusers folder, where a component's only weights are
    pickles, and where a file is broken.
    """

    def __init__(self, folder: Path | str, overlay: Mapping[str, Path] | None = None) -> None:
        self.folder = Path(folder)
        self.overlay = dict(overlay or {})
        self.index: dict[str, Any] = _read_json(self.folder / "model_index.json")
        self.components = [
            name
            for name, kind in self.index.items()
            if isinstance(kind, list) and kind and kind[0] is not None
        ]
        self.variant: str | None = None
        self._weights: dict[str, tuple[list[Path], Path | None, str]] = {}
        self.places: dict[str, Place] = {}
        for component in self.components:
            self._find(component)

    @property
    def pipeline_class(self) -> str:
        """The class named in model_index.json."""
        return str(self.index.get("_class_name", ""))

    def at(self, component: str) -> Path:
        """The folder a component lies in."""
        return self.overlay.get(component, self.folder / component)

    def dtype(self, name: str) -> torch.dtype | None:
        """The stored dtype of a tensor, or None if it is not stored."""
        place = self.places.get(canonical(name))
        return place.dtype if place else None

    def sizes(self, component: str) -> dict[str, int]:
        """How many values each stored tensor of a component has."""
        return {name: p.size for name, p in self.places.items() if name.startswith(f"{component}.")}

    def weights(self, component: str) -> str:
        """What a component's weights lie in, for a message: the file, or the shards' index."""
        files, index, _ = self._weights.get(component, ([], None, ""))
        return str(index or (files[0] if files else self.at(component)))

    def tensor(self, name: str) -> Tensor:
        """One tensor as it is stored (KeyError if it is not)."""
        place = self.places[canonical(name)]
        with safe_open(str(place.file), framework="pt") as file:
            return file.get_tensor(place.key)

    def copy_to(self, target: Path, changed: Mapping[str, Tensor], dtype: torch.dtype | None = None) -> None:
        """Write the folder to `target`, with the `changed` tensors in place of the stored ones.

        Everything else is copied byte by byte: configs, tokenizers, weight files without a change, and the
        unchanged tensors inside the others. Pickles and this package's own record are left out; a variant
        (`model.fp16.safetensors`) loses its suffix, so that a plain `from_pretrained` opens the result. Where
        `dtype` is that of the changed tensors, the config of their components names it as well.
        """
        missing = [name for name in changed if canonical(name) not in self.places]
        if missing:
            raise UserError(
                f"{self.folder}: holds no tensor {missing[0]!r} to replace ({len(missing)} in all)"
            )
        by_file: dict[Path, dict[str, Tensor]] = {}
        for name, tensor in changed.items():
            place = self.places[canonical(name)]
            by_file.setdefault(place.file, {})[place.key] = tensor
        copy_beside(self.folder, target)
        moved = {name.partition(".")[0] for name in changed}
        for component in self.components:
            self._copy_component(component, target / component, by_file)
            if dtype is not None and component in moved:
                name_dtype(target / component / "config.json", dtype)

    def _copy_component(
        self, component: str, target: Path, by_file: Mapping[Path, dict[str, Tensor]]
    ) -> None:
        source = self.at(component)
        if not source.is_dir():
            return
        target.mkdir()
        files, index, stem = self._weights.get(component, ([], None, ""))
        copy_beside(source, target)
        for file in files:
            to = target / (file.name if index else f"{stem}.safetensors")
            if file in by_file:
                rewrite(file, to, by_file[file])
            else:
                shutil.copyfile(file, to)
        if index:
            shutil.copyfile(index, target / f"{stem}.safetensors.index.json")

    def _find(self, component: str) -> None:
        folder = self.at(component)
        if not folder.is_dir():
            return  # a component of the pipeline that holds no files, such as an absent safety checker
        found = _weight_files(folder)
        if found is None:
            pickles = [entry.name for entry in sorted(folder.iterdir()) if entry.suffix in PICKLES]
            if pickles:
                raise UserError(
                    f"{folder / pickles[0]}: is a pickle, which can run code when it is loaded; "
                    "only safetensors are read (save the model again with safe_serialization=True)"
                )
            return
        files, index, stem, variant = found
        self.variant = self.variant or variant
        self._weights[component] = (files, index, stem)
        for file in files:
            for place in header(file):
                self.places[canonical(f"{component}.{place.key}")] = place


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """All tensors of a safetensors file and its header's metadata; UserError if it cannot be read."""
    try:
        with safe_open(str(path), framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: not a readable safetensors file ({error})") from error


def header(file: Path) -> list[Place]:
    """The tensors in a safetensors file; UserError if it cannot be read."""
    try:
        with safe_open(str(file), framework="pt") as opened:
            slices = {key: opened.get_slice(key) for key in opened.keys()}  # noqa: SIM118
            return [
                Place(file, key, _DTYPES[found.get_dtype()], math.prod(found.get_shape()))
                for key, found in slices.items()
            ]
    except (SafetensorError, OSError) as error:
        raise UserError(f"{file}: not a readable safetensors file ({error})") from error
    except KeyError as error:
        raise UserError(f"{file}: holds tensors of dtype {error}, which is not supported") from error


def rewrite(source: Path, target: Path, changed: Mapping[str, Tensor]) -> None:
    """Write `source` to `target` with some tensors replaced, the others and the metadata as they are."""
    with safe_open(str(source), framework="pt") as file:
        metadata = file.metadata()
        tensors = {key: changed.get(key, None) for key in file.keys()}  # noqa: SIM118
        full = {
            key: file.get_tensor(key) if value is None else value.contiguous()
            for key, value in tensors.items()
        }
    write_tensors(target, full, metadata)


def copy_beside(source: Path, target: Path) -> None:
    """Copy every file of a folder that holds no weights, byte for byte, but this package's own record."""
    for entry in sorted(source.iterdir()):
        if entry.is_file() and entry.name != RECORD_NAME and not is_weights(entry):
            shutil.copyfile(entry, target / entry.name)


def name_dtype(config: Path, dtype: torch.dtype) -> None:
    """Let a transformers config that names the dtype of the weights name `dtype`: it is opened in what that
    says. Its other values stay as they are.
    """
    content = read_object(config)
    if _named(content, str(dtype).removeprefix("torch.")):
        write_json(config, content)


def _named(content: dict[str, Any], dtype: str) -> bool:
    """Put `dtype` in place of what a config and the configs within it name; whether any does."""
    within = [_named(value, dtype) for value in content.values() if isinstance(value, dict)]
    keys = [key for key in ("dtype", "torch_dtype") if isinstance(content.get(key), str)]
    content.update(dict.fromkeys(keys, dtype))
    return bool(keys) or any(within)


def refuse_pickle(path: Path) -> None:
    """Raise UserError if `path` names a pickled checkpoint; such a file is never opened."""
    if path.suffix.lower() in PICKLES:
        raise UserError(
            f"{path}: is a pickle checkpoint, which can run code when it is loaded; "
            "convert it to a folder of safetensors first (diffusers: from_single_file, then save_pretrained)"
        )


def _weight_files(folder: Path) -> tuple[list[Path], Path | None, str, str | None] | None:
    """The safetensors files of a component: (files, shard index, stem, variant); plain names win over
    variants.
    """
    for stem in _STEMS:
        if (folder / f"{stem}.safetensors").is_file():
            return [folder / f"{stem}.safetensors"], None, stem, None
        index = folder / f"{stem}.safetensors.index.json"
        if index.is_file():
            return _shards(index), index, stem, None
    for stem in _STEMS:
        for file in sorted(folder.glob(f"{stem}.*.safetensors")):
            variant = file.name[len(stem) + 1 : -len(".safetensors")]
            if "-of-" not in variant:
                return [file], None, stem, variant
        for index in sorted(folder.glob(f"{stem}.safetensors.index.*.json")):
            variant = index.name[len(f"{stem}.safetensors.index.") : -len(".json")]
            return _shards(index), index, stem, variant
    return None


def _shards(index: Path) -> list[Path]:
    names: Iterable[str] = _read_json(index).get("weight_map", {}).values()
    shards = sorted({index.parent / name for name in names})
    for shard in shards:
        if not shard.is_file():
            raise UserError(f"{index}: names {shard.name}, which is not there")
    return shards


def is_weights(entry: Path) -> bool:
    """Whether a file holds weights, in whatever form, or says which file holds which."""
    name = entry.name
    return entry.suffix in (*PICKLES, ".safetensors", ".msgpack", ".onnx", ".h5", ".gguf") or (
        ".safetensors.index." in name or ".bin.index." in name
    )


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise UserError(f"{path.parent}: no {path.name} in it, so not a diffusers folder")
    return read_object(path)
