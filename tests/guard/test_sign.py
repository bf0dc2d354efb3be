"""Signing with an elliptic-curve key, and every way in which a signature must not hold."""

from __future__ import annotations

import builtins
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from guard.toy_model import mask, one_line
from oubliette import guard
from oubliette.core.errors import UserError
from oubliette.guard.mask import read_mask
from oubliette.guard.sign import SIGNATURE_NAME, sign, verify_signature


def key_pair(folder: Path, name: str = "key", password: bytes | None = None) -> tuple[Path, Path]:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    private = ec.generate_private_key(ec.SECP256R1())
    hidden: Any = (
        serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    )
    paths = folder / f"{name}.pem", folder / f"{name}.pub"
    pem, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    paths[0].write_bytes(private.private_bytes(pem, form, hidden))
    spki = serialization.PublicFormat.SubjectPublicKeyInfo
    paths[1].write_bytes(private.public_key().public_bytes(pem, spki))
    return paths


@pytest.fixture
def signed(tmp_path: Path) -> tuple[Path, Path, Path]:
    """A signed mask's folder, its private and its public key."""
    private, public = key_pair(tmp_path)
    mask(scores={mask().names[0]: 1.0}).write(tmp_path / "mask")
    made = guard.sign(tmp_path / "mask", private_key=private)
    assert made == tmp_path / "mask" / SIGNATURE_NAME
    return tmp_path / "mask", private, public


def test_a_signed_mask_verifies_wherever_it_lies(signed: tuple[Path, Path, Path], tmp_path: Path) -> None:
    folder, _, public = signed
    verify_signature(folder, public_key=public)
    before = read_mask(folder)
    moved = folder.rename(tmp_path / "renamed")
    assert read_mask(moved) == before
    guard.verify_signature(moved, public_key=public)
    (moved / "README.md").write_text("edited on the Hub")  # not signed
    (moved / ".gitattributes").write_text("* text")  # nor this, which the library leaves out
    assert verify_signature(moved, public_key=public) == ("README.md", ".gitattributes")
    (moved / ".gitattributes").unlink()
    (moved / "README.md").unlink()
    assert verify_signature(moved, public_key=public) == ()
    elsewhere = (moved / SIGNATURE_NAME).rename(tmp_path / "apart.sig")
    verify_signature(moved, public_key=public, signature=elsewhere)


def test_a_hub_caches_links_verify(signed: tuple[Path, Path, Path], tmp_path: Path) -> None:
    folder, _, public = signed
    (tmp_path / "links").mkdir()
    for entry in folder.iterdir():
        (tmp_path / "links" / entry.name).symlink_to(entry)
    verify_signature(tmp_path / "links", public_key=public)


def _other_mask(folder: Path) -> None:
    """A whole and valid mask in the place of the signed one."""
    mask(learned={"seed": 2}).write(folder.parent / "other")
    (folder / "scores.safetensors").unlink()
    (folder / "guard.json").write_bytes((folder.parent / "other" / "guard.json").read_bytes())


def _damaged(folder: Path) -> None:
    text = (folder / SIGNATURE_NAME).read_text()
    (folder / SIGNATURE_NAME).write_text(
        text.replace('"payload": "', '"payload": "A').replace('"payload":"', '"payload":"A')
    )


CHANGES: dict[str, Callable[[Path], object]] = {
    "an extra file": lambda folder: (folder / "extra.txt").write_text("x"),
    "a changed byte": lambda folder: (folder / "guard.json").write_bytes(
        (folder / "guard.json").read_bytes().replace(b"diffusion", b"diffusiom")
    ),
    "a missing file": lambda folder: (folder / "scores.safetensors").unlink(),
    "another valid mask": _other_mask,
    "a damaged signature": _damaged,
    "no signature": lambda folder: (folder / SIGNATURE_NAME).unlink(),
    "an empty signature": lambda folder: (folder / SIGNATURE_NAME).write_text(""),
    "a signature that is a list": lambda folder: (folder / SIGNATURE_NAME).write_text("[]"),
}


@pytest.mark.parametrize("name", list(CHANGES))
def test_what_does_not_hold_gives_one_line(signed: tuple[Path, Path, Path], name: str) -> None:
    folder, _, public = signed
    CHANGES[name](folder)
    with pytest.raises(UserError) as raised:
        verify_signature(folder, public_key=public)
    text = one_line(raised.value)
    if name == "an extra file":
        assert "extra.txt" in text
    if name == "another valid mask":
        assert "guard.json" in text
        assert "signature does not hold" in text


