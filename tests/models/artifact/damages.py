"""Kinds of damage to an artifact, each with the reason for which loading refuses it; digests are right unless that is `sha256`."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from models.artifact.manifest import FILES, OPTIONAL_FILES
from models.artifact.tensor_file import map_tensors, save_tensors
from tests.models.artifact.editing import edit_json, edit_tensor, sign

Damage = Callable[[Path], object]
TABLE, HEAD, VOCABULARIES = "embeddings.safetensors", "head.safetensors", "vocabularies.safetensors"
(EVIDENCE,) = OPTIONAL_FILES
PICKLE = b"cos\nsystem\n(S'true'\ntR."


def resized(name: str, change: int) -> Damage:
    """Return a damage that changes the size of a file by some bytes; ``-1`` cuts the last one off."""

    def damage(directory: Path) -> None:
        os.truncate(directory / name, max(0, (directory / name).stat().st_size + change))

    return damage


def flipped(name: str) -> Damage:
    def damage(directory: Path) -> None:
        content = bytearray((directory / name).read_bytes())
        content[len(content) // 2] ^= 0x40
        (directory / name).write_bytes(content)

    return damage


def replaced(name: str, make: Callable[[Path], object], *, signed: bool = False) -> Damage:
    def damage(directory: Path) -> None:
        (directory / name).unlink()
        make(directory / name)
        if signed:
            sign(directory, name)

    return damage


def make_link(path: Path) -> None:
    target = path.parent.parent / "elsewhere"
    target.write_text("{}")
    path.symlink_to(target)


def link_whole(directory: Path) -> None:
    elsewhere = directory.with_name(f"{directory.name}-elsewhere")
    directory.rename(elsewhere)
    directory.symlink_to(elsewhere)


def edited(name: str, key: str, edit: Callable[[np.ndarray], np.ndarray]) -> Damage:
    return lambda directory: edit_tensor(directory, name, key, edit)


def with_last(value: float) -> Callable[[np.ndarray], np.ndarray]:
    def edit(array: np.ndarray) -> np.ndarray:
        array.reshape(-1)[-1] = value
        return array

    return edit


def rename_bias(directory: Path) -> None:
    tensors = map_tensors(HEAD, (directory / HEAD).read_bytes())
    tensors["other"] = tensors.pop("bias")
    save_tensors(directory / HEAD, tensors)
    sign(directory, HEAD)


def cut_tensors(directory: Path) -> None:
    resized(TABLE, -4)(directory)
    sign(directory, TABLE)


def drop_field(schema: Any) -> None:
    del schema["num_tokens"][schema["features"]["fields"].pop()["name"]]
    schema["fitted"].pop()


def shift_boundaries(schema: Any) -> None:
    schema["fitted"][-1]["boundaries"] = [b + 0.7 for b in schema["fitted"][-1]["boundaries"]]


def files_named(name: str) -> Damage:
    return lambda directory: sign(directory, files={name: {"sha256": "0" * 64, "size_bytes": 1}})


CONTENTS = (b"", b"{", b"null", b"[" * 100_000, b"\xff\xfe", b'{"format_version":1}')
DAMAGES: dict[str, Damage] = {
    **{f"missing, {n}": replaced(n, lambda path: None) for n in (*FILES, *OPTIONAL_FILES, "manifest.json")},
    **{f"sha256, {n} flipped": flipped(n) for n in (*FILES, *OPTIONAL_FILES)},
    **{
        f"sha256, {n} changed by {change} bytes": resized(n, change)
        for n in (*FILES, *OPTIONAL_FILES)
        for change in (-(1 << 30), -1, 1)
    },
    "path, link": replaced("golden.json", make_link),
    "path, pipe": replaced("golden.json", os.mkfifo),
    "path, directory": replaced("report.html", lambda path: path.mkdir()),
    "path, device": replaced("golden.json", lambda path: path.symlink_to("/dev/zero")),
    "path, whole directory linked": link_whole,
    "size, manifest": resized("manifest.json", 100 << 20),
    **{
        f"manifest, {text[:20]!r}": replaced("manifest.json", lambda path, text=text: path.write_bytes(text))  # type: ignore[misc]
        for text in CONTENTS
    },
    "manifest, unknown key": lambda d: sign(d, surprise=1),
    "manifest, another version's name": lambda d: sign(d, model_version="another"),
    "manifest, no files": lambda d: sign(d, files={}),
    "manifest, a file outside": files_named("../secret"),
    "manifest, a whole path": files_named("/etc/passwd"),
    "manifest, schema with an unknown key": lambda d: edit_json(d, "schema.json", lambda s: s.update(surprise=1)),
    "manifest, golden without rows": lambda d: edit_json(d, "golden.json", lambda g: g.pop("rows")),
    "format_version, newer": lambda d: sign(d, format_version=3),
    "format_version, older": lambda d: sign(d, format_version=0),
    "shape, number of rows": lambda d: sign(d, table_rows=7),
    "shape, embedding_dim": lambda d: sign(d, model={"embedding_dim": 5, "hidden": [8]}),
    "shape, hidden": lambda d: sign(d, model={"embedding_dim": 4, "hidden": [9]}),
    "shape, a row fewer": edited(TABLE, "rows", lambda a: a[:-1]),
    "shape, a column more": edited(TABLE, "rows", lambda a: np.hstack([a, a])),
    "shape, a count fewer": edited(TABLE, "counts", lambda a: a[:-1]),
    "shape, a block fewer": edited(EVIDENCE, "information", lambda a: a[:-1]),
    "shape, integers": edited(TABLE, "rows", lambda a: a.astype(np.uint8)),
    "shape, scalar as vector": edited(HEAD, "bias", lambda a: a.reshape(1)),
    "shape, positions of tokens": edited(VOCABULARIES, "ad_id.positions", lambda a: a + 1),
    "shape, ends of tokens": edited(VOCABULARIES, "ad_id.ends", lambda a: a[:-1]),
    "shape, tensor of another name": rename_bias,
    "shape, tensors cut": cut_tensors,
    "shape, a field fewer": lambda d: edit_json(d, "schema.json", drop_field),
    **{
        f"shape, pickle as {n}": replaced(n, lambda path: path.write_bytes(PICKLE), signed=True)
        for n in (TABLE, HEAD, VOCABULARIES, EVIDENCE)
    },
    **{
        f"finite, {value} in {n}": edited(n, key, with_last(value))
        for n, key in ((TABLE, "rows"), (HEAD, "deep.0.weight"), (EVIDENCE, "basis"))
        for value in (np.nan, np.inf, -np.inf)
    },
    "golden, bin boundaries": lambda d: edit_json(d, "schema.json", shift_boundaries),
    "golden, weights": edited(HEAD, "bias", lambda a: a + np.float32(0.01)),
    "golden, a logit": lambda d: edit_json(
        d, "golden.json", lambda g: g["logits"].__setitem__(5, g["logits"][5] + 1e-4)
    ),
    "golden, no rows": lambda d: edit_json(d, "golden.json", lambda g: g.update(rows=[], logits=[], probabilities=[])),
}
"""``reason, what`` → what does it to an artifact's directory."""
