"""Signed notes, checkpoints and keys: known answers of other implementations, and everything else refused."""

from __future__ import annotations

import base64
import os
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import given
from hypothesis import strategies as st

from alumicatalyst.errors import LedgerError
from alumicatalyst.ledger import note
from alumicatalyst.ledger.note import Checkpoint, SigningKey, VerifierKey, open_note
from alumicatalyst.ledger.text import decode_base64, decode_number
from tests.ledger.ground import damaged, value_or_error

if TYPE_CHECKING:
    from pathlib import Path

# The example of C2SP's signed-note, and that of Go's golang.org/x/mod/sumdb/note.
EXAMPLE = (
    "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
    "This is an example message.\n",
    "— example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n",
)
PETER = (
    "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
    "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n",
    "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n",
)
# Published with Go's tests; it protects nothing.
PETERS_SEED = base64.b64decode("AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz")[1:]
CHECKPOINT = Checkpoint("example.com/plant", 70_000, bytes(range(32)))


def a_key(name: str = "example.com/plant") -> SigningKey:
    return SigningKey(name, Ed25519PrivateKey.from_private_bytes(name.encode().ljust(32)[:32]))


@pytest.mark.parametrize(("vkey", "text", "signature"), [EXAMPLE, PETER], ids=["C2SP", "Go"])
def test_notes_of_others_are_opened(vkey: str, text: str, signature: str) -> None:
    key = VerifierKey.parse(f"{vkey}\n")
    assert key.text() == vkey
    assert open_note(f"{text}\n{signature}", [key]) == text
    assert open_note(f"{text}\n{signature}".encode(), [a_key().verifier, key]) == text


def test_the_note_that_go_signs_is_signed_alike() -> None:
    key = SigningKey("PeterNeumann", Ed25519PrivateKey.from_private_bytes(PETERS_SEED))
    vkey, text, signature = PETER
    assert key.verifier.text() == vkey
    assert key.sign(text) == f"{text}\n{signature}"


def test_a_text_may_hold_blank_lines_and_other_scripts() -> None:
    text = "Pot 1\n\n— nobody\n\nAluminium: Алюминий, 铝, 🜶\n"
    assert open_note(a_key().sign(text), [a_key().verifier]) == text


def test_signatures_of_others_are_ignored_and_one_of_ours_must_be_right() -> None:
    ours, others = a_key(), [a_key(f"witness.example/{number}") for number in range(99)]
    lines = [each.sign("text\n").split("\n\n")[1] for each in others]
    mine = ours.sign("text\n").split("\n\n")[1]
    assert open_note("text\n\n" + "".join([*lines, mine]), [ours.verifier]) == "text\n"
    with pytest.raises(LedgerError, match=r"not signed by example\.com/plant"):
        open_note("text\n\n" + "".join(lines), [ours.verifier])
    with pytest.raises(LedgerError, match="more than 100"):
        open_note("text\n\n" + "".join([*lines, mine, mine]), [ours.verifier])
    # A wrong signature of a key that we know is no unknown one: the note is refused though another key's is right.
    forged = ours.sign("other text\n").split("\n\n")[1]
    with pytest.raises(LedgerError, match=r"the signature of example\.com/plant is not on this text"):
        open_note("text\n\n" + "".join([lines[0], forged]), [ours.verifier, others[0].verifier])


def test_i7_every_change_of_a_bit_of_a_signed_checkpoint_is_refused() -> None:
    key = a_key()
    signed = key.sign(CHECKPOINT.text()).encode()
    assert Checkpoint.parse(open_note(signed, [key.verifier])) == CHECKPOINT
    for other in damaged(signed):
        with pytest.raises(LedgerError):
            Checkpoint.parse(open_note(other, [key.verifier]))


def test_every_change_of_a_bit_of_a_verifier_key_is_refused() -> None:
    vkey = a_key().verifier.text()
    for other in damaged(vkey.encode()):
        with pytest.raises(LedgerError):
            VerifierKey.parse(other.decode(errors="surrogateescape"))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        "text\n",
        "text\n\n",
        "text\n\n\n",
        "text\n\n— example.com/plant\n",
        "text\n\n— example.com/plant \n",
        "text\n\n- example.com/plant AAAAAAAA\n",
        "text\n\n— example.com/plant AAAA\n",
        "text\n\n—  AAAAAAAA\n",
        "text\n\n— a+b AAAAAAAA\n",
        "text\n\n— a\u00a0b AAAAAAAA\n",
        "text\n\n— a AAAAAAAA =\n",
        "text\n\n— a AAAAAAA\n",
        "text\n\n— a AAAAAAB=\n",
        "text\n\n— a AAAAAAAA",
        "te\rxt\n\n— a AAAAAAAA\n",
        "te\0xt\n\n— a AAAAAAAA\n",
        "te\ud800xt\n\n— a AAAAAAAA\n",
        b"te\xffxt\n\n\xe2\x80\x94 a AAAAAAAA\n",
        "x" * (1 << 20) + "\n\n— a AAAAAAAA\n",
    ],
    ids=lambda text: repr(text)[:40],
)
def test_what_is_no_note_is_refused(text: str | bytes) -> None:
    with pytest.raises(LedgerError, match="couldn't"):
        open_note(text, [a_key().verifier])


@pytest.mark.parametrize("size", [0, 1, 2**63 - 1])
def test_a_checkpoint_is_read_as_it_was_written(size: int) -> None:
    checkpoint = Checkpoint("example.com/plant", size, b"\xff" * 32)
    assert Checkpoint.parse(checkpoint.text()) == checkpoint


