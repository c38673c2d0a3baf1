"""Settings beside what others put into the environment."""

import pytest
from pydantic import ValidationError

from app.settings import DEFAULT_PORT, Settings, unknown_variables

# As kubelet sets them for a Service called "ctr" with the ports http (8000) and metrics (9000).
KUBERNETES = {
    "CTR_SERVICE_HOST": "10.0.0.5",
    "CTR_SERVICE_PORT": "8000",
    "CTR_SERVICE_PORT_HTTP": "8000",
    "CTR_SERVICE_PORT_METRICS": "9000",
    "CTR_PORT": "tcp://10.0.0.5:8000",
    "CTR_PORT_8000_TCP": "tcp://10.0.0.5:8000",
    "CTR_PORT_8000_TCP_PROTO": "tcp",
    "CTR_PORT_8000_TCP_PORT": "8000",
    "CTR_PORT_8000_TCP_ADDR": "10.0.0.5",
    "CTR_PORT_9000_UDP": "udp://10.0.0.5:9000",
}


def test_variables_that_kubernetes_sets_are_ignored_and_a_typing_error_is_still_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in KUBERNETES.items():
        monkeypatch.setenv(name, value)
    assert Settings().port == DEFAULT_PORT
    assert unknown_variables() == []
    for name in ("CTR_SERVICE", "CTR_PORT_8000", "CTR_PROT", "CTR_SERVICE_HOSTS"):
        assert unknown_variables({**KUBERNETES, name: "x"}) == [name]


@pytest.mark.parametrize("port", ["http", "70000", "tcp:8000", ""])
def test_a_port_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch, port: str) -> None:
    monkeypatch.setenv("CTR_PORT", port)
    with pytest.raises(ValidationError):
        Settings()
