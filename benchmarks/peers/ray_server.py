"""Ray Serve around the reference model: one replica, raw Starlette request, as its performance page advises."""

import os
import time

import ray
from ray import serve
from reference_model import ReferenceModel
from starlette.requests import Request


@serve.deployment(num_replicas=1, max_ongoing_requests=100, ray_actor_options={"num_cpus": 1})
class DeepFM:
    def __init__(self) -> None:
        self.model = ReferenceModel()

    async def __call__(self, request: Request) -> dict:
        return {"predictions": self.model.predict((await request.json())["instances"])}


if __name__ == "__main__":
    environment = {"env_vars": {name: os.environ[name] for name in ("BENCHMARK_MODEL", "PYTHONPATH")}}
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, runtime_env=environment)
    serve.start(http_options={"host": "127.0.0.1", "port": int(os.environ["PORT"]), "access_log": False})
    serve.run(DeepFM.bind(), route_prefix="/predict")
    while True:
        time.sleep(3600)
