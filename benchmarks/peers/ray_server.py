"""Ray Serve around the reference model: one replica, raw Starlette request, as its performance page advises.

``BATCH`` > 1 turns ``serve.batch`` on.
"""

import os
import signal
import threading

import orjson
import ray
from ray import serve
from reference_model import ReferenceModel
from starlette.requests import Request
from starlette.responses import Response

BATCH = int(os.environ.get("BATCH", "1"))


@serve.deployment(num_replicas=1, max_ongoing_requests=200, ray_actor_options={"num_cpus": 1})
class DeepFM:
    def __init__(self) -> None:
        self.model = ReferenceModel()

    @serve.batch(max_batch_size=max(BATCH, 2), batch_wait_timeout_s=0.001)
    async def many(self, requests: list[list[dict]]) -> list[list[float]]:
        return self.model.predict_many(requests)

    async def __call__(self, request: Request) -> Response:
        rows = orjson.loads(await request.body())["instances"]
        p = self.model.predict(rows) if BATCH == 1 else await self.many(rows)
        return Response(orjson.dumps({"predictions": p}), media_type="application/json")


if __name__ == "__main__":
    done = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: done.set())
    handed_on = {n: v for n, v in os.environ.items() if n.startswith(("RAY_SERVE", "BENCHMARK", "PYTHONPATH", "BATCH"))}
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        runtime_env={"env_vars": handed_on},
        _node_ip_address="127.0.0.1",
    )
    serve.start(http_options={"host": "127.0.0.1", "port": int(os.environ["PORT"])})
    serve.run(DeepFM.bind(), route_prefix="/predict", logging_config={"enable_access_log": False})
    done.wait()
    serve.shutdown()
    ray.shutdown()
