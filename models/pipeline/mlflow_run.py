"""A training run in MLflow: parameters, metrics, the report and the artifact. Needs the extra ``mlflow``."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # MLflow would tell its makers of each run

from mlflow import MlflowClient
from mlflow.entities import Metric, Param
from mlflow.exceptions import MlflowException

from models.errors import ModelsError

if TYPE_CHECKING:
    from models.pipeline.log_to_artifact import TrainResult

MAX_PARAM_CHARS = 500
"""MLflow's own limit is larger in newer servers."""
EXPERIMENT = "ctrserve"
"""Where ``MLFLOW_EXPERIMENT_NAME`` says nothing."""


class MlflowRun:
    """One run of a tracking server, while training runs.

    Args:
        client: of the server.
        run_id: of the run.
    """

    def __init__(self, client: MlflowClient, run_id: str) -> None:
        self._client = client
        self.run_id = run_id

    def log(self, result: TrainResult) -> None:
        """Log a finished training."""
        manifest, now = result.manifest, int(time.time() * 1_000)
        facts = {f"data.{name}": value for name, value in manifest.data.model_dump(mode="json").items()}
        model = {f"model.{name}": value for name, value in manifest.model.model_dump(mode="json").items()}
        settings = {k: v for k, v in manifest.training.items() if k != "model"}
        params = [Param(name, str(value)[:MAX_PARAM_CHARS]) for name, value in (settings | model | facts).items()]
        metrics = [
            Metric(f"{part}.{name}", float(value), now, 0)
            for part, found in manifest.metrics.items()
            for name, value in found.items()
            if value is not None
        ]
        for epoch in result.report.history:
            metrics += [
                Metric(f"epoch.{name}", float(value), now, epoch.epoch)
                for name, value in epoch.model_dump(exclude={"epoch"}).items()
            ]
        self._client.log_batch(self.run_id, metrics, params)
        tags = {"model_version": manifest.model_version, "current": str(not result.failures).lower()}
        for name, text in tags.items():
            self._client.set_tag(self.run_id, name, text)
        self._client.log_artifact(self.run_id, str(result.directory / "report.html"))
        self._client.log_artifacts(self.run_id, str(result.directory), f"artifacts/{manifest.model_version}")


@contextmanager
def mlflow_run(uri: str) -> Iterator[MlflowRun]:
    """Begin a run, before any work, so that a wrong address is an error at once; end it with training's fate.

    Args:
        uri: of the tracking server, or of its database.

    Raises:
        ModelsError: the server cannot be used.
    """
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME", EXPERIMENT)
    with _errors_of_mlflow():
        client = MlflowClient(tracking_uri=uri)
        known = client.get_experiment_by_name(name)
        run = client.create_run(client.create_experiment(name) if known is None else known.experiment_id)
    status = "FAILED"
    try:
        with _errors_of_mlflow():
            yield MlflowRun(client, run.info.run_id)
        status = "FINISHED"
    except KeyboardInterrupt:
        status = "KILLED"
        raise
    finally:
        with _errors_of_mlflow():
            client.set_terminated(run.info.run_id, status)


@contextmanager
def _errors_of_mlflow() -> Iterator[None]:
    try:
        yield
    except MlflowException as error:
        raise ModelsError(f"--mlflow: {str(error).strip().splitlines()[0][:300]}") from error
