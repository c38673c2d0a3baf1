from collections.abc import Callable, Mapping
from typing import overload

import numpy as np
from numpy.typing import NDArray

_Floats = NDArray[np.float32]
_Ints = NDArray[np.int64]

class TokenBlock:
    """The look-up of one block of tokens: feature hashing, or the four arrays of a vocabulary, which it keeps alive.

    Raises:
        ValueError: arrays of other types or of different lengths, or no buckets.
    """

    @overload
    def __init__(self, buckets: int, /) -> None: ...
    @overload
    def __init__(
        self, hashes: NDArray[np.uint64], positions: _Ints, ends: _Ints, text: NDArray[np.uint8], /
    ) -> None: ...
    def find(self, column: object, start: int, rows: NDArray[np.int32], /) -> None:
        """Write the row of each token to ``rows`` int32 [n]: ``start`` and the local id, MISSING of a null.

        Args:
            column: strings [n], an Arrow stream of string views.

        Raises:
            ValueError: another type or length, or rows beyond int32.
        """

_Field = tuple[str, int, TokenBlock | None, int, int, int, NDArray[np.float64]]
"""Name, kind (text, integer, boolean, number), block of tokens, its first row, the length of a sequence or 0, its pooling (mean,
sqrtn), boundaries of bins."""
_Batch = tuple[bytes, bytes | None, bytes | None]
"""Ids int64, offsets int64, weights float32; without the last two each field has one id."""
_Reading = tuple[_Batch | None, Mapping[str, int], Mapping[str, int], Mapping[str, int]]
"""The batch, unless there are no rows or no fields; counts of missing and unseen values and of unknown fields, by name."""
_Fault = tuple[str, int | None, str | None]
"""Message, row, field."""

class RequestReader:
    """Bytes of a request → rows of the table; see ``native/scoring/request.h``. Not thread-safe.

    Raises:
        ValueError: sizes, names, blocks or arrays that do not fit together.
    """

    def __init__(
        self,
        fields: tuple[_Field, ...],
        max_rows: int,
        max_chars: int,
        separator: str,
        nulls: tuple[str, ...],
        sources: tuple[str, ...],
        derived: tuple[int, ...],
        derive: Callable[..., tuple[int, ...] | None],
        others: tuple[str, ...] = (),
    ) -> None:
        """``others`` are names of the fields of the other side of a ranking, in that reader's order."""

    def read_predict(self, body: bytes, /) -> tuple[_Reading, None] | tuple[None, _Fault]: ...
    def read_rank(
        self, candidates: RequestReader, body: bytes, /
    ) -> tuple[tuple[_Reading, _Reading, list[str] | None, int], None] | tuple[None, _Fault]:
        """Read the context, and candidates with another reader; the last number is ``top_k``, or 0.

        Raises:
            ValueError: ``others`` are not as many as the other reader's fields.
        """

def take_rows(table: _Floats, ids: _Ints, /) -> bytes:
    """Return rows float32 [n, D] of ``table`` [R, D] at ``ids`` [n].

    Raises:
        IndexError: there is no such row.
    """

class Head:
    """A head for scoring; see ``native/scoring/head.h``. Float arrays are float32, all are contiguous.

    ``layers``: weight [in, width], bias [width], the activation's name (relu, prelu or dice) and its parameters
    [*, width] of each. ``precomputed``: of each field its first table row and its rows [n, E+1], or None.
    ``longest``: numbers of the longest vectors to use, 16, 8 or 4, where the processor has them.

    Raises:
        ValueError: arrays of another type, or that do not fit together.
    """

    def __init__(
        self,
        num_fields: int,
        embedding_dim: int,
        layers: tuple[tuple[_Floats, _Floats, str, _Floats], ...],
        last: _Floats,
        bias: float,
        precomputed: tuple[tuple[int, _Floats] | None, ...],
        longest: int = 16,
    ) -> None: ...
    def logits(self, fields: _Floats, ids: _Ints) -> bytes:
        """Return logits float32 [B] of fields [B, F·(E+1)] and their table rows [B·F]."""
    def side_activations(self, positions: _Ints, fields: _Floats, n: int) -> tuple[bytes, bytes]:
        """Return product float32 [n, H+E+1] and squares [n] of fields [n, F'·(E+1)] at ``positions`` [F']."""
    def rank(
        self,
        product: _Floats,
        squares: _Floats,
        candidates_product: _Floats,
        candidates_squares: _Floats,
        places: _Ints,
    ) -> bytes:
        """Return logits float32 [n] of one context with the candidates at ``places`` [n]."""

