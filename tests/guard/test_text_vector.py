"""FreezeAsGuard's text vectors: read by position, converted, and refused where they do not fit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from guard.toy_model import Toy, one_line
from oubliette.backends.diffusion import DiffusionBackend
from oubliette.core.errors import UserError
from oubliette.guard import text_vector
from oubliette.guard.mask import Mask, read_mask


def test_what_numpy_writes_over_the_unets_parameters(tiny_folder: Path, tmp_path: Path) -> None:
    model = DiffusionBackend.open(tiny_folder)
    parameters = list(model.pipe.unet.named_parameters())
    chosen = np.random.default_rng(0).integers(0, 2, len(parameters)).astype(float)
    np.savetxt(tmp_path / "mask_t_0-4", chosen, fmt="%.3e")
    assert (tmp_path / "mask_t_0-4").read_text().splitlines()[0] in ("0.000e+00", "1.000e+00")
    expected = [f"unet.{name}" for (name, _), bit in zip(parameters, chosen, strict=True) if bit]
    assert text_vector.read(tmp_path / "mask_t_0-4", model) == expected
    made = text_vector.convert(tmp_path / "mask_t_0-4", model)
    assert made.names == expected
    assert made.budget.tensor_share == pytest.approx(chosen.mean())
    assert made.budget.share is None
    assert made.learned["learner"] == "unknown"
    made.bind(model)
    made.write(tmp_path / "mask")
    assert read_mask(tmp_path / "mask") == made
    assert isinstance(made, Mask)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1\n0\n", "has 2 values, but toy has 8 parameter tensors"),
        ("", "has 0 values"),
        ("1\n0\n0.5\n" + "0\n" * 5, "line 3: found '0.5', expected 0"),
        ("1\n\n0\nnan\n" + "0\n" * 5, "line 4: found 'nan'"),
        ("one\n" + "0\n" * 7, "line 1: found 'one'"),
        ("1 0\n" + "0\n" * 7, "line 1: found '1 0'"),
        ("0\n" * 8, "at least one tensor"),
    ],
)
def test_what_does_not_fit_gives_one_line(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "v").write_text(text)
    with pytest.raises(UserError, match=said) as raised:
        text_vector.convert(tmp_path / "v", Toy())  # type: ignore[arg-type]
    one_line(raised.value)


def test_files_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "v").write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path / "v", tmp_path / "nowhere", tmp_path, tmp_path / "nul\0l"):
        with pytest.raises(UserError) as raised:
            text_vector.read(path, Toy())  # type: ignore[arg-type]
        one_line(raised.value)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(raw=st.one_of(st.binary(max_size=60), st.text(alphabet="01.e+\n", max_size=60).map(str.encode)))
def test_any_file_gives_names_or_one_line(tmp_path: Path, raw: bytes) -> None:
    (tmp_path / "v").write_bytes(raw)
    try:
        found = text_vector.read(tmp_path / "v", Toy())  # type: ignore[arg-type]
    except UserError as error:
        one_line(error)
    else:
        assert set(found) <= set(Toy().tensors())
