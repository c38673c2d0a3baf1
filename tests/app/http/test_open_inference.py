"""The Open Inference Protocol by Triton's own client, and the shapes that KServe documents."""

import hashlib
from collections.abc import Iterator

import numpy as np
import pytest
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

from tests.making import make_artifact, make_log, request_columns
from tests.server import Server, serving

SECRET = "k" * 43
KEY = {"x-api-key": SECRET}  # copied for each request: the client adds its own headers


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    root = tmp_path_factory.mktemp("open-inference")
    make_artifact(root / "artifacts")
    (root / "keys").write_text(f"caller predict {hashlib.sha256(SECRET.encode()).hexdigest()}\n")
    with serving(root / "artifacts", keys=root / "keys", model_name="ads") as running:
        yield running


@pytest.fixture
def client(server: Server) -> Iterator[triton.InferenceServerClient]:
    url = server.client.base_url
    with triton.InferenceServerClient(f"{url.host}:{url.port}") as opened:
        yield opened


def tensor(name: str, values: np.ndarray, datatype: str, *, binary: bool = False) -> triton.InferInput:
    made = triton.InferInput(name, list(values.shape), datatype)
    made.set_data_from_numpy(values, binary_data=binary)
    return made


@pytest.mark.parametrize("binary", [False, True])
def test_tritons_client_gets_the_probabilities_of_predict_to_the_bit(
    server: Server, client: triton.InferenceServerClient, binary: bool
) -> None:
    columns = request_columns(make_log(50, seed=5).drop_nulls())
    longest = max(map(len, columns["clicked_ads"]))
    padded = [[*ads, *[""] * (longest - len(ads))] for ads in columns["clicked_ads"]]
    inputs = [
        tensor("user_id", np.array(columns["user_id"]), "INT64", binary=binary),
        tensor("clicked_ads", np.array(padded, object), "BYTES", binary=binary),
        tensor("ad_id", np.array(columns["ad_id"], object), "BYTES", binary=binary),
        tensor("price", np.array(columns["price"]), "FP64", binary=binary),
    ]
    given = {name: columns[name] for name in ("user_id", "clicked_ads", "ad_id", "price")}
    predicted = server.client.post("/predict", json={"inputs": given}, headers=dict(KEY)).json()
    for version in ("", predicted["model_version"]):
        found = client.infer("ads", inputs, model_version=version, request_id="q", headers=dict(KEY))
        assert found.as_numpy("probability").tolist() == predicted["predictions"]
        answer = found.get_response()
        assert (answer["model_name"], answer["model_version"], answer["id"]) == ("ads", "v1", "q")
        assert answer["parameters"]["missing.site"] == len(predicted["predictions"])


def test_tritons_client_reads_health_metadata_and_refusals(client: triton.InferenceServerClient) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("ads", headers=dict(KEY))
    assert client.is_model_ready("ads", "v1", headers=dict(KEY))
    assert not client.is_model_ready("ads", "v2", headers=dict(KEY))
    assert client.get_server_metadata(headers=dict(KEY))["name"] == "ctrserve"
    metadata = client.get_model_metadata("ads", headers=dict(KEY))
    assert (metadata["versions"], metadata["outputs"][0]["name"]) == (["v1"], "probability")
    assert [tensor["datatype"] for tensor in metadata["inputs"]] == ["INT64", "BYTES", "BYTES", "BYTES", "FP64"]
    assert metadata["inputs"][2] == {"name": "clicked_ads", "datatype": "BYTES", "shape": [-1, -1]}
    user = tensor("user_id", np.array([7]), "INT64")
    with pytest.raises(InferenceServerException, match="The path asks for an API key"):
        client.infer("ads", [user])
    with pytest.raises(InferenceServerException, match="no model has this name"):
        client.infer("other", [user], headers=dict(KEY))
    with pytest.raises(InferenceServerException, match="this version is not served"):
        client.infer("ads", [user], model_version="v2", headers=dict(KEY))
    with pytest.raises(InferenceServerException, match="the input 'user_id' is INT64"):
        client.infer("ads", [tensor("user_id", np.array(["7"], object), "BYTES")], headers=dict(KEY))


def test_the_shapes_are_those_that_kserve_documents(server: Server) -> None:
    get = server.client.get
    assert get("/v2/health/live").json() == {"live": True}
    assert get("/v2/health/ready").json() == {"ready": True}
    assert get("/v2", headers=dict(KEY)).json().keys() == {"name", "version", "extensions"}
    assert get("/v2/models/ads/ready", headers=dict(KEY)).json() == {"name": "ads", "ready": True}
    assert get("/v2/models/ads/versions/v1", headers=dict(KEY)).json().keys() == {
        "name", "versions", "platform", "inputs", "outputs",
    }  # fmt: skip
    body = {"inputs": [{"name": "ad_id", "shape": [1], "datatype": "BYTES", "data": ["ad1"]}]}
    post = server.client.post("/v2/models/ads/infer", json=body, headers=dict(KEY))
    assert post.json().keys() == {"model_name", "model_version", "outputs", "parameters"}
    body["inputs"][0]["data"] = [{}]  # the value is refused by what reads /predict
    refused = server.client.post("/v2/models/ads/infer", json=body, headers=dict(KEY))
    assert (refused.status_code, refused.json()["code"]) == (422, "invalid_input")
    assert refused.json()["error"] == refused.json()["errors"][0]["message"]


def test_requests_of_the_protocol_have_the_deadline_and_bounds_of_predict(server: Server) -> None:
    body = {"inputs": [{"name": "ad_id", "shape": [1], "datatype": "BYTES", "data": ["ad1"]}]}
    late = server.client.post("/v2/models/ads/infer", json=body, headers={**KEY, "x-request-timeout-ms": "0"})
    assert (late.status_code, late.json()["code"]) == (504, "deadline_exceeded")
    binary = server.client.post(
        "/v2/models/ads/infer", content=b"{}", headers={**KEY, "content-type": "application/octet-stream"}
    )
    assert binary.status_code == 415
    for length in ("-1", "x", "3", "9" * 30):
        headers = {**KEY, "inference-header-content-length": length}
        assert server.client.post("/v2/models/ads/infer", content=b"{}", headers=headers).status_code == 422
    many = {"name": "ad_id", "shape": [2049], "datatype": "BYTES", "data": ["ad1"] * 2049}
    assert server.client.post("/v2/models/ads/infer", json={"inputs": [many]}, headers=dict(KEY)).status_code == 422
