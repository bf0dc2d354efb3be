"""Verifying: what was respected, what was violated, and what cannot be told, over every kind of file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

import tiny_language
from guard.toy_model import CONV, FROZEN, SHAPES, TO_K, TO_OUT, Toy, mask, one_line, values, write
from oubliette import guard
from oubliette.backends.diffusion import DiffusionBackend
from oubliette.backends.language import LanguageBackend
from oubliette.core.errors import UserError
from oubliette.guard.mask import Mask
from oubliette.guard.verify.verify import verify

FORM = {torch.float32: "float32", torch.float16: "float16", torch.bfloat16: "bfloat16"}


def bare(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Names as a component's own file has them."""
    return {name.removeprefix("unet."): tensor for name, tensor in tensors.items()}


# -- one file


@pytest.mark.parametrize("dtype", list(FORM))
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod."])
def test_an_untouched_file_in_any_dtype(tmp_path: Path, dtype: torch.dtype, prefix: str) -> None:
    tensors = {prefix + name: value.to(dtype) for name, value in bare(values()).items()}
    found = verify(mask(), write(tmp_path / "model.safetensors", tensors))
    assert (found.word, found.exit_code) == ("respected", 0)
    assert {check.form for check in found.tensors} == {FORM[dtype]}
    assert [check.name for check in found.tensors] == mask().names
    assert found.recoverable == "not tested"


def test_a_cast_that_was_cast_back_is_untouched(tmp_path: Path) -> None:
    tensors = {name: value.half().double() for name, value in values().items()}
    found = verify(mask(), write(tmp_path / "a.safetensors", tensors))
    assert {check.form for check in found.tensors} == {"float16"}
    twice = {name: value.half().bfloat16().float() for name, value in values().items()}
    assert verify(mask(), write(tmp_path / "b.safetensors", twice)).word == "violated"


def test_what_is_not_frozen_may_move(tmp_path: Path) -> None:
    tensors = {name: value if name in FROZEN else value + 1 for name, value in values().items()}
    assert verify(mask(), write(tmp_path / "model.safetensors", tensors)).word == "respected"


def test_a_change_is_named_and_measured_with_the_base(tmp_path: Path) -> None:
    base = write(tmp_path / "base.safetensors", values())
    tensors = values()
    tensors[TO_K][2, 3] += 0.5
    tuned = write(tmp_path / "tuned.safetensors", tensors)
    plain = verify(mask(), tuned)
    assert (plain.word, plain.exit_code) == ("violated", 1)
    assert [(check.name, check.max_abs) for check in plain.of("changed")] == [(TO_K, None)]
    found = verify(mask(), tuned, base)
    (check,) = found.of("changed")
    assert check.max_abs == pytest.approx(0.5, rel=1e-5)
    assert check.relative == pytest.approx(0.5 / float(values()[TO_K].norm()), rel=1e-5)
    assert found.counts == {"untouched": 2, "changed": 1}
    assert f"1 of 3 frozen tensors changed: {TO_K}" in found.reasons[0]


def test_a_merged_adapter_is_told(tmp_path: Path) -> None:
    base = write(tmp_path / "base.safetensors", values())
    tensors = values()
    for name in (TO_K, TO_OUT):
        rows, columns = tensors[name].shape
        tensors[name] += torch.randn(rows, 3) @ torch.randn(3, columns)
    found = verify(mask(), write(tmp_path / "tuned.safetensors", tensors), base)
    assert {check.rank for check in found.of("changed")} == {3}
    assert any("merged low-rank adapter, rank ~ 3" in reason for reason in found.reasons)


