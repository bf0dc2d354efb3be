"""CLIP figures: score, accuracy of target against anchor, zero-shot share, from any open_clip model."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from PIL import Image

from oubliette.core.errors import UserError
from oubliette.core.manifest import fingerprint as fingerprint_of
from oubliette.core.validation import user_path
from oubliette.data.words import with_article
from oubliette.eval.judge import check_pictures

#: Prompt ensembles; a name's text embedding is the mean over them, as in CLIP's own zero-shot protocol.
TEMPLATES: dict[str, tuple[str, ...]] = {
    "object": ("{a}", "a picture of {a}", "a drawing of {a}"),
    "style": ("{a} picture", "a picture in {} style", "{} style"),
    "person": ("{}", "a picture of {}", "a portrait of {}"),
    "anchor": ("{a}", "a picture of {a}", "a drawing of {a}"),
}


class ClipModel:
    """An open_clip model with unit-length embeddings of pictures and words.

    `encode_pictures` and `encode_texts` return float32 (n, d) with rows of length one; `features` returns the
    pictures' embeddings at length sqrt(d), so that KID's kernel (x.y / d + 1)^3 is (cosine + 1)^3 and has the
    same scale for every CLIP.
    """

    def __init__(self, name: str, model: Any, preprocess: Any, tokenizer: Any, *, batch: int = 64) -> None:
        self.name = name
        self.model = model.eval()
        self.preprocess = preprocess
        self.tokenizer = tokenizer
        self.batch = batch
        self.device = next(model.parameters()).device
        self.fingerprint = fingerprint_of(dict(model.state_dict()))
        self._words: dict[tuple[str, str], np.ndarray] = {}
        self._last: tuple[bytes, np.ndarray] | None = None

    @property
    def scale(self) -> float:
        """The trained factor on cosines before a softmax."""
        return float(self.model.logit_scale.detach().exp())

    @torch.no_grad()
    def features(self, pictures: np.ndarray) -> np.ndarray:
        """Picture embeddings of length sqrt(d), float32 (n, d), of uint8 pictures (n, H, W, 3)."""
        check_pictures(pictures)
        # The judge and the figures look at the same pictures one after the other: encode them once.
        mark = hashlib.sha256(
            repr(pictures.shape).encode() + np.ascontiguousarray(pictures).tobytes()
        ).digest()
        if self._last is None or self._last[0] != mark:
            self._last = (mark, self._encode(pictures))
        return self._last[1]

    def _encode(self, pictures: np.ndarray) -> np.ndarray:
        rows = []
        for start in range(0, len(pictures), self.batch):
            images = [self.preprocess(Image.fromarray(p)) for p in pictures[start : start + self.batch]]
            rows.append(self.model.encode_image(torch.stack(images).to(self.device)).float().cpu().numpy())
        if not rows:
            return np.zeros((0, 0), np.float32)
        found = unit(np.concatenate(rows))
        return found * np.float32(np.sqrt(found.shape[1]))

    def encode_pictures(self, pictures: np.ndarray) -> np.ndarray:
        """Unit-length picture embeddings, float32 (n, d)."""
        return unit(self.features(pictures))

    @torch.no_grad()
    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        """Unit-length text embeddings, float32 (n, d)."""
        rows = []
        for start in range(0, len(texts), self.batch):
            tokens = self.tokenizer(list(texts[start : start + self.batch])).to(self.device)
            rows.append(self.model.encode_text(tokens).float().cpu().numpy())
        return unit(np.concatenate(rows))

    def encode_word(self, word: str, kind: str) -> np.ndarray:
        """Unit-length embedding (d,) of a concept's name, averaged over the templates of its kind (or
        "anchor").
        """
        if (word, kind) not in self._words:
            texts = [fill(template, word) for template in TEMPLATES[kind]]
            self._words[word, kind] = unit(self.encode_texts(texts).mean(0, keepdims=True))[0]
        return self._words[word, kind]


def fill(template: str, word: str) -> str:
    """A template with a word put in; `{a}` also brings the article the word needs."""
    return template.replace("{a}", with_article(word)).replace("{}", word)


def unit(rows: np.ndarray) -> np.ndarray:
    """Rows divided by their length, float32."""
    length = np.linalg.norm(rows, axis=-1, keepdims=True)
    return (rows / np.maximum(length, 1e-12)).astype(np.float32)


def clip_score(pictures: np.ndarray, texts: np.ndarray) -> np.ndarray:
    """CLIPScore 2.5 max(cos, 0) of each picture with its text, (n,) (Hessel et al. 2021, arXiv:2104.08718).

    Takes unit-length embeddings (n, d) and (n, d) or (d,).
    """
    return 2.5 * np.maximum((pictures * texts).sum(-1), 0.0)


def clip_accuracy(pictures: np.ndarray, target: np.ndarray, anchor: np.ndarray) -> np.ndarray:
    """Boolean (n,): the picture is nearer the target's words than the anchor's (Kumari et al. 2023,
    2303.13516).
    """
    return pictures @ target > pictures @ anchor


def probability(pictures: np.ndarray, target: np.ndarray, anchor: np.ndarray, scale: float) -> np.ndarray:
    """Softmax probability (n,) of the target's words against the anchor's at the model's own scale."""
    return 1.0 / (1.0 + np.exp(-scale * (pictures @ target - pictures @ anchor).astype(np.float64)))


