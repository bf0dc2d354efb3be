"""Any causal language model of transformers as a backend: encode, predict, respond, save."""

from __future__ import annotations

import copy
import hashlib
import shutil
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from oubliette.backends.attachment import Attachable, save_attached
from oubliette.backends.base import FORMS
from oubliette.backends.device import default_device
from oubliette.backends.files.adapters import save_peft_adapters
from oubliette.backends.files.changes import changed_tensors
from oubliette.backends.files.delta import base_facts, write_delta
from oubliette.backends.files.gguf import is_gguf, read_gguf
from oubliette.backends.files.lora_form import Factors, adapter_hashes, low_rank
from oubliette.backends.files.opening import check_causal, check_vocabulary, reason, refuse_missing
from oubliette.backends.files.stored import PICKLES, copy_beside, header, is_weights, name_dtype, narrowed
from oubliette.backends.front import put_before, read_as
from oubliette.backends.hooks import blocks_of
from oubliette.backends.layers import own, refuse_open
from oubliette.backends.quiet import quiet_loading
from oubliette.backends.token_scores import TokenScores, score_tokens
from oubliette.backends.tokens import IGNORED, TokenBatch, TokenReader
from oubliette.core.errors import UserError, suggest
from oubliette.core.manifest import (
    atomic_folder,
    read_manifest,
    refuse_existing,
    share,
    update_digest,
    write_manifest,
)
from oubliette.core.manifest import record as make_record
from oubliette.data.questions import QA

if TYPE_CHECKING:
    from oubliette.backends.base import Backend

__all__ = ["LanguageBackend", "TokenBatch"]

_REHEARSED = 128
_TEMPLATES = "additional_chat_templates"  # the one folder that a tokenizer reads


