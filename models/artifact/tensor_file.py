"""Safetensors files read as memory maps: one copy for all processes, nothing parsed but the header.

Format: u64 little-endian header length, JSON header, one buffer (safetensors README, "Format").
"""

from __future__ import annotations

import json
import math
import mmap
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from models.errors import ArtifactError

MAX_HEADER_BYTES = 1 << 20
DTYPES: Mapping[str, type[np.generic]] = {"F32": np.float32, "I64": np.int64, "U64": np.uint64, "U8": np.uint8}

Tensors = dict[str, NDArray[np.generic]]


def save_tensors(path: Path, tensors: Mapping[str, NDArray[np.generic]]) -> None:
    """Write arrays as one safetensors file; the same arrays give the same bytes."""
    save_file({name: np.asarray(tensors[name], order="C") for name in sorted(tensors)}, path)


def map_tensors(name: str, buffer: mmap.mmap | bytes) -> Tensors:
    """Return read-only views of every tensor in a safetensors file's bytes, by name.

    Args:
        name: the file's name, for messages.
        buffer: the whole file, usually mapped.

    Raises:
        ArtifactError: ``shape``: the header is not JSON, names a dtype that artifacts do not use, or does not cover the
            buffer exactly, with no holes and no overlap.
    """
    size = len(buffer)
    header_bytes = int.from_bytes(buffer[:8], "little") if size >= 8 else MAX_HEADER_BYTES + 1
    if header_bytes > min(MAX_HEADER_BYTES, size - 8):
        raise ArtifactError("shape", f"{name}: not a safetensors file")
    try:
        header = json.loads(buffer[8 : 8 + header_bytes])
        header.pop("__metadata__", None)
        entries = sorted((*entry["data_offsets"], key, entry["dtype"], entry["shape"]) for key, entry in header.items())
    except (ValueError, AttributeError, KeyError, TypeError, RecursionError) as error:
        raise ArtifactError("shape", f"{name}: its header is not one of safetensors") from error
    tensors: Tensors = {}
    start, expected = 8 + header_bytes, 0
    for begin, end, key, dtype, shape in entries:
        sizes_fit = isinstance(shape, list) and all(type(n) is int and n >= 0 for n in shape)
        if dtype not in DTYPES or begin != expected or not sizes_fit:
            raise ArtifactError("shape", f"{name}: tensor {key[:64]!r} has an unexpected dtype, shape or offset")
        count = math.prod(shape)
        if end - begin != count * np.dtype(DTYPES[dtype]).itemsize or start + end > size:
            raise ArtifactError("shape", f"{name}: tensor {key[:64]!r} does not fit its bytes")
        tensors[key] = np.frombuffer(buffer, DTYPES[dtype], count, start + begin).reshape(shape)
        expected = end
    if start + expected != size:
        raise ArtifactError("shape", f"{name}: bytes after the last tensor")
    return tensors