def zero_shot(pictures: np.ndarray, words: np.ndarray) -> np.ndarray:
    """Index (n,) of the nearest of the words' embeddings (k, d)."""
    return np.argmax(pictures @ words.T, axis=1)


def open_clip_model(name: str, *, device: str | torch.device = "cpu") -> ClipModel:
    """Open an open_clip model: an embedded name, a folder, `hf-hub:owner/name`, or `ARCHITECTURE/TAG`.

    Only safetensors are opened. Raises UserError where there is no such model or it comes as a pickle alone.
    """
    from oubliette.world import embedded

    path = embedded.path(name)
    folder = path if path is not None else user_path(name)
    if folder.is_dir():
        return _open_folder(name, folder, device)
    if name.startswith("hf-hub:"):
        return _open_hub(name, device)
    return _open_tag(name, device)


def _open_folder(name: str, folder: Path, device: str | torch.device) -> ClipModel:
    if not (folder / "open_clip_config.json").is_file():
        raise UserError(f"CLIP: {folder} has no open_clip_config.json, so it is no open_clip folder")
    if not list(folder.glob("*.safetensors")):
        raise UserError(f"CLIP: {folder} has no .safetensors file; pickled checkpoints are not opened")
    address = f"local-dir:{folder}"
    model, _, preprocess = open_clip.create_model_and_transforms(address, device=device)
    return ClipModel(
        folder.name if Path(name) == folder else name, model, preprocess, open_clip.get_tokenizer(address)
    )


def _open_hub(name: str, device: str | torch.device) -> ClipModel:
    from huggingface_hub import snapshot_download

    patterns = [
        "open_clip_config.json",
        "open_clip_model.safetensors",
        "*token*",
        "*.txt",
        "vocab*",
        "merges*",
    ]
    try:
        folder = snapshot_download(name.removeprefix("hf-hub:"), allow_patterns=patterns)
    except Exception as error:
        raise UserError(f"CLIP: {name} could not be fetched from the Hub: {_first_line(error)}") from error
    opened = _open_folder(name, Path(folder), device)
    opened.name = name
    return opened


def _open_tag(name: str, device: str | torch.device) -> ClipModel:
    from huggingface_hub import hf_hub_download

    architecture, _, tag = name.replace(":", "/").partition("/")
    if not tag or architecture not in open_clip.list_models():
        raise UserError(
            f"CLIP: no model {name!r}; give an embedded name, a folder, hf-hub:owner/name or "
            "ARCHITECTURE/TAG as in ViT-B-32/laion2b_s34b_b79k"
        )
    facts = open_clip.get_pretrained_cfg(architecture, tag) or {}
    address = str(facts.get("hf_hub", "")).strip("/")
    if not address:
        raise UserError(f"CLIP: {name!r} is not offered on the Hub; known tags: {_tags(architecture)}")
    owner = "/".join(address.split("/")[:2])
    try:
        weights = hf_hub_download(owner, "open_clip_model.safetensors")
    except Exception as error:
        raise UserError(f"CLIP: no safetensors of {name} could be fetched: {_first_line(error)}") from error
    model, _, preprocess = open_clip.create_model_and_transforms(
        architecture,
        pretrained=weights,
        device=device,
        force_quick_gelu=bool(facts.get("quick_gelu", False)),
        image_mean=facts.get("mean"),
        image_std=facts.get("std"),
    )
    return ClipModel(name, model, preprocess, open_clip.get_tokenizer(architecture))


def _tags(architecture: str) -> str:
    return ", ".join(open_clip.list_pretrained_tags_by_model(architecture)) or "none"


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
