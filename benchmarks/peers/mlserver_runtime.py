"""MLServer around the reference model: the open inference protocol, one JSON string a row, its adaptive batching."""

import json

from mlserver import MLModel
from mlserver.codecs import StringCodec
from mlserver.types import InferenceRequest, InferenceResponse, ResponseOutput
from reference_model import ReferenceModel


class DeepFM(MLModel):
    async def load(self) -> bool:
        self.model = ReferenceModel()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        rows = [json.loads(row) for row in StringCodec.decode_input(payload.inputs[0])]
        p = self.model.predict(rows)
        output = ResponseOutput(name="predictions", shape=[len(p), 1], datatype="FP64", data=p)
        return InferenceResponse(model_name=self.name, outputs=[output])