def test_another_base_is_refused(tmp_path: Path) -> None:
    tensors = values()
    tensors[TO_K] += 1
    tuned = write(tmp_path / "tuned.safetensors", tensors)
    with pytest.raises(UserError, match="is not what the mask froze"):
        verify(mask(), tuned, write(tmp_path / "other.safetensors", values(Toy(seed=1))))
    lora = write(tmp_path / "lora.safetensors", {"unet.a.lora_A.weight": torch.ones(1, 1)})
    with pytest.raises(UserError, match="adapter alone"):
        verify(mask(), tuned, lora)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_changed_bit_of_a_frozen_tensor_is_detected(tmp_path: Path, data: st.DataObject) -> None:
    dtype = data.draw(st.sampled_from(list(FORM)))
    name = data.draw(st.sampled_from(list(SHAPES)))
    tensors = {key: value.to(dtype) for key, value in values().items()}
    raw = tensors[name].view(torch.uint8).view(-1)
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    found = verify(mask(), write(tmp_path / "model.safetensors", tensors))
    assert found.word == ("violated" if name in FROZEN else "respected")
    assert [check.name for check in found.of("changed")] == ([name] if name in FROZEN else [])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_file_gives_a_verdict_or_one_line(tmp_path: Path, data: st.DataObject) -> None:
    whole = write(tmp_path / "model.safetensors", bare(values())).read_bytes()
    header = 8 + int.from_bytes(whole[:8], "little")
    if data.draw(st.booleans()):
        damaged = whole[: data.draw(st.integers(0, len(whole) - 1))]
    else:
        place = data.draw(st.integers(0, header - 1))
        damaged = whole[:place] + bytes([data.draw(st.integers(0, 255))]) + whole[place + 1 :]
    (tmp_path / "model.safetensors").write_bytes(damaged)
    try:
        found = verify(mask(), tmp_path / "model.safetensors")
    except UserError as error:
        one_line(error)
    else:
        assert damaged == whole or found.word in ("respected", "violated", "not checkable")
        json.dumps(found.to_dict(), allow_nan=False)


# -- what cannot be told


def test_another_architecture(tmp_path: Path) -> None:
    found = verify(
        mask(), write(tmp_path / "m.safetensors", {"model.diffusion_model.x.weight": torch.ones(2)})
    )
    assert (found.word, found.exit_code) == ("not checkable", 3)
    assert "another architecture" in found.reasons[0]
    assert found.counts == {"missing": 3}


