"""Opening a model, whatever it is: a name, a folder, a Hub id, a delta, a pipeline in memory.

Imports data, world and core; knows nothing of forgetting.
Begin at `base.py` (what every model can be asked), then `diffusion.py` or `language.py`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from oubliette.core.errors import UserError, suggest

if TYPE_CHECKING:
    import torch

    from oubliette.backends.base import Backend

__all__ = ["open_model"]

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


def open_model(
    source: Any,
    *,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    base: Any = None,
) -> Backend:
    """Open a model as a backend; what its folder holds decides whether that is diffusion or language.

    `source` is an embedded name ("nano"), a folder in diffusers' or transformers' layout, a folder with a
    delta, a LoRA or an attachment (`base` then overrides the base its record names), a GGUF file, a Hub id
    ("owner/name"), a diffusers pipeline in memory (shared, not copied), or a backend (returned as it is).
    `device` is the GPU where there is one by default, `dtype` float32. Raises UserError for anything else,
    for pickles, and for files that lack a tensor or a tokenizer; warns (ModelWarning) of weights that are not
    finite, or not those of the record beside them, which `faults` of the model then says.
    """
    from oubliette.backends.base import Backend
    from oubliette.backends.files.gguf import is_gguf

    if isinstance(source, Backend):
        return source
    if not isinstance(source, (str, Path)):
        return _wrap(source)
    from oubliette.core.validation import user_path

    folder = user_path(source)
    if folder.is_dir() or is_gguf(folder):
        return _open_folder(folder, str(source), device, dtype, base)
    if folder.is_file():
        raise _file_error(folder)
    from oubliette.backends.files.stored import refuse_pickle
    from oubliette.world import embedded

    refuse_pickle(folder)
    name = str(source)
    if name in embedded.names():
        return _open_embedded(name, device, dtype)
    if _HUB_ID.fullmatch(name):
        return _open_folder(_from_hub(name), name, device, dtype, base)
    raise UserError(
        f"no model {name!r}: not a folder, not a Hub id and not embedded; {suggest(name, embedded.names())}"
    )


def _wrap(pipe: Any) -> Backend:
    if not (hasattr(pipe, "components") and hasattr(pipe, "scheduler")):
        lacking = "; a language model is wrapped with its tokenizer: ob.wrap(model, tokenizer)"
        raise UserError(
            f"cannot open a {type(pipe).__name__} as a model; expected a name, a folder or a pipeline"
            + (lacking if hasattr(pipe, "generate") else "")
        )
    from oubliette.backends.diffusion import DiffusionBackend

    return DiffusionBackend.from_pipeline(pipe)


def _open_folder(
    folder: Path,
    source: str,
    device: torch.device | str | None,
    dtype: torch.dtype | None,
    base: Any = None,
) -> Backend:
    import torch

    from oubliette.backends.soundness import look_for_faults

    model = _open_form(folder, source, device, dtype, base)
    look_for_faults(model, folder, exact=dtype in (None, torch.float32, torch.float64))
    return model


def _open_form(
    folder: Path, source: str, device: torch.device | str | None, dtype: torch.dtype | None, base: Any
) -> Backend:
    from oubliette.backends.files.delta import apply_delta, base_of
    from oubliette.core.manifest import read_manifest

    if (folder / "delta.safetensors").is_file():
        model = open_model(base if base is not None else base_of(folder), device=device, dtype=dtype)
        apply_delta(model, folder)
        model.source = source
        model.world = read_manifest(folder).get("world", model.world)
        return model
    if (folder / "attached.json").is_file():
        return _open_attached(folder, source, device, dtype, base)
    if (folder / "model_index.json").is_file():
        from oubliette.backends.diffusion import DiffusionBackend

        return DiffusionBackend.open(folder, source=source, device=device, dtype=dtype)
    if folder.is_file():  # a GGUF
        from oubliette.backends.language import LanguageBackend

        return LanguageBackend.open(folder, source=source, device=device, dtype=dtype)
    if (folder / "config.json").is_file():
        from oubliette.backends.files.opening import refuse_component
        from oubliette.backends.language import LanguageBackend

        refuse_component(folder)
        return LanguageBackend.open(folder, source=source, device=device, dtype=dtype)
    from oubliette.backends.files.lora_form import apply_lora, lora_file

    if lora_file(folder) is not None:
        model = open_model(base if base is not None else base_of(folder), device=device, dtype=dtype)
        apply_lora(model, folder)
        model.source = source
        model.world = read_manifest(folder).get("world", model.world)
        return model
    raise UserError(
        f"{folder}: holds no model; expected model_index.json (diffusers), config.json (transformers), "
        "delta.safetensors, attached.json or a LoRA's safetensors"
    )


def _open_attached(
    folder: Path, source: str, device: torch.device | str | None, dtype: torch.dtype | None, base: Any
) -> Backend:
    """The base that the folder's record names, with the folder's attachment on it."""
    from oubliette.backends.attachment import Attachable, read_attachment
    from oubliette.backends.files.delta import base_of, check_base
    from oubliette.core.manifest import read_manifest

    attachment = read_attachment(folder)
    model = open_model(base if base is not None else base_of(folder), device=device, dtype=dtype)
    if not isinstance(model, Attachable):
        raise UserError(f"{folder}: nothing can be attached to a {model.kind} model ({model.source})")
    expected = (read_manifest(folder).get("base") or {}).get("fingerprint")
    check_base(model, expected, f"{folder}: goes with a base of fingerprint")
    model.attach(attachment)
    model.source = source
    return model


def _open_embedded(name: str, device: torch.device | str | None, dtype: torch.dtype | None) -> Backend:
    from oubliette.backends.diffusion import DiffusionBackend
    from oubliette.core.manifest import read_manifest
    from oubliette.world import embedded

    folder = embedded.path(name)
    if folder is not None and any((folder / file).is_file() for file in ("model_index.json", "config.json")):
        return _open_form(folder, name, device, dtype, None)
    whole = embedded.path("nano")  # into which a part of a pipeline is put
    if folder is None or whole is None:
        raise UserError(f"the embedded model {name!r} is not in this installation; install oubliette again")
    parts = {entry.name: entry for entry in sorted(folder.iterdir()) if (entry / "config.json").is_file()}
    model = DiffusionBackend.open(whole, source=name, overlay=parts, device=device, dtype=dtype)
    model.world = read_manifest(folder).get("world", model.world)
    return model


def _file_error(path: Path) -> UserError:
    from oubliette.backends.files.stored import refuse_pickle

    refuse_pickle(path)
    if path.suffix == ".safetensors":
        return UserError(
            f"{path}: is a single file; expected a folder in diffusers' layout "
            "(diffusers: StableDiffusionPipeline.from_single_file(...).save_pretrained(folder))"
        )
    return UserError(
        f"{path}: is a file; expected a model's folder, a GGUF file, a Hub id or an embedded name"
    )


def _from_hub(name: str) -> Path:
    """Fetch a model's snapshot from the Hub (or its cache): safetensors, never a pickle, and what goes with
    them: configs, tokenizers, templates, licence and card.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    from oubliette.backends.files.opening import reason

    wanted = ["*.json", "*.txt", "*.model", "*.spm", "*.tiktoken", "*.jinja", "*.md", "LICENSE*", "NOTICE*"]
    wanted += ["*/*.safetensors", "model*.safetensors"]
    spare = ["*.fp16*", "*non_ema*", "*ema_pruned*", "onnx/*", "openvino/*", "flax/*"]
    try:
        return Path(snapshot_download(name, allow_patterns=wanted, ignore_patterns=spare))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise UserError(
            f"no model {name!r}: not a folder here, and the Hub gave none ({reason(error)})"
        ) from error
