"""A verified artifact as a Python object."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ctrserve.notebook import describe_in_html
from ctrserve.report import Report
from models.artifact.artifact import Artifact, load_artifact
from models.artifact.current import find_artifact
from models.errors import ModelsError
from models.explanation.explainer import Explainer
from models.features.vocabulary import NUM_SPECIAL
from models.schema.feature_schema import FeatureSchema

if TYPE_CHECKING:
    import pyarrow

    from models.data.frame_encoder import EncodedFrame, FrameEncoder


class Model:
    """A model in memory. Its probabilities are those that the service answers, to the bit.

    Args:
        artifact: verified.
        directory: of the artifact.
    """

    def __init__(self, artifact: Artifact, directory: Path) -> None:
        self.artifact = artifact
        self._directory = directory

    @property
    def version(self) -> str:
        """The artifact's version."""
        return self.artifact.model_version

    @property
    def schema(self) -> FeatureSchema:
        """The label and the fields: name, kind, side and how each is encoded."""
        return self.artifact.schema.features

    @property
    def metrics(self) -> Mapping[str, Mapping[str, float | int | None]]:
        """Metrics of the held-out parts when the model was trained, by part."""
        return self.artifact.manifest.metrics

    @property
    def report(self) -> Report:
        """The page that training wrote.

        Raises:
            ModelsError: the file is not the one that was written.
        """
        return Report.of(self._directory, self.artifact.manifest)

    def predict(self, frame: Any) -> NDArray[np.float64]:
        """Return the click probability of each row, float64 [B], in (0, 1).

        Args:
            frame: a Polars or pandas frame, an Arrow table, or a list of values for each column. A column that the model
                does not have is ignored; a field without a column is missing in every row, as in a request.

        Raises:
            ModelsError: a value is not of its field's kind, or there is no field.
        """
        encoded, predictor = self._encoded(frame), self.artifact.predictor
        from models.pipeline.scoring import score_frame

        return predictor.probabilities(score_frame(predictor, encoded, self.artifact.table))

    def explain(self, frame: Any) -> dict[str, Any]:
        """Return why each row has its probability: what ``POST /explain`` answers, as a dictionary.

        Its ``explanations`` have, for each row, the contributions to the logit, how often training saw each value, and a
        standard error.

        Args:
            frame: as `predict` takes it. A row takes a fraction of a millisecond, or tens of them where the model is wide.

        Raises:
            ModelsError: as `predict`.
        """
        blocks = self._encoded(frame).blocks()
        explanations = [e for block in blocks for e in self._explainer.explain(block.unpack())]
        return self._explainer.header() | {"explanations": explanations}

    def embeddings(self, field: str) -> pyarrow.Table:
        """Return the tokens of a field and what was learnt about each, the most frequent first, as an Arrow table.

        Its columns: ``token`` (int64 or string, as in a request), ``impressions`` (int64, how often training saw it),
        ``first_order`` (float32) and ``vector`` (a list of E float32).

        Args:
            field: categorical, or a sequence; those that share a vocabulary have the same tokens and vectors.

        Raises:
            ModelsError: there is no such field, or it has no tokens: a number, or a hashed field.
        """
        try:
            import pyarrow as pa
        except ModuleNotFoundError as error:
            raise ModelsError("embeddings need the extra 'arrow': pip install 'ctrserve[arrow]'") from error
        place = {spec.name: i for i, spec in enumerate(self.schema.fields)}.get(field)
        if place is None:
            names = ", ".join(spec.name for spec in self.schema.fields)
            raise ModelsError(f"no field {field!r}; the model has {names}")
        encoder = self.artifact.encoder
        found = encoder.fields[place]
        vocabulary = encoder.vocabularies.get(found.spec.block)
        if vocabulary is None:
            raise ModelsError(f"field {field!r} has no tokens: it is {_why_none(found.spec.kind)}")
        start = found.start + NUM_SPECIAL
        rows = self.artifact.table[start : start + len(vocabulary)]
        tokens = pa.array(vocabulary.tokens(), pa.string())
        if found.dtype == "integer":
            tokens = tokens.cast(pa.int64())
        vectors = pa.array(np.ascontiguousarray(rows[:, :-1]).reshape(-1))
        return pa.table(
            {
                "token": tokens,
                "impressions": pa.array(self.artifact.counts[start : start + len(vocabulary)]),
                "first_order": pa.array(np.ascontiguousarray(rows[:, -1])),
                "vector": pa.FixedSizeListArray.from_arrays(vectors, rows.shape[1] - 1),
            }
        )

    def __repr__(self) -> str:
        return f"<ctrserve.Model {self.version}: predicts {self.schema.label} from {len(self.schema.fields)} fields>"

    def _repr_html_(self) -> str:
        return describe_in_html(self.artifact, self.report)

    def _encoded(self, frame: Any) -> EncodedFrame:
        try:
            from models.data.frames import canonical_columns, to_polars
        except ModuleNotFoundError as error:
            raise ModelsError("frames need the extra 'train': pip install 'ctrserve[train]'") from error
        return self._frame_encoder.encode(canonical_columns(to_polars(frame), self.schema))

    @cached_property
    def _explainer(self) -> Explainer:
        return Explainer(self.artifact)

    @cached_property
    def _frame_encoder(self) -> FrameEncoder:
        from models.data.frame_encoder import FrameEncoder

        return FrameEncoder(self.artifact.encoder)


def load(path: str | Path = "artifacts") -> Model:
    """Read and verify an artifact as the service does: digests, shapes, finite weights, golden rows.

    Args:
        path: a directory of artifacts, of which the current one is loaded, or the directory of one artifact.

    Raises:
        ModelsError: there is none, or it is damaged.
    """
    found = find_artifact(Path(path))
    return Model(load_artifact(found.directory, found.current.manifest_sha256), found.directory)


def _why_none(kind: str) -> str:
    return "a number" if kind == "numeric" else "hashed"