def test_another_key_and_no_key(signed: tuple[Path, Path, Path], tmp_path: Path) -> None:
    folder, private, public = signed
    _, other = key_pair(tmp_path, "other")
    (tmp_path / "no.pem").write_text("no key")
    cases: list[tuple[dict[str, Any], str]] = [
        ({"public_key": other}, "does not match the provided public key"),
        ({"public_key": private}, "the other half of a pair; expected a public key"),
        ({"public_key": tmp_path / "no.pem"}, "not readable as that; expected a public key"),
        ({"public_key": tmp_path / "nowhere"}, "no such file"),
        ({}, "give one of them"),
        ({"public_key": public, "identity": "a@b.org", "issuer": "https://c.org"}, "give one of them"),
        ({"identity": "a@b.org"}, "give one of them"),
    ]
    for options, said in cases:
        with pytest.raises(UserError, match=said) as raised:
            verify_signature(folder, **options)
        one_line(raised.value)


def test_what_cannot_be_signed(tmp_path: Path) -> None:
    private, public = key_pair(tmp_path)
    locked, _ = key_pair(tmp_path, "locked", b"secret word")
    mask().write(tmp_path / "mask", card=False)
    (tmp_path / "none").mkdir()
    for folder, key, said in (
        (tmp_path / "none", private, "guard.json"),
        (tmp_path / "nowhere", private, "no such folder"),
        (tmp_path / "mask", public, "the other half of a pair; expected a private key"),
        (tmp_path / "mask", tmp_path / "nowhere", "no such file"),
        (tmp_path / "mask", locked, "(?i)password was not given"),
    ):
        with pytest.raises(UserError, match=said) as raised:
            sign(folder, private_key=key)
        one_line(raised.value)
    assert sorted(entry.name for entry in (tmp_path / "mask").iterdir()) == [
        "guard.json"
    ]  # nothing half-written
    with pytest.raises(UserError) as raised:
        sign(tmp_path / "mask", private_key=locked, password="wrong word")
    assert "wrong word" not in one_line(raised.value)
    sign(tmp_path / "mask", private_key=locked, password="secret word")
    with pytest.raises(UserError, match="exists already"):
        sign(tmp_path / "mask", private_key=private)


@pytest.mark.parametrize("kind", ["ed25519", "secp256k1", "rsa"])
def test_a_key_of_another_kind_names_those_that_work(tmp_path: Path, kind: str) -> None:
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    made: Any = {
        "ed25519": ed25519.Ed25519PrivateKey.generate,
        "secp256k1": lambda: ec.generate_private_key(ec.SECP256K1()),
        "rsa": lambda: rsa.generate_private_key(65537, 2048),
    }[kind]()
    private, public = tmp_path / "private.pem", tmp_path / "public.pem"
    plain = form.NoEncryption()
    private.write_bytes(made.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, plain))
    spki = form.PublicFormat.SubjectPublicKeyInfo
    public.write_bytes(made.public_key().public_bytes(form.Encoding.PEM, spki))
    mask().write(tmp_path / "mask", card=False)
    with pytest.raises(UserError, match=f"(?i){kind}.*P-256, P-384, P-521") as raised:
        sign(tmp_path / "mask", private_key=private)
    assert "curve'" not in one_line(raised.value)
    (tmp_path / "mask" / SIGNATURE_NAME).write_text("{}")
    with pytest.raises(UserError, match=f"(?i){kind}.*P-256, P-384, P-521"):
        verify_signature(tmp_path / "mask", public_key=public)


def test_without_the_extra_it_says_how_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    private, _ = key_pair(tmp_path)
    mask().write(tmp_path / "mask")
    real = builtins.__import__

    def missing(name: str, *rest: Any, **options: Any) -> Any:
        if name.split(".")[0] == "model_signing":
            raise ModuleNotFoundError("No module named 'model_signing'", name="model_signing")
        return real(name, *rest, **options)

    for name in [name for name in sys.modules if name.split(".")[0] == "model_signing"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(UserError, match=r"pip install 'oubliette\[sign\]'") as raised:
        sign(tmp_path / "mask", private_key=private)
    one_line(raised.value)
