"""LitServe around the reference model; ``BATCH`` > 1 turns its own batching on, as its docs advise for concurrency."""

import os

import litserve
from reference_model import ReferenceModel

BATCH = int(os.environ.get("BATCH", "1"))


class DeepFM(litserve.LitAPI):
    def setup(self, device):
        self.model = ReferenceModel()

    def decode_request(self, request):
        return request["instances"]

    def predict(self, x):
        return self.model.predict(x) if BATCH == 1 else self.model.predict_many(x)

    def batch(self, inputs):
        return inputs

    def unbatch(self, output):
        return output

    def encode_response(self, output):
        return {"predictions": output}


if __name__ == "__main__":
    api = DeepFM(max_batch_size=BATCH, batch_timeout=0.001)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1, fast_queue=True, timeout=60)
    server.run(
        host="127.0.0.1",
        port=int(os.environ["PORT"]),
        num_api_servers=1,
        generate_client_file=False,
        log_level="warning",
        access_log=False,
    )