def test_other_shapes_quantised_and_missing_tensors(tmp_path: Path) -> None:
    tensors: dict[str, Tensor] = values()
    tensors[TO_K] = torch.zeros(32 * 24 // 2, 1, dtype=torch.uint8)
    tensors[CONV] = torch.zeros(16, 9)
    del tensors[TO_OUT]
    found = verify(mask(), write(tmp_path / "m.safetensors", tensors))
    assert found.word == "not checkable"
    states = {check.name: (check.status, check.note) for check in found.tensors}
    assert states[TO_K][0] == "not checkable"
    assert "quantised" in states[TO_K][1]
    assert "shape (16, 9)" in states[CONV][1]
    assert states[TO_OUT][0] == "missing"
    tensors["unet.conv_in.weight"] = values()["unet.conv_in.weight"]
    wider = mask(names=[*FROZEN, "unet.conv_in.weight"])
    assert verify(wider, write(tmp_path / "m.safetensors", tensors)).word == "not checkable"
    tensors["unet.conv_in.weight"] += 1
    assert verify(wider, write(tmp_path / "m.safetensors", tensors)).word == "violated"


def test_pickles_and_nothing_at_all(tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(b"\x80\x04")
    (tmp_path / "folder").mkdir()
    (tmp_path / "attached").mkdir()
    (tmp_path / "attached" / "attached.json").write_text("{}")
    (tmp_path / "pickled").mkdir()
    (tmp_path / "pickled" / "pytorch_model.bin").write_bytes(b"\x80\x04")
    for path, said in (
        (tmp_path / "model.bin", "pickle"),
        (tmp_path / "pickled", "pickle"),
        (tmp_path / "folder", "holds no model"),
        (tmp_path / "attached", "no weights; give the model that it goes with"),
        (tmp_path / "nowhere", "no such file"),
        ("with\0null", "null"),
        ("x" * 5000, "too long"),
    ):
        with pytest.raises(UserError, match=said) as raised:
            verify(mask(), path)
        one_line(raised.value)


# -- folders


def test_every_variant_counts(tmp_path: Path) -> None:
    folder = tmp_path / "unet"
    write(folder / "diffusion_pytorch_model.safetensors", bare(values()))
    halved = {name: value.half() for name, value in bare(values()).items()}
    write(folder / "diffusion_pytorch_model.fp16.safetensors", halved)
    assert verify(mask(), folder).word == "respected"
    halved[TO_K.removeprefix("unet.")] += 1
    write(folder / "diffusion_pytorch_model.fp16.safetensors", halved)
    found = verify(mask(), folder)
    assert found.word == "violated"
    assert [check.where for check in found.of("changed")] == ["diffusion_pytorch_model.fp16"]


def shards(folder: Path, tensors: dict[str, Tensor], index: bool = True) -> dict[str, str]:
    names = list(tensors)
    places = {}
    for number, part in enumerate((names[:3], names[3:]), 1):
        file = f"diffusion_pytorch_model-{number:05}-of-00002.safetensors"
        write(folder / file, {name: tensors[name] for name in part})
        places.update(dict.fromkeys(part, file))
    if index:
        path = folder / "diffusion_pytorch_model.safetensors.index.json"
        path.write_text(json.dumps({"weight_map": places}))
    return places


@pytest.mark.parametrize("index", [True, False])
def test_shards(tmp_path: Path, index: bool) -> None:
    tensors = bare(values())
    shards(tmp_path / "unet", tensors, index)
    assert verify(mask(), tmp_path / "unet").word == "respected"
    tensors[CONV.removeprefix("unet.")][0] = 0
    shards(tmp_path / "unet", tensors, index)
    assert [check.name for check in verify(mask(), tmp_path / "unet").of("changed")] == [CONV]
    (tmp_path / "unet" / "diffusion_pytorch_model-00002-of-00002.safetensors").unlink()
    with pytest.raises(UserError, match="not there"):
        verify(mask(), tmp_path / "unet")


@pytest.mark.parametrize(
    "content",
    ['{"weight_map": {"a": "../other.safetensors"}}', "[]", '{"weight_map": {"a": 1}}', "[" * 99_999],
)
def test_hostile_indices(tmp_path: Path, content: str) -> None:
    write(tmp_path / "other.safetensors", values())
    (tmp_path / "unet").mkdir()
    (tmp_path / "unet" / "model.safetensors.index.json").write_text(content)
    with pytest.raises(UserError) as raised:
        verify(mask(), tmp_path / "unet")
    one_line(raised.value)


def test_a_real_pipeline_saved_whole_as_a_delta_and_as_16_bits(tiny_folder: Path, tmp_path: Path) -> None:
    model = DiffusionBackend.open(tiny_folder)
    frozen = [name for name in model.tensors() if ".attn2." in name or name.startswith("text_encoder.")]
    made = Mask.make(model, frozen)
    assert verify(made, tiny_folder).word == "respected"
    with torch.no_grad():
        model.tensors()["unet.conv_in.weight"].add_(1)
    for form in ("full", "delta"):
        model.save(tmp_path / f"kept-{form}", form=form)
        found = verify(made, tmp_path / f"kept-{form}")
        assert (found.word, found.form) == ("respected", "pipeline" if form == "full" else "delta")
    name = next(name for name in frozen if name.endswith("to_k.weight"))
    with torch.no_grad():
        model.tensors()[name].add_(1e-6)
    for form in ("full", "delta"):
        model.save(tmp_path / f"moved-{form}", form=form)
        found = verify(made, tmp_path / f"moved-{form}", tiny_folder)
        assert [check.name for check in found.of("changed")] == [name]
        assert found.of("changed")[0].max_abs == pytest.approx(1e-6, rel=0.1)
    halved = DiffusionBackend.open(tiny_folder)
    halved.to("cpu", torch.float16).pipe.save_pretrained(
        tmp_path / "half", variant="fp16", max_shard_size="30KB"
    )
    found = verify(made, tmp_path / "half")
    assert found.word == "respected"
    assert {check.form for check in found.tensors} == {"float16"}
    assert verify(made, tmp_path / "half" / "unet").word == "not checkable"  # its text encoder is elsewhere
    again = verify(made, tmp_path / "half", hash_files=True)
    assert all(len(digest) == 64 for digest in again.files.values())
    assert any(name.startswith("unet/") for name in again.files)


def test_a_delta_of_another_base_is_looked_up_there(tiny_folder: Path, tmp_path: Path) -> None:
    model = DiffusionBackend.open(tiny_folder)
    made = Mask.make(model, [name for name in model.tensors() if ".attn2." in name])
    with torch.no_grad():
        model.tensors()[made.names[0]].add_(1)
    model.save(tmp_path / "other")
    other = DiffusionBackend.open(tmp_path / "other")
    with torch.no_grad():
        other.tensors()["unet.conv_in.weight"].add_(1)
    other.save(tmp_path / "delta", form="delta")
    found = verify(made, tmp_path / "delta")
    assert [check.name for check in found.of("changed")] == [made.names[0]]
    (tmp_path / "other").rename(tmp_path / "gone")
    found = verify(made, tmp_path / "delta")
    assert found.word == "not checkable"
    assert "another base" in " ".join(found.reasons)


def test_a_language_model(tmp_path: Path) -> None:
    folder = tiny_language.save(tmp_path / "llama", "llama", dtype=torch.bfloat16)
    model = LanguageBackend.open(folder)
    made = Mask.make(model, [name for name in model.tensors() if "mlp" in name])
    assert verify(made, folder).word == "respected"
    with torch.no_grad():
        model.tensors()[made.names[1]].mul_(1.5)
    model.save(tmp_path / "full")
    model.save(tmp_path / "delta", form="delta")
    for form in ("full", "delta"):
        found = verify(made, tmp_path / form, folder)
        assert [check.name for check in found.of("changed")] == [made.names[1]]


# -- the result


def test_what_was_measured_is_told_apart(tmp_path: Path) -> None:
    file = write(tmp_path / "m.safetensors", values())
    told = mask(measured={"recoverable": "yes, in 40 steps of LoRA"})
    assert verify(told, file).recoverable == "yes, in 40 steps of LoRA"
    assert verify(mask(measured={"steps": 3}), file).recoverable.startswith("measured")


def test_the_module_is_the_function_and_masks_come_as_folders(tmp_path: Path) -> None:
    file = write(tmp_path / "m.safetensors", values())
    mask().write(tmp_path / "mask")
    seen: list[tuple[int, int]] = []
    found: Any = guard.verify(
        tmp_path / "mask", file, progress=lambda done, whole: seen.append((done, whole))
    )
    assert found.word == "respected"
    assert seen == [(1, 3), (2, 3), (3, 3)]
    assert json.loads(json.dumps(found.to_dict()))["exit_code"] == 0
    assert found.mask == mask().digest()


MEMORY = """
import re, sys
from pathlib import Path
from oubliette.guard.mask import read_mask
from oubliette.guard.verify.verify import verify
peak = lambda: int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024
mask = read_mask(sys.argv[1])
verify(mask, sys.argv[2], sys.argv[4])  # whatever is imported and warmed up is no tensor
Path("/proc/self/clear_refs").write_text("5")  # the peak is now what is held
before = peak()
print(verify(mask, sys.argv[3], sys.argv[4]).word, peak() - before)
"""


@pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="a process's own peak is Linux's to tell"
)
def test_memory_stays_below_twice_the_largest_tensor(tmp_path: Path) -> None:
    largest = 2048 * 4096 * 4  # 34 MB, fp32

    class Large(Toy):
        def __init__(self) -> None:
            super().__init__()
            big = torch.full((2048, 4096), 0.5)
            self.held["unet.big.weight"] = torch.nn.Parameter(big, requires_grad=False)
            self.held["unet.twin.weight"] = torch.nn.Parameter(big.clone(), requires_grad=False)

    model = Large()
    mask(model, [*FROZEN, "unet.big.weight", "unet.twin.weight"]).write(tmp_path / "mask")
    base = write(tmp_path / "base.safetensors", values(model))
    tuned = values(model)
    tuned["unet.big.weight"][0] += torch.randn(4096)
    small = {**values(), TO_K: torch.zeros(32, 24)}
    paths = [
        tmp_path / "mask",
        write(tmp_path / "small.safetensors", small),
        write(tmp_path / "t.safetensors", tuned),
    ]
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, *map(str, paths), str(base)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    word, grown = done.stdout.split()
    assert word == "violated"
    assert int(grown) < 2 * largest, f"{int(grown) / largest:.2f} of the largest tensor"