class LanguageBackend(Attachable):
    """A causal language model and its tokenizer behind the same interface as every other model.

    All weights are frozen (`requires_grad` False) and dropout is off on opening: whoever trains unfreezes
    what may move. `stored_dtype` is that of most stored tensors, and of what is saved.
    """

    kind = "language"
    faults: tuple[str, ...] = ()

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        source: str = "memory",
        world: str | None = None,
        origin: Path | None = None,
        stored_dtype: torch.dtype | None = None,
    ) -> None:
        self.model = model.requires_grad_(False).eval()
        self.tokenizer = tokenizer
        self.source, self.world = source, world
        self.stored_dtype: torch.dtype = stored_dtype or model.dtype
        self._origin = origin
        vocabulary = len(model.get_input_embeddings().weight)
        self.reader = TokenReader(tokenizer, _context(model.config, tokenizer), source, vocabulary)

    @classmethod
    def open(
        cls,
        folder: Path | str,
        *,
        source: str | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> LanguageBackend:
        """Open a transformers folder of safetensors or a GGUF file, in float32 unless `dtype` says otherwise.

        Of a GGUF the stored dtype is `dtype`: no other holds what its blocks say. Raises UserError for
        pickles, broken or incomplete folders and files, and models that are not causal language models.
        """
        folder = Path(folder)
        if is_gguf(folder):
            stored = dtype or torch.float32
            model, tokenizer = read_gguf(folder, stored)
        else:
            model, tokenizer, stored = _read_folder(folder, dtype or torch.float32)
        return cls(
            model.to(device or default_device()),
            tokenizer,
            source=source or str(folder),
            world=read_manifest(folder).get("world"),
            origin=folder,
            stored_dtype=stored,
        )

    @classmethod
    def from_model(cls, model: Any, tokenizer: Any) -> LanguageBackend:
        """Take a model in memory as it is, sharing its weights; UserError where it is no causal language
        model, or the tokenizer is none.
        """
        config = getattr(model, "config", None)
        able = getattr(model, "can_generate", bool)() and not getattr(config, "is_encoder_decoder", False)
        if not able or not callable(getattr(tokenizer, "batch_decode", None)):
            raise UserError(
                "expected a causal language model of transformers and its tokenizer, found a "
                f"{type(model).__name__} and a {type(tokenizer).__name__}"
            )
        return cls(model, tokenizer)

    # -- what it is
    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.model.parameters()).device

    def tensors(self) -> dict[str, nn.Parameter]:
        """Every parameter by its name in the model, tied ones once."""
        return own(dict(self.model.named_parameters()))

    def text_facing(self) -> list[str]:
        """None: the whole model reads the text."""
        return []

    def groups(self) -> dict[str, list[str]]:
        """None."""
        return {}

    def modules(self) -> dict[str, nn.Module]:
        """The one component."""
        return {"model": self.model}

    def fingerprint(
        self, instead: Mapping[str, Tensor] | None = None, stored: torch.dtype | None = None
    ) -> str:
        """The sha256 of all weights, and of what is attached; those that the stored dtype holds exactly are
        hashed in it.

        So it is the same before saving and after opening again, in whatever dtype the model is held.
        `instead` gives values to take the place of some, `stored` another dtype to be stored in.
        """
        refuse_open(self)
        digest = hashlib.sha256()
        held = {**self.tensors(), **(instead or {})}
        for name in sorted(held):
            update_digest(digest, name, narrowed(held[name].detach(), stored or self.stored_dtype))
        return self.with_attachment(digest.hexdigest())

    # -- what it does
    def encode(self, pairs: Sequence[QA]) -> TokenBatch:
        """Questions and answers as tokens on the CPU; answers count in the loss, and all of a plain text."""
        return self.reader.encode(pairs)

    def predict(self, batch: TokenBatch, embeddings: Tensor | None = None) -> Tensor:
        """Next-token logits (B, L, vocabulary), with a graph where gradients are on.

        `embeddings` (B, L, width) take the place of the batch's own (`embed`).
        """
        batch = batch.to(self.device)
        words = {"input_ids": batch.input_ids} if embeddings is None else {"inputs_embeds": embeddings}
        return self.model(**words, attention_mask=batch.attention_mask, use_cache=False).logits

    def embed(self, batch: TokenBatch) -> Tensor:
        """The embeddings (B, L, width) that `predict` begins with, as the model scales them itself."""
        found: Tensor = self.model.get_input_embeddings()(batch.input_ids.to(self.device))
        return found

    def blocks(self) -> list[nn.Module]:
        """The decoder's blocks, first to last, for `oubliette.backends.hooks`."""
        return blocks_of(self.model, self.model.config.get_text_config().num_hidden_layers)

    def rehearse(self, count: int) -> Tensor:
        """`predict` on rows of made-up tokens, 128 each or as many as the model takes."""
        length = min(_REHEARSED, self.reader.max_length)
        words = torch.arange(count * length).view(count, length) % self.reader.vocabulary
        return self.predict(TokenBatch(words, torch.ones_like(words), words))

    def log_likelihood(self, logits: Tensor, batch: TokenBatch) -> Tensor:
        """The log-likelihood of each row's counted tokens, summed over the row: shape (B,), fp32."""
        return self.token_log_likelihood(logits, batch).sum(dim=1)

    def token_log_likelihood(self, logits: Tensor, batch: TokenBatch) -> Tensor:
        """The log-likelihood of each counted token, and 0 of every other: shape (B, L - 1), fp32."""
        labels = batch.labels[:, 1:].to(logits.device)
        return -F.cross_entropy(
            logits[:, :-1].float().transpose(1, 2), labels, ignore_index=IGNORED, reduction="none"
        )

    @torch.no_grad()
    def scores(self, rows: Sequence[QA], batch: int = 16) -> list[TokenScores]:
        """What the model says of each token of the rows' answers, `batch` rows of like length at a time."""
        order = sorted(range(len(rows)), key=lambda index: len(rows[index].question + rows[index].answer))
        found: dict[int, TokenScores] = {}
        for first in range(0, len(rows), batch):
            some = order[first : first + batch]
            tokens = self.encode([rows[index] for index in some])
            found |= zip(
                some, score_tokens(self.predict(tokens), tokens.labels, self.reader.end), strict=True
            )
        return [found[index] for index in range(len(rows))]

    @torch.no_grad()
    def respond(
        self,
        prompts: Sequence[str],
        max_new_tokens: int = 64,
        *,
        temperature: float = 0.0,
        seed: int = 0,
        opening: str = "",
        front: Tensor | None = None,
    ) -> list[str]:
        """The model's continuation of each prompt, up to its end-of-text token: greedy, or sampled with
        `seed` at a `temperature` above 0.

        At most `max_new_tokens` tokens, and no more than the context leaves beside the prompt: models whose
        positions are learned have none beyond it. `opening` begins each answer, and what follows it is given;
        `front` (k, width) are embeddings that are read before each prompt. UserError where they leave no
        room.
        """
        batch = self.reader.left_padded(prompts, opening).to(self.device)
        before = 0 if front is None else len(front)
        # The last token is never read again, so it needs no position.
        room = self.reader.max_length + 1 - batch.input_ids.shape[1] - before
        if room < max_new_tokens and len(prompts) > 1:  # each is continued as far as it would be alone
            return [
                self.respond(
                    [prompt],
                    max_new_tokens,
                    temperature=temperature,
                    seed=seed + place,
                    opening=opening,
                    front=front,
                )[0]
                for place, prompt in enumerate(prompts)
            ]
        if room < 1:
            raise UserError(
                f"the prompt '{prompts[0][:40]}' and {before} embeddings before it are longer than what "
                f"{self.source} reads ({self.reader.max_length}); give fewer"
            )
        reading: AbstractContextManager[None] = nullcontext()
        if front is not None:
            batch, embeddings = put_before(self, batch, front)
            reading = read_as(self.model.get_input_embeddings(), embeddings)
        sampled = {"do_sample": True, "temperature": temperature, "top_k": 0}
        devices = [self.device] if self.device.type == "cuda" else []
        with reading, torch.random.fork_rng(devices=devices):
            if temperature:  # transformers draws from the global generator alone
                torch.manual_seed(seed)
            made = self.model.generate(
                input_ids=batch.input_ids,
                attention_mask=batch.attention_mask,
                max_new_tokens=min(max_new_tokens, room),
                pad_token_id=self.reader.pad,
                **(sampled if temperature else {"do_sample": False}),
            )
        new = made[:, batch.input_ids.shape[1] :]
        return [str(text) for text in self.tokenizer.batch_decode(new, skip_special_tokens=True)]

    # -- saving
    def save(
        self,
        folder: Path | str,
        *,
        form: str = "full",
        base: Backend | None = None,
        record: dict[str, Any] | None = None,
        dtype: torch.dtype | None = None,
        rank: int | None = None,
        energy: float | None = None,
        factors: Factors | None = None,
    ) -> None:
        """Save to a new folder, atomically: "full" opens with transformers alone, "delta" holds what changed,
        "lora" opens with peft, "attached" is what goes with the base.

        Changed tensors are written in the stored dtype (or in `dtype`, as then are all of a full model), with
        a warning when that rounds away more than 1 % of the update; the others keep their stored values. For
        this the base is read from disk once more. Every file of its folder that holds no weights comes along
        byte for byte, but for the dtype that its config names where `dtype` is given. `rank` and `energy`
        bound a LoRA (`lora_form.low_rank`), which is written in fp32; `factors` are what changed, where it
        was trained as one.
        """
        folder = Path(folder)
        if form not in FORMS:
            raise UserError(f"no save form {form!r}; {suggest(form, FORMS)}")
        refuse_existing(folder)
        facts = make_record(kind=self.kind, form=form, world=self.world, model=self.source)
        facts.update(record or {})
        if form == "attached":
            save_attached(self, folder, facts, base=base, stored=lambda: self._stored().fingerprint())
            return
        self.refuse_attached()
        if form != "full" and base is None and self._origin is None:
            raise UserError("a model wrapped in memory has no base on disk: give base=..., or save it full")
        stored = base if form != "full" and base is not None else self._stored()
        before = stored.tensors()
        adapters = None
        if form == "lora":
            adapters = low_rank(
                self, lambda name: before[name].detach(), rank=rank, energy=energy, factors=factors
            )
            changed, facts["lora"] = adapters.merged, adapters.facts()
        else:
            found = changed_tensors(
                self.tensors(), lambda name: before[name].detach(), dtype=dtype or self.stored_dtype
            )
            changed = found.tensors
            facts.update(found.facts())
        facts["base"] = base_facts(stored.source, stored.fingerprint(), folder)
        facts["changed"] = sorted(changed)
        facts["fingerprint"] = self.fingerprint({**before, **changed}, dtype if form == "full" else None)
        with atomic_folder(folder) as target:
            if adapters is not None:
                width, alpha = adapters.rank, adapters.alpha
                save_peft_adapters(target, adapters.values, rank=width, alpha=alpha, base=stored.source)
                facts["files"] = adapter_hashes(target)
            elif form == "delta":
                origin = {"base": stored.source, "base_fingerprint": facts["base"]["fingerprint"]}
                write_delta(target, changed, {**origin, "kind": self.kind, "world": self.world})
            else:
                assert isinstance(stored, LanguageBackend)
                stored._write(target, changed, dtype)
            write_manifest(target, facts)

    def save_adapters(self, folder: Path, values: Mapping[str, Tensor], *, rank: int, alpha: float) -> None:
        """Write LoRA adapters ("NAME.lora_A", "NAME.lora_B") into a folder, as peft opens them."""
        save_peft_adapters(folder, values, rank=rank, alpha=alpha, base=self.source)

    def _stored(self) -> LanguageBackend:
        """The model as it lies on disk, in its stored dtype, to be written over; a copy of one in memory."""
        if self._origin is None:
            return LanguageBackend(copy.deepcopy(self.model), self.tokenizer)
        opened = LanguageBackend.open(self._origin, device="cpu", dtype=self.stored_dtype)
        opened.world = self.world
        return opened

    @torch.no_grad()
    def _write(self, target: Path, changed: Mapping[str, Tensor], dtype: torch.dtype | None) -> None:
        own = self.tensors()
        origin = None if self._origin is None or is_gguf(self._origin) else self._origin
        if dtype is not None:
            self.model.to(dtype)
        for name, value in changed.items():
            own[name].copy_(value)
        with quiet_loading():
            self.model.save_pretrained(str(target), safe_serialization=True)
            if origin is None:
                self.tokenizer.save_pretrained(str(target))
        for file in target.glob("*.safetensors"):
            share(file)
        if origin is not None:
            _put_back(origin, target)
            if dtype is not None:
                name_dtype(target / "config.json", dtype)


