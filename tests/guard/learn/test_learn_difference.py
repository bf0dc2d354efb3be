"""The difference to theta_ft, the scratch file, and mixing: every bit, and one tensor at a time."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from attack.attacked import assert_untouched, diffusion, snapshot
from guard.learning import problem, shaken, talk
from oubliette.core.errors import UserError
from oubliette.guard.learn.candidates import Candidates
from oubliette.guard.learn.difference import Difference
from oubliette.guard.learn.spill import DiskTensors

dtypes = st.sampled_from([torch.float32, torch.float16, torch.bfloat16, torch.float64])


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.lists(st.integers(0, 4), max_size=3).map(tuple), dtypes), max_size=6))
def test_what_is_spilled_comes_back_bit_for_bit(kinds):
    rng = torch.Generator().manual_seed(len(kinds))
    tensors = {}
    for place, (shape, dtype) in enumerate(kinds):
        bits = torch.randint(0, 256, (*shape, dtype.itemsize), generator=rng, dtype=torch.uint8)
        tensors[f"t{place}"] = bits.view(dtype).reshape(shape)  # any bits at all, NaN and -0 among them
    kept = DiskTensors(tensors)
    assert kept.names == list(tensors)
    for name, tensor in tensors.items():
        assert kept[name].dtype == tensor.dtype
        assert kept[name].shape == tensor.shape
        assert torch.equal(_bits(kept[name]), _bits(tensor))
    kept.close()


def test_a_scratch_file_is_apart_and_goes_with_its_owner(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    source = torch.arange(6.0).reshape(2, 3)
    kept = DiskTensors({"a": source.t()})
    source.zero_()
    assert torch.equal(kept["a"], torch.arange(6.0).reshape(2, 3).t())
    kept["a"].zero_()  # copy on write: not the file
    assert len(os.listdir(tmp_path)) == 1
    target = torch.ones(3, 2)
    kept.restore({"a": target})
    del kept
    assert os.listdir(tmp_path) == []


def test_a_full_disk_is_one_line(monkeypatch):
    def full(self, *_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(UserError, match=r"No space left on device\); set TMPDIR") as caught:
        DiskTensors({"a": torch.ones(3)})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("dtype", "error"), [("bfloat16", 2**-8), ("float16", 2**-11), ("float32", 0.0)])
def test_the_difference_is_rounded_once(dtype, error):
    model = diffusion()
    candidates = Candidates.of(model)
    tuned = shaken(model)
    found = Difference.between(model, candidates, tuned, dtype)
    assert list(found.tensors) == list(candidates.sizes)
    assert found.bytes == candidates.parameters * found["unet.conv_in.weight"].element_size()
    for name, parameter in candidates.of_model(model).items():
        exact = parameter.detach() - tuned[name]
        # Below float16's smallest normal number its spacing is 2^-24.
        assert bool(((found[name].float() - exact).abs() <= error * exact.abs() + 2**-25).all())


def test_a_mapping_is_read_one_tensor_at_a_time():
    model = diffusion()
    candidates = Candidates.of(model)
    tuned = shaken(model)

    class Lazy(Mapping):
        asked: ClassVar[list[str]] = []

        def __getitem__(self, name: str) -> torch.Tensor:
            self.asked.append(name)
            return tuned[name].clone()

        def __iter__(self) -> Iterator[str]:
            return iter(tuned)

        def __len__(self) -> int:
            return len(tuned)

    found = Difference.between(model, candidates, Lazy())
    assert Lazy.asked == list(candidates.sizes)
    other = diffusion()
    with torch.no_grad():
        for name, parameter in other.tensors().items():
            parameter.copy_(tuned[name])
    same = Difference.between(model, candidates, other)
    assert all(torch.equal(found[name], same[name]) for name in found.tensors)


def test_what_is_no_fine_tuned_model_is_one_line():
    model = diffusion()
    candidates = Candidates.of(model)
    tuned = shaken(model)
    conv = "unet.conv_in.weight"
    cases = [
        (model, r"memory: all \d+ tensors equal the base's; expected a model that was fine-tuned"),
        (talk(), r"lack \d+ of the \d+ tensors of memory in scope 'full', first unet\.conv_in\.weight"),
        (
            {**tuned, conv: tuned[conv][:1]},
            r"unet\.conv_in\.weight is \(1, 4, 3, 3\) in the relearned weights",
        ),
        ({**tuned, conv: tuned[conv] / 0}, "is not finite"),
        ({name: tensor for name, tensor in tuned.items() if name != conv}, "lack 1 of the"),
    ]
    for relearned, said in cases:
        with pytest.raises(UserError, match=said) as caught:
            Difference.between(model, candidates, relearned)
        assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="too far from the base for float16"):
        Difference.between(model, candidates, {**tuned, conv: tuned[conv] + 1e6}, "float16")
    with pytest.raises(UserError, match="did you mean 'bfloat16'"):
        Difference.between(model, candidates, tuned, "bf16loat")


def test_movable_puts_every_bit_back():
    found = problem()
    before = {name: tensor.clone() for name, tensor in found.difference.tensors.items()}
    with pytest.raises(RuntimeError, match="stop"), found.difference.movable() as reset:  # noqa: PT012
        for tensor in found.difference.tensors.values():
            tensor.zero_()
        reset()
        assert all(torch.equal(found.difference[name], before[name]) for name in before)
        for tensor in found.difference.tensors.values():
            tensor.mul_(3)
        raise RuntimeError("stop")
    assert all(torch.equal(found.difference[name], before[name]) for name in before)


def test_a_mixture_is_the_definition_and_leaves_no_trace():
    found = problem(dtype="float32")
    base = {name: parameter.detach().clone() for name, parameter in found.parameters.items()}
    before = snapshot(found.model)
    mask = torch.rand(len(found.candidates), generator=torch.Generator().manual_seed(0))
    mask[0], mask[1] = 1.0, 0.0
    with pytest.raises(RuntimeError, match="stop"), found.mixed() as mixed:  # noqa: PT012
        for _ in range(3):  # mixed anew each time: no drift
            mixed.hold(1 - mask)
            mixed.hold(mask)
        for name, parameter in found.parameters.items():
            m = float(mask[found.candidates.place[name]])
            tuned = base[name] - found.difference[name]
            torch.testing.assert_close(
                parameter.detach(), m * base[name] + (1 - m) * tuned, atol=1e-6, rtol=0
            )
        assert torch.equal(found.parameters[found.candidates.names[0]], base[found.candidates.names[0]])
        mixed.hold(1.0)
        assert all(torch.equal(found.parameters[name], base[name]) for name in base)
        with pytest.raises(ValueError, match="a mask of"):
            mixed.hold(mask[:3])
        mixed.hold(0.0)
        raise RuntimeError("stop")
    assert_untouched(found.model, before)


def test_what_a_user_moves_is_theta_ft_s():
    found = problem(dtype="float32")
    names = list(found.parameters)
    mask = torch.full((len(found.candidates),), 0.25)
    with found.mixed() as mixed, found.difference.movable():
        before = {name: found.difference[name].clone() for name in names}
        mixed.hold(mask)
        with torch.no_grad():
            for name in names[:5]:
                found.parameters[name].add_(0.5)
        mixed.moved(mask, names)
        for place, name in enumerate(names):
            expected = before[name] - (0.5 if place < 5 else 0)
            torch.testing.assert_close(found.difference[name], expected, atol=1e-6, rtol=0)
        assert all(torch.equal(found.difference[name], before[name]) for name in names[5:])


def _bits(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.reshape(-1).view(torch.uint8)
