"""What the wire costs by itself: a constant answer behind FastAPI and Pydantic, and behind bare uvicorn."""

from fastapi import FastAPI
from pydantic import BaseModel, create_model

types = {f"C{i}": (str | None, None) for i in range(26)} | {f"I{i}": (float | None, None) for i in range(13)}
Row = create_model("Row", **types)
ANSWER = b'{"predictions":[0.5]}'


class PredictRequest(BaseModel):
    instances: list[Row]


class PredictResponse(BaseModel):
    predictions: list[float]


typed = FastAPI()


@typed.post("/predict")
async def predict(request: PredictRequest) -> PredictResponse:
    return PredictResponse(predictions=[0.5] * len(request.instances))


async def bare(scope, receive, send) -> None:
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    while (await receive()).get("more_body"):
        pass
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(ANSWER))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": ANSWER})
