"""BentoML around the reference model: a plain API, and one with its adaptive batching."""

import bentoml
from reference_model import ReferenceModel

OPTIONS = {"workers": 1, "threads": 1, "traffic": {"timeout": 60}, "logging": {"access": {"enabled": False}}}


@bentoml.service(**OPTIONS)
class Plain:
    def __init__(self) -> None:
        self.model = ReferenceModel()

    @bentoml.api
    async def predict(self, instances: list[dict]) -> list[float]:
        return self.model.predict(instances)


@bentoml.service(**OPTIONS)
class Batching:
    def __init__(self) -> None:
        self.model = ReferenceModel()

    # The latency is the dispatcher's bound, beyond which it refuses: generous, so that it refuses nothing.
    @bentoml.api(batchable=True, max_batch_size=2_048, max_latency_ms=60_000)
    def predict(self, instances: list[dict]) -> list[float]:
        return self.model.predict(instances)
