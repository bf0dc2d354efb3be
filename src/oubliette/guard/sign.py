"""Signing a mask's folder, and checking the signature, through OpenSSF Model Signing (extra `sign`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from oubliette.core.errors import UserError
from oubliette.core.writing import refusal
from oubliette.guard.artefact import CARD_NAME
from oubliette.guard.canonical import one_line
from oubliette.guard.mask import read_mask

__all__ = ["SIGNATURE_NAME", "sign", "verify_signature"]

SIGNATURE_NAME = "model.sig"
# The card is edited on the Hub after signing; it says nothing that guard.json does not.
_UNSIGNED = (CARD_NAME,)
_GIT = (".git", ".gitattributes", ".github", ".gitignore")  # what the library leaves out by itself
#: The keys that OpenSSF Model Signing signs with, as cryptography and as people name them.
_CURVES = {"secp256r1": "P-256", "secp384r1": "P-384", "secp521r1": "P-521"}


def sign(
    folder: Path | str,
    *,
    private_key: Path | str | None = None,
    password: str | None = None,
    identity_token: str | None = None,
) -> Path:
    """Sign a mask's folder and return the signature's file, `model.sig` beside `guard.json`.

    With `private_key` (PEM, elliptic curve P-256, P-384 or P-521) nothing leaves the machine; without,
    Sigstore signs for an identity, with `identity_token` or by asking in a browser. Every file is signed but
    README.md, which is edited on the Hub later, and git's own. UserError for a folder that holds no valid
    mask, for a key that cannot be used, and where the extra is not installed. Spec: OpenSSF Model Signing
    1.0, a Sigstore bundle.
    """
    folder = _mask_folder(folder)
    target = folder / SIGNATURE_NAME
    if target.exists():
        raise UserError(f"{target}: exists already; remove it to sign again")
    modules = _signing()
    if private_key is not None:
        _check_key(Path(private_key), "private", _bytes(password))
    config = modules.signing.Config().set_hashing_config(_hashing(folder))
    draft = target.with_name(f".{SIGNATURE_NAME}.tmp")
    try:
        if private_key is not None:
            config.use_elliptic_key_signer(private_key=Path(private_key), password=_bytes(password))
        else:
            config.use_sigstore_signer(identity_token=identity_token)
        config.sign(folder, draft)
        draft.replace(target)
    except Exception as error:  # the library raises whatever its own libraries do
        line = refusal(error, target) or f"{folder}: could not be signed ({_words(error)})"
        raise UserError(line) from error
    finally:
        draft.unlink(missing_ok=True)
    return target


def verify_signature(
    folder: Path | str,
    *,
    public_key: Path | str | None = None,
    identity: str | None = None,
    issuer: str | None = None,
    signature: Path | str | None = None,
) -> tuple[str, ...]:
    """Check a mask's folder against its signature; UserError, in one line, where it does not hold.

    Returns the names of what lies there and is not covered: README.md, and git's own.

    Give `public_key` (PEM), or the `identity` (an address) and `issuer` (an OIDC provider's URL) of a
    Sigstore signature. A changed, missing or extra file (README.md excepted), another key and a damaged
    signature are told apart in the line. That the mask fits a model is not said here: that is `Mask.bind`.
    """
    folder = _mask_folder(folder)
    where = Path(signature) if signature is not None else folder / SIGNATURE_NAME
    if not where.is_file():
        raise UserError(f"{where}: no such file; the mask is not signed, or its signature lies elsewhere")
    if (public_key is None) == (identity is None or issuer is None):
        raise UserError(
            "a signature is checked with a public key, or with an identity and its issuer; give one of them"
        )
    modules = _signing()
    if public_key is not None:
        _check_key(Path(public_key), "public", None)
    config = modules.verifying.Config().set_hashing_config(_hashing(folder, where))
    try:
        if public_key is not None:
            config.use_elliptic_key_verifier(public_key=Path(public_key))
        else:
            config.use_sigstore_verifier(identity=str(identity), oidc_issuer=str(issuer))
        config.verify(folder, where)
    except Exception as error:  # the library raises whatever its own libraries do
        raise UserError(f"{folder}: the signature does not hold: {_words(error)}") from error
    return tuple(name for name in (*_UNSIGNED, *_GIT) if (folder / name).exists())


def _check_key(path: Path, half: Literal["private", "public"], password: bytes | None) -> None:
    """UserError for a file that is no such key, or one of a kind that Model Signing 1.0 has no signer for."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    wanted = (
        f"expected a {half} key in PEM form, elliptic curve {', '.join(_CURVES.values())} (docs/guard.md)"
    )
    if not path.is_file():
        raise UserError(f"key {path}: no such file; {wanted}")
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise UserError(f"key {path}: cannot be read ({error.strerror or error})") from error
    try:
        if half == "private":
            key: Any = serialization.load_pem_private_key(raw, password)
        else:
            key = serialization.load_pem_public_key(raw)
    except TypeError as error:  # a password where none is needed, or none where one is
        raise UserError(f"key {path}: {one_line(error)}") from error
    except Exception as error:  # the library raises whatever its own libraries do
        other = b"-----BEGIN PUBLIC KEY" if half == "private" else b"PRIVATE KEY-----"
        found = "found the other half of a pair" if other in raw else "not readable as that"
        if password is not None:
            found += ", or another password"
        raise UserError(f"key {path}: {found}; {wanted}") from error
    curved = isinstance(key, ec.EllipticCurvePrivateKey | ec.EllipticCurvePublicKey)
    kind = (
        key.curve.name if curved else type(key).__name__.removesuffix("PrivateKey").removesuffix("PublicKey")
    )
    if kind not in _CURVES:
        raise UserError(f"key {path}: found {kind}; {wanted}")


def _mask_folder(folder: Path | str) -> Path:
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; expected a mask's folder")
    read_mask(folder)
    return folder


def _signing() -> Any:
    try:
        # model-signing 1.1 imports OpenSSL without asking for it, so the extra names both.
        import OpenSSL  # noqa: F401
        from model_signing import hashing, signing, verifying
    except ImportError as error:
        raise UserError(
            f"signing needs {one_line(error.name or error)}; install it with: pip install 'oubliette[sign]'"
        ) from error
    return _Modules(signing, verifying, hashing)


def _bytes(password: str | None) -> Any:
    # The library asks for a string and hands it to one that takes bytes alone.
    return None if password is None else password.encode()


class _Modules:
    def __init__(self, signing: Any, verifying: Any, hashing: Any) -> None:
        self.signing, self.verifying, self.hashing = signing, verifying, hashing


def _hashing(folder: Path, signature: Path | None = None) -> Any:
    ignored = [folder / name for name in (*_UNSIGNED, SIGNATURE_NAME, f".{SIGNATURE_NAME}.tmp")]
    if signature is not None and signature.absolute().is_relative_to(folder.absolute()):
        ignored.append(signature)
    config = _signing().hashing.Config().use_file_serialization(allow_symlinks=True)
    # A folder in the Hub's cache is links to files; what they point to is what is hashed.
    return config.set_ignored_paths(paths=[path.relative_to(folder) for path in ignored]).set_allow_symlinks(
        True
    )


def _words(error: Exception) -> str:
    text = one_line(error) or type(error).__name__
    if type(error).__name__ == "InvalidSignature" or "ignature verification failed" in text:
        return "it was made with another key, or was changed"
    return text
