from collections.abc import Mapping
from typing import overload

import numpy as np
from numpy.typing import NDArray

class TokenBlock:
    """The look-up of one block of tokens: feature hashing, or the four arrays of a vocabulary, which it keeps alive.

    Raises:
        ValueError: arrays of other types or of different lengths, or no buckets.
    """

    @overload
    def __init__(self, buckets: int, /) -> None: ...
    @overload
    def __init__(
        self,
        hashes: NDArray[np.uint64],
        positions: NDArray[np.int64],
        ends: NDArray[np.int64],
        text: NDArray[np.uint8],
        /,
    ) -> None: ...

_Field = tuple[str, int, TokenBlock | None, int, int, NDArray[np.float64]]
"""Name, kind (text, integer, number), block of tokens, its first row, the length of a sequence or 0, boundaries of bins."""
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

    def __init__(self, fields: tuple[_Field, ...], max_rows: int, max_chars: int, max_sequence: int) -> None: ...
    def read_predict(self, body: bytes, /) -> tuple[_Reading, None] | tuple[None, _Fault]: ...
    def read_rank(
        self, candidates: RequestReader, body: bytes, /
    ) -> tuple[tuple[_Reading, _Reading, list[str] | None, int], None] | tuple[None, _Fault]:
        """Read the context, and candidates with another reader; the last number is ``top_k``, or 0."""

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
        layers: tuple[tuple[NDArray[np.float32], NDArray[np.float32], str, NDArray[np.float32]], ...],
        last: NDArray[np.float32],
        bias: float,
        precomputed: tuple[tuple[int, NDArray[np.float32]] | None, ...],
        longest: int = 16,
    ) -> None: ...
    def logits(self, fields: NDArray[np.float32], ids: NDArray[np.int64]) -> bytes:
        """Return logits float32 [B] of fields [B, F·(E+1)] and their table rows [B·F]."""
    def side_activations(
        self, positions: NDArray[np.int64], fields: NDArray[np.float32], n: int
    ) -> tuple[bytes, bytes]:
        """Return product float32 [n, H+E+1] and squares [n] of fields [n, F'·(E+1)] at ``positions`` [F']."""
    def rank(
        self,
        product: NDArray[np.float32],
        squares: NDArray[np.float32],
        candidates_product: NDArray[np.float32],
        candidates_squares: NDArray[np.float32],
        places: NDArray[np.int64],
    ) -> bytes:
        """Return logits float32 [n] of one context with the candidates at ``places`` [n]."""

class Step:
    """Sums over a batch's distinct rows, forwards and backwards; see ``native/step.h`` for what the arrays are.

    ``longest``: numbers of the longest vectors to use, 16, 8 or 4, where the processor has them.

    Raises:
        ValueError: arrays that do not fit together, or values whose rows are not their field's.
    """

    def __init__(self, num_fields: int, embedding_dim: int, num_units: int, longest: int) -> None: ...
    def forward(
        self,
        values: NDArray[np.float32],
        weight: NDArray[np.float32],
        bounds: NDArray[np.int64],
        index: NDArray[np.int64],
        kept: NDArray[np.float32],
        bias: NDArray[np.float32],
        hidden: NDArray[np.float32],
        totals: NDArray[np.float32],
        logits: NDArray[np.float32],
        /,
    ) -> None: ...
    def backward(
        self,
        values: NDArray[np.float32],
        weight: NDArray[np.float32],
        bounds: NDArray[np.int64],
        index: NDArray[np.int64],
        kept: NDArray[np.float32],
        by_hidden: NDArray[np.float32],
        by_logit: NDArray[np.float32],
        totals: NDArray[np.float32],
        gradient: NDArray[np.float32],
        by_weight: NDArray[np.float32],
        /,
    ) -> None: ...

class HiddenLayers:
    """The rectified layers after the first and the last one, forwards and backwards; see ``native/hidden.h``.

    ``layers``: weight and bias of each, going backwards followed by the arrays for their gradients. `backward` undoes what the
    last `forward` left, so it can be called once. ``longest`` as for `Step`.

    Raises:
        ValueError: arrays that do not fit together.
    """

    def __init__(self, longest: int) -> None: ...
    def forward(
        self, sums: NDArray[np.float32], logits: NDArray[np.float32], /, *layers: NDArray[np.float32]
    ) -> None: ...
    def backward(
        self,
        by_logit: NDArray[np.float32],
        by_sums: NDArray[np.float32],
        by_first_bias: NDArray[np.float32],
        /,
        *layers: NDArray[np.float32],
    ) -> None: ...

def adagrad(
    learning_rate: float,
    longest: int,
    touched: NDArray[np.int64],
    values: NDArray[np.float32],
    gradient: NDArray[np.float32],
    decay: NDArray[np.float32],
    precision: NDArray[np.float32],
    table: NDArray[np.float32],
    squares: NDArray[np.float32],
    /,
) -> None:
    """Row-wise Adagrad with a lazy Gaussian prior, in place; see ``native/step.h``, and `Step` for ``longest``.

    Raises:
        ValueError: arrays that do not fit the table.
    """

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

def hash_tokens(text: NDArray[np.uint8], ends: NDArray[np.int64], hashes: NDArray[np.uint64], /) -> None:
    """Write the xxh3 hash of each token of a concatenated text.

    Raises:
        ValueError: the ends are not ascending, or outside the text.
    """