def first_layer(
    longest: int,
    values: _Floats,
    weight: _Floats,
    index: NDArray[np.int32],
    mask: _Floats,
    sums: _Floats,
    totals: _Floats,
    fm: _Floats,
    /,
) -> None:
    """Fill in ``sums`` [B, H], ``totals`` [B, E], the sum of each impression's embeddings, and ``fm`` [B].

    See `models.network.operators.fm_and_first_layer`.

    Raises:
        ValueError: arrays that do not fit together, are not contiguous or of another type, or a row of two fields.
    """

def first_layer_backward(
    longest: int,
    values: _Floats,
    weight: _Floats,
    index: NDArray[np.int32],
    mask: _Floats,
    by_sums: _Floats,
    by_fm: _Floats,
    totals: _Floats,
    by_values: _Floats,
    by_weight: _Floats,
    /,
) -> None:
    """Fill in ``by_values`` and ``by_weight``, the gradients; errors as in `first_layer`."""

def hidden_layers(longest: int, x: _Floats, bias: _Floats, logits: _Floats, /, *layers: _Floats) -> bytearray:
    """Fill in ``logits`` [B]; return the activations, which `hidden_layers_backward` takes.

    See `models.network.operators.rectified_layers`.

    Raises:
        TypeError: a number of arrays that is none of whole layers.
        ValueError: arrays that do not fit together, are not contiguous or of another type.
    """

def hidden_layers_backward(
    longest: int, activations: bytearray, by_logits: _Floats, by_x: _Floats, by_bias: _Floats, /, *layers: _Floats
) -> None:
    """Fill in the gradients ``by_x``, ``by_bias`` and those in ``layers``; errors as in `hidden_layers`.

    ``layers``: weight, bias, and the arrays for their gradients, of each layer.
    """

def adagrad(
    learning_rate: float, longest: int, rows: _Ints, gradient: _Floats, table: _Floats, squares: _Floats, /
) -> None:
    """Update ``table`` [R, E+1] and ``squares`` [R, 2] in place; see `models.training.rowwise_adagrad`.

    Raises:
        ValueError: arrays that do not fit the table, are not contiguous or of another type.
    """

class NameIndex:
    """Finds the places of strings in a list of distinct strings.

    Raises:
        TypeError: the argument is not a list of strings.
        ValueError: a string is given twice, or has a lone surrogate.
    """

    def __init__(self, strings: list[str]) -> None: ...
    def find(self, strings: list[str], /) -> bytes:
        """Return the place of each string, int64, -1 for those that are not there."""

class TokenIndex:
    """Numbers distinct tokens from 1 in order of first appearance; see ``native/data/token_index.h``.

    ``column`` is a column of strings that has ``__arrow_c_stream__``, ``codes`` is filled with its codes.

    Raises:
        ValueError: the column is not one of string views, or its length differs from that of ``codes``.
    """

    def number(self, column: object, codes: NDArray[np.uint32], /) -> bytes:
        """Give new tokens the next codes; return the positions of their first appearances, int64."""
    def find(self, column: object, codes: NDArray[np.uint32], /) -> None:
        """Give new tokens no code: they are 0, as nulls are."""

def hash_tokens(text: NDArray[np.uint8], ends: _Ints, hashes: NDArray[np.uint64], /) -> None:
    """Write the xxh3 hash of each token of a concatenated text.

    Raises:
        ValueError: the ends are not ascending, or outside the text.
    """
