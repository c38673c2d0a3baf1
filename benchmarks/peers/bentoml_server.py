"""BentoML around the reference model, with its adaptive batching."""

import bentoml
from reference_model import ReferenceModel


@bentoml.service(workers=1, threads=1, traffic={"timeout": 60})
class DeepFM:
    def __init__(self) -> None:
        self.model = ReferenceModel()

    @bentoml.api(batchable=True, max_batch_size=2_048, max_latency_ms=60_000)
    def predict(self, instances: list[dict]) -> list[float]:
        return self.model.predict(instances)
