"""The obvious FastAPI app around the reference model: a typed body, the model called in the handler."""

from fastapi import FastAPI
from pydantic import BaseModel, create_model
from reference_model import ReferenceModel

types = {f"C{i}": (str | None, None) for i in range(26)} | {f"I{i}": (float | None, None) for i in range(13)}
Row = create_model("Row", **types)


class PredictRequest(BaseModel):
    instances: list[Row]


class PredictResponse(BaseModel):
    predictions: list[float]


app = FastAPI()
model = ReferenceModel()


@app.post("/predict")
async def predict(request: PredictRequest) -> PredictResponse:
    return PredictResponse(predictions=model.predict([row.model_dump() for row in request.instances]))