def _read_folder(folder: Path, dtype: torch.dtype) -> tuple[Any, Any, torch.dtype]:
    """The model and tokenizer of a transformers folder, and the dtype of most stored tensors."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    files = _weight_files(folder)
    check_causal(folder)
    dtypes = Counter(place.dtype for file in files for place in header(file))
    check_vocabulary(folder, "the model")
    try:
        with quiet_loading():
            model, found = AutoModelForCausalLM.from_pretrained(
                str(folder),
                dtype=dtype,
                use_safetensors=True,
                trust_remote_code=False,
                ignore_mismatched_sizes=True,  # refused below, by name
                output_loading_info=True,
            )
            tokenizer = AutoTokenizer.from_pretrained(str(folder), trust_remote_code=False)
    except Exception as error:  # whatever a library makes of files it cannot read
        raise UserError(f"{folder}: cannot be opened as a causal language model ({reason(error)})") from error
    _check_loaded(found, str(files[0] if len(files) == 1 else folder))
    return model, tokenizer, dtypes.most_common(1)[0][0]


def _put_back(origin: Path, target: Path) -> None:
    """The files of the folder a model was opened from in place of the library's own version of them."""
    for entry in target.iterdir():
        if entry.is_file() and not is_weights(entry):
            entry.unlink()
    copy_beside(origin, target)
    if (origin / _TEMPLATES).is_dir():
        shutil.copytree(origin / _TEMPLATES, target / _TEMPLATES, copy_function=shutil.copyfile)


def _check_loaded(found: Mapping[str, Any], where: str) -> None:
    """UserError for a tensor that the library made up, since the files have none, or one of another shape."""
    refuse_missing(found["missing_keys"], where)
    for name, stored, wanted in sorted(found["mismatched_keys"]):
        raise UserError(
            f"{where}: tensor '{name}' has shape {tuple(stored)}, and config.json makes it {tuple(wanted)}"
        )


def _context(config: Any, tokenizer: Any) -> int:
    """The longest row in tokens that model and tokenizer allow; without end where neither says."""
    positions = getattr(config.get_text_config(decoder=True), "max_position_embeddings", None)
    return min(int(positions or sys.maxsize), int(tokenizer.model_max_length))


def _weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a transformers folder; UserError where there are none."""
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        pickles = [entry.name for entry in sorted(folder.iterdir()) if entry.suffix in PICKLES]
        if pickles:
            raise UserError(
                f"{folder / pickles[0]}: is a pickle, which can run code when it is loaded; only safetensors "
                "are read (save the model again with safe_serialization=True)"
            )
        raise UserError(f"{folder}: holds no weights; expected model.safetensors (transformers)")
    return files
