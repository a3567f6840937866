"""The log and its proofs before a verifier that is not ours: a Go program on the libraries of Go and of others."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from alumicatalyst.ledger import merkle, proof, tiles
from alumicatalyst.ledger.proof import Proof
from tests.conftest import ROOT
from tests.ledger.ground import Ground, numbered

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import Require

SOURCE = ROOT / "tests" / "go" / "tlogcheck"
SIZES = (0, 1, 255, 256, 257, 5_000)


@pytest.fixture(scope="session")
def tlogcheck(require: Require, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., tuple[int, str]]:
    """Build the program, and return a call of it that gives its exit code and what it said."""
    go = shutil.which("go")
    require(go, "there is no Go; install Go 1.26 or later")
    assert go is not None
    program = tmp_path_factory.mktemp("go") / "tlogcheck"
    # From what is there: a test fetches nothing, and Go fetches no other Go.
    offline = {"GOFLAGS": "-mod=readonly -buildvcs=false", "GOPROXY": "off", "GOTOOLCHAIN": "local"}
    built = subprocess.run(
        [go, "build", "-o", program, "."],
        check=False,
        cwd=SOURCE,
        env={**os.environ, **offline},
        capture_output=True,
        text=True,
    )
    require("GOPROXY=off" not in built.stderr, f"Go's modules are not there; run `make setup`: {built.stderr}")
    require("requires go >=" not in built.stderr, f"Go is too old; install Go 1.26 or later: {built.stderr}")
    assert built.returncode == 0, built.stderr

    def run(ground: Ground, **parts: Path) -> tuple[int, str]:
        flags = [each for name, path in parts.items() for each in (f"-{name}", str(path))]
        done = subprocess.run(
            [program, "-vkey", str(ground.vkey), *flags], check=False, capture_output=True, text=True, timeout=60
        )
        return done.returncode, done.stdout + done.stderr

    return run


@pytest.fixture(scope="module")
def grounds(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Ground]:
    """Logs of every awkward size, grown in two steps."""
    made = {}
    for size in SIZES:
        made[size] = Ground(tmp_path_factory.mktemp(f"size-{size}"))
        made[size].grow(numbered(0, size), group=max(1, size - 100))
    return made


def entry_text(entry: bytes) -> bytes:
    """Return what our proofs carry beside the proof."""
    return f"alumicatalyst/proof\nentry {base64.b64encode(entry).decode()}\n".encode()


def write_proofs(ground: Ground, folder: Path) -> int:
    """Write proofs of some entries, and return how many."""
    reader = ground.reader()
    note = reader.checkpoint_note()
    assert note is not None
    folder.mkdir()
    indices = {each for each in (0, 1, reader.size // 2, 255, 256, reader.size - 1) if 0 <= each < reader.size}
    for index in indices:
        hashes = merkle.inclusion(index, reader.size, reader.range_hash)
        text = proof.write(index, hashes, note, entry_text(reader.entry(index)))
        (folder / f"{index}.tlog-proof").write_text(text)
    return len(indices)


def write_growth(ground: Ground, path: Path) -> int:
    """Write proofs that the log at smaller sizes is its beginning, and return how many."""
    reader = ground.reader()
    sizes = sorted({each for each in (1, 2, 3, 200, 255, 256, 257, 4_096, reader.size) if 0 < each <= reader.size})
    steps = [
        {
            "old": size,
            "new": reader.size,
            "old_root": base64.b64encode(merkle.root([reader.leaf_hash(at) for at in range(size)])).decode(),
            "new_root": base64.b64encode(reader.root()).decode(),
            "proof": [
                base64.b64encode(each).decode() for each in merkle.consistency(size, reader.size, reader.range_hash)
            ],
        }
        for size in sizes
    ]
    path.write_text(json.dumps(steps))
    return len(steps)


@pytest.mark.parametrize("size", SIZES)
def test_i7_go_accepts_logs_proofs_and_growth_of_every_size(
    size: int, tlogcheck: Callable[..., tuple[int, str]], grounds: dict[int, Ground], tmp_path: Path
) -> None:
    ground = grounds[size]
    proofs = write_proofs(ground, tmp_path / "proofs")
    steps = write_growth(ground, tmp_path / "growth.json")
    code, said = tlogcheck(ground, log=ground.log, proofs=tmp_path / "proofs", consistency=tmp_path / "growth.json")
    assert (code, said.splitlines()[1:]) == (0, [f"proofs: {proofs}", f"consistency: {steps}"]), said
    root = base64.b64encode(ground.checkpoint().root).decode()
    assert said.splitlines()[0] == f"log example.com/plant: {size} entries, root {root}"


FILES = {
    "checkpoint": "checkpoint",
    "full bundle": tiles.bundle_path(3),
    "last bundle": tiles.bundle_path(19, 136),
    "full tile": tiles.tile_path(0, 3),
    "last tile": tiles.tile_path(0, 19, 136),
    "tile above": tiles.tile_path(1, 0, 19),
}


@pytest.mark.parametrize("damage", ["flipped", "cut", "longer", "gone", "empty"])
@pytest.mark.parametrize("file", FILES)
def test_i7_go_refuses_a_log_with_a_damaged_file(
    file: str, damage: str, tlogcheck: Callable[..., tuple[int, str]], grounds: dict[int, Ground], tmp_path: Path
) -> None:
    shutil.copytree(grounds[5_000].log, tmp_path / "log")
    path = tmp_path / "log" / FILES[file]
    data = path.read_bytes()
    changed: dict[str, list[bytes | None]] = {
        "flipped": [data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :] for at in (0, len(data) // 2, len(data) - 2)],
        "cut": [data[:-1], data[: len(data) // 2]],
        "longer": [data + b"\0", data + data],
        "empty": [b""],
        "gone": [None],
    }
    for other in changed[damage]:
        path.unlink(missing_ok=True)
        if other is not None:
            path.write_bytes(other)
        code, said = tlogcheck(grounds[5_000], log=tmp_path / "log")
        assert (code, said.count("\n")) == (1, 1), said
        assert said.startswith("tlogcheck: ")


def test_i7_go_refuses_entries_that_were_swapped_or_replaced(
    tlogcheck: Callable[..., tuple[int, str]], grounds: dict[int, Ground], tmp_path: Path
) -> None:
    shutil.copytree(grounds[5_000].log, tmp_path / "log")
    bundle, tile = tmp_path / "log" / tiles.bundle_path(3), tmp_path / "log" / tiles.tile_path(0, 3)
    entries = tiles.decode_bundle(bundle.read_bytes(), 256)
    entries[5], entries[6] = entries[6], entries[5]
    bundle.write_bytes(b"".join(map(tiles.encode_entry, entries)))
    assert tlogcheck(grounds[5_000], log=tmp_path / "log") == (
        1,
        "tlogcheck: entry 773 is not what its leaf hash says\n",
    )
    tile.write_bytes(b"".join(map(merkle.leaf_hash, entries)))
    code, said = tlogcheck(grounds[5_000], log=tmp_path / "log")
    assert (code, "tlogcheck: leaf hashes from 768" in said) == (1, True), said


def test_i7_go_refuses_the_log_of_another_key_and_one_that_was_rolled_back(
    tlogcheck: Callable[..., tuple[int, str]], grounds: dict[int, Ground], tmp_path: Path
) -> None:
    code, said = tlogcheck(grounds[257], log=grounds[256].log)
    assert (code, said.startswith("tlogcheck: checkpoint: ")) == (1, True), said
    shutil.copytree(grounds[256].log, tmp_path / "log")
    other = Ground(tmp_path / "other")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(other, "key", grounds[256].key)
        other.grow(numbered(0, 257))
    shutil.copy(other.log / "checkpoint", tmp_path / "log" / "checkpoint")
    code, _ = tlogcheck(grounds[256], log=tmp_path / "log")
    assert code == 1


def test_i7_go_refuses_proofs_that_were_changed(
    tlogcheck: Callable[..., tuple[int, str]], grounds: dict[int, Ground], tmp_path: Path
) -> None:
    ground = grounds[5_000]
    write_proofs(ground, tmp_path / "proofs")
    good = Proof.parse((tmp_path / "proofs" / "256.tlog-proof").read_bytes())
    other_hash = bytes([good.hashes[2][0] ^ 1]) + good.hashes[2][1:]
    texts = {
        "another entry": proof.write(256, good.hashes, good.note, entry_text(b"entry 257")),
        "another place": proof.write(257, good.hashes, good.note, good.extra),
        "another hash": proof.write(256, [*good.hashes[:2], other_hash, *good.hashes[3:]], good.note, good.extra),
        "a hash less": proof.write(256, good.hashes[:-1], good.note, good.extra),
        "another size": proof.write(256, good.hashes, good.note.replace("\n5000\n", "\n5001\n"), good.extra),
        "no entry": proof.write(256, good.hashes, good.note),
        "nothing of ours": proof.write(256, good.hashes, good.note, b"a\nb\nc\n"),
        "a checkpoint of another log": proof.write(
            256, good.hashes, grounds[257].reader().checkpoint_note() or "", good.extra
        ),
        "cut": proof.write(256, good.hashes, good.note, good.extra)[:-1],
    }
    for name, text in texts.items():
        (tmp_path / "proofs" / "256.tlog-proof").write_text(text)
        code, said = tlogcheck(ground, proofs=tmp_path / "proofs")
        assert (code, said.startswith("tlogcheck: 256.tlog-proof: ")) == (1, True), f"{name}: {said}"


def test_i7_go_refuses_growth_that_was_none(
    tlogcheck: Callable[..., tuple[int, str]], grounds: dict[int, Ground], tmp_path: Path
) -> None:
    path = tmp_path / "growth.json"
    write_growth(grounds[5_000], path)
    good = json.loads(path.read_text())
    elsewhere = base64.b64encode(bytes(32)).decode()
    for at, step in enumerate(good[:-1]):
        for change in (
            {"old_root": elsewhere},
            {"new_root": elsewhere},
            {"proof": step["proof"][1:]},
            {"old": step["old"] + 4},
        ):
            path.write_text(json.dumps([*good[:at], {**step, **change}, *good[at + 1 :]]))
            code, said = tlogcheck(grounds[5_000], consistency=path)
            assert (code, said.startswith(f"tlogcheck: from {change.get('old', step['old'])} to 5000 entries: ")) == (
                1,
                True,
            )
