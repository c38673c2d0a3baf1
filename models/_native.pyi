from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

class RowReader:
    """Bytes of a request → rows of the table; see ``native/request.h``.

    Raises:
        ValueError: sizes, names or arrays that it cannot work with.
    """

    def __init__(self, num_fields: int, max_rows: int, max_chars: int, max_sequence: int) -> None: ...
    def add_vocabulary(
        self, hashes: NDArray[np.uint64], positions: NDArray[np.int64], ends: NDArray[np.int64], text: NDArray[np.uint8]
    ) -> int: ...
    def add_hashing(self, buckets: int) -> int: ...
    def add_field(
        self, name: str, kind: int, block: int, start: int, max_length: int, boundaries: NDArray[np.float64]
    ) -> None: ...
    def read(
        self, body: bytes
    ) -> tuple[bytes, bytes | None, bytes | None, Mapping[str, int], Mapping[str, int]] | None: ...

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

class Names:
    """Different strings and their places.

    Raises:
        TypeError: not a list of strings.
        ValueError: a name twice, or with half a character.
    """

    def __init__(self, strings: list[str]) -> None: ...
    def find(self, strings: list[str]) -> bytes:
        """Return their places int64 [n]; -1 for one that is not there."""

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
    """Write the xxh3 hash of each token of a concatenated text; 0 for a token of more than 240 bytes.

    Raises:
        ValueError: the ends are not ascending, or outside the text.
    """