@pytest.mark.parametrize(
    "text",
    [
        "",
        "o\n1\n",
        "o\n1\n{}",
        "\n1\n{}\n",
        "o\n01\n{}\n",
        "o\n+1\n{}\n",
        "o\n-1\n{}\n",
        "o\n 1\n{}\n",
        "o\n1_0\n{}\n",
        "o\n\u0661\n{}\n",
        "o\n9223372036854775808\n{}\n",
        "o\n99999999999999999999\n{}\n",
        "o\n1\n{}AAAA\n",
        "o\n1\nAAAA\n",
        "o\n1\n{}\nextension\n",
        "o\n1\n{}\n\n",
        "o\t\n1\n{}\n",
    ],
)
def test_what_is_no_checkpoint_is_refused(text: str) -> None:
    with pytest.raises(LedgerError):
        Checkpoint.parse(text.replace("{}", base64.b64encode(bytes(32)).decode()))


@given(st.text() | st.binary())
def test_i9_any_text_is_a_value_or_an_error(text: str | bytes) -> None:
    wrapped = (text, f"{text!s}\n\n— {text!s} {text!s}\n", f"{text!s}+{text!s}+{text!s}")
    plain = str(text)
    for read in (
        lambda: [open_note(each, [a_key().verifier]) for each in wrapped],
        lambda: Checkpoint.parse(plain),
        lambda: Checkpoint.parse(f"{plain}\n{plain}\n{plain}\n"),
        lambda: [VerifierKey.parse(str(each)) for each in wrapped],
        lambda: decode_base64(plain, "x"),
        lambda: decode_number(plain, "x"),
    ):
        value_or_error(read)


@given(st.binary(max_size=90))
def test_i9_any_key_that_was_encoded_well_is_a_value_or_an_error(key: bytes) -> None:
    made = VerifierKey("example.com/plant", key)
    try:
        read = VerifierKey.parse(made.text())
    except LedgerError:
        assert len(key) != 32
    else:
        assert read == made
        # No zeros: of some points of small order they are a signature.
        assert not read.verifies(b"\xff" * 64, "text\n")


@given(st.binary())
def test_base64_is_read_in_one_way_only(data: bytes) -> None:
    text = base64.b64encode(data).decode()
    assert decode_base64(text, "x") == data
    for other in (f"{text}=", f"{text}\n", f" {text}", text.rstrip("=")):
        if other != text:
            with pytest.raises(LedgerError):
                decode_base64(other, "x")


@pytest.mark.parametrize("name", ["", "a b", "a+b", "a\nb", "a\tb", "a\u2003b", "a\x1fb"])
def test_names_that_a_signature_could_not_hold_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="couldn't use the name"):
        SigningKey.create(tmp_path / "key", name)
    assert not list(tmp_path.iterdir())


def test_what_is_no_text_of_a_note_is_not_signed() -> None:
    for text in ("", "no line feed", "a\rb\n", "\ud800\n"):
        with pytest.raises(LedgerError):
            a_key().sign(text)


def test_a_key_is_made_for_its_owner_alone_and_read_again(tmp_path: Path) -> None:
    path = tmp_path / "var" / "keys" / "ledger"
    before = os.umask(0)
    try:
        made = SigningKey.create(path, "example.com/plant")
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o600
    read = SigningKey.load(path)
    assert (read.name, read.verifier) == ("example.com/plant", made.verifier)
    assert note.vkey_path(path).read_text() == f"{made.verifier.text()}\n"
    assert open_note(read.sign("text\n"), [made.verifier]) == "text\n"


def test_a_key_is_never_replaced(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    SigningKey.create(path, "example.com/plant")
    for lost in (path, note.vkey_path(path)):
        kept = {each: each.read_bytes() for each in (path, note.vkey_path(path))}
        lost.unlink()
        with pytest.raises(LedgerError, match="a key is never replaced"):
            SigningKey.create(path, "example.com/plant")
        with pytest.raises(LedgerError, match="couldn't read the ledger's key"):
            SigningKey.load(path)
        for each, data in kept.items():
            each.write_bytes(data)
            each.chmod(0o600)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o666, 0o610, 0o601])
def test_i7_a_key_that_others_may_read_is_refused(mode: int, tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    SigningKey.create(path, "example.com/plant")
    path.chmod(mode)
    with pytest.raises(LedgerError, match=f"others may read it \\(mode {mode:04o}\\)"):
        SigningKey.load(path)


def test_a_key_file_that_a_crash_left_open_to_others_is_closed_to_them(tmp_path: Path) -> None:
    left = tmp_path / "ledger.tmp"
    left.write_text("half a key")
    left.chmod(0o666)
    SigningKey.create(tmp_path / "ledger", "example.com/plant")
    assert (tmp_path / "ledger").stat().st_mode & 0o777 == 0o600


def test_keys_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    SigningKey.create(one, "example.com/plant")
    SigningKey.create(two, "example.com/plant")
    note.vkey_path(one).write_bytes(note.vkey_path(two).read_bytes())
    with pytest.raises(LedgerError, match="is of another key"):
        SigningKey.load(one)


def test_what_is_no_key_is_refused_without_showing_it(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    SigningKey.create(path, "example.com/plant")
    good = path.read_bytes()
    other = X25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    for content in (b"", b"secret", good[:60], good[40:], b"\xff" * 100, other, b"x" * 70_000):
        path.write_bytes(content)
        with pytest.raises(LedgerError) as caught:
            SigningKey.load(path)
        assert "secret" not in str(caught.value)
        assert good.decode()[40:80] not in str(caught.value)
