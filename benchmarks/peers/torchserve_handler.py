"""TorchServe around the reference model: a handler that is given the requests its frontend put together."""

import json

from reference_model import ReferenceModel


class DeepFM:
    def initialize(self, context):
        self.model = ReferenceModel()

    def handle(self, data, context):
        requests = []
        for request in data:
            body = request.get("body") or request.get("data")
            document = body if isinstance(body, dict) else json.loads(body)
            requests.append(document["instances"])
        return [{"predictions": p} for p in self.model.predict_many(requests)]
