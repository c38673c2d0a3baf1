"""MLServer around the reference model: the open inference protocol with its adaptive batching, and a handler of its own."""

import json

import orjson
from mlserver import MLModel
from mlserver.codecs import StringCodec
from mlserver.handlers import custom_handler
from mlserver.types import InferenceRequest, InferenceResponse, ResponseOutput
from reference_model import ReferenceModel
from starlette.requests import Request
from starlette.responses import Response


class DeepFM(MLModel):
    async def load(self) -> bool:
        self.model = ReferenceModel()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        rows = [json.loads(row) for row in StringCodec.decode_input(payload.inputs[0])]
        p = self.model.predict(rows)
        output = ResponseOutput(name="predictions", shape=[len(p), 1], datatype="FP64", data=p)
        return InferenceResponse(model_name=self.name, outputs=[output])

    @custom_handler(rest_path="/predict")
    async def plain(self, request: Request) -> Response:
        rows = orjson.loads(await request.body())["instances"]
        return Response(orjson.dumps({"predictions": self.model.predict(rows)}), media_type="application/json")
