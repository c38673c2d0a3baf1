"""A verified artifact as a Python object."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from models.artifact.artifact import Artifact, load_artifact
from models.artifact.current import find_artifact
from models.explanation.explainer import Explainer

if TYPE_CHECKING:
    from models.data.frame_encoder import EncodedFrame, FrameEncoder


class Model:
    """A model in memory. Its probabilities are those that the service answers, to the bit.

    Args:
        artifact: verified.
    """

    def __init__(self, artifact: Artifact) -> None:
        self.artifact = artifact

    @property
    def version(self) -> str:
        """The artifact's version."""
        return self.artifact.model_version

    def predict(self, frame: Any) -> NDArray[np.float64]:
        """Return the click probability of each row, float64 [B], in (0, 1).

        Args:
            frame: a Polars or pandas frame, an Arrow table, or a list of values for each column. A column that the model
                does not have is ignored; a field without a column is missing in every row, as in a request.

        Raises:
            ModelsError: a value is not of its field's kind, or there is no field.
        """
        return self.artifact.predictor.probabilities(self._logits(frame))

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

    def _logits(self, frame: Any) -> NDArray[np.float32]:
        from models.pipeline.scoring import score_frame

        return score_frame(self.artifact.predictor, self._encoded(frame), self.artifact.table)

    def _encoded(self, frame: Any) -> EncodedFrame:
        from models.data.frames import canonical_columns, to_polars

        return self._frame_encoder.encode(canonical_columns(to_polars(frame), self.artifact.schema.features))

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
    return Model(load_artifact(found.directory, found.current.manifest_sha256))
