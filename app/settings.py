"""Every setting of the service, read once from the environment (prefix ``CTR_``) or the command line.

Defaults work on a laptop: loopback only, no Redis. The README's table is tested against this class.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

PREFIX = "CTR_"
KUBERNETES_NAME = re.compile(r"CTR_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_PROTO|_PORT|_ADDR)?)")
"""What Kubernetes sets in every container beside a Service called ``ctr``."""
KUBERNETES_PORT = re.compile(r"(tcp|udp|sctp)://\S+")
"""And the value that it gives ``CTR_PORT``."""
DEFAULT_PORT = 8000


def _port(value: object) -> object:
    return DEFAULT_PORT if isinstance(value, str) and KUBERNETES_PORT.fullmatch(value) else value


class Settings(BaseSettings):
    """Settings of ``python -m app``; an unknown ``CTR_*`` variable is an error, see `unknown_variables`."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid", use_attribute_docstrings=True)

    artifacts: Path = Path("artifacts")
    """Directory of artifacts, whose file `current` names the one to serve, or directory of one artifact."""
    host: str = "127.0.0.1"
    """Address to listen on."""
    port: Annotated[int, BeforeValidator(_port), Field(ge=0, le=65535)] = DEFAULT_PORT
    """Port to listen on; 0 lets the system choose."""
    workers: Annotated[int, Field(ge=1, le=256)] = 1
    """Server processes; they share one memory-mapped table."""
    hot_bytes: Annotated[int, Field(ge=0)] = 256 * 2**20
    """Bytes of the most frequent embedding rows that are never asked of Redis."""
    redis_url: SecretStr | None = None
    """Redis for rows outside the hot head, such as `redis://host:6379/0` or `unix:///path`; none switches it off."""
    redis_timeout_ms: Annotated[float, Field(gt=0, le=1000)] = 20.0
    """The longest a request waits for Redis, in milliseconds."""
    redis_ttl_s: Annotated[int, Field(ge=1)] = 86_400
    """Seconds until a cached row expires (±10 %)."""
    max_body_bytes: Annotated[int, Field(ge=1)] = 4 * 2**20
    """Largest request body in bytes; more is answered 413."""
    max_rows: Annotated[int, Field(ge=1)] = 2_048
    """Most rows in one request; more is answered 422."""
    catalog: Path | None = None
    """File of the candidates that `/rank` takes by id; `PUT /catalog` replaces it, every worker follows it."""
    max_catalog_bytes: Annotated[int, Field(ge=1)] = 64 * 2**20
    """Largest catalog in bytes; more is answered 413."""
    max_waiting: Annotated[int, Field(ge=1)] = 256
    """Most scored requests in a process, waiting or being answered; more are answered 503 at once."""
    max_waiting_bytes: Annotated[int, Field(ge=1)] = 8 * 2**20
    """Most bytes of their bodies; more are answered 503 at once."""
    model_name: Annotated[str, Field(pattern=r"^[\w.-]{1,64}$")] = "ctrserve"
    """Name of the model in the paths of the Open Inference Protocol, `/v2/models/NAME`."""
    poll_s: Annotated[float, Field(gt=0)] = 1.0
    """Seconds between looks at `artifacts/current` and the catalog."""
    drain_s: Annotated[float, Field(ge=0, le=300)] = 1.0
    """Seconds between SIGTERM and closing the listener: not ready, but answering, and telling clients to reconnect."""
    docs: bool = True
    """Serve `/docs` and `/openapi.json`."""
    metrics: bool = True
    """Serve `/metrics`."""
    traces: bool = False
    """Send OpenTelemetry traces, to where `OTEL_EXPORTER_OTLP_ENDPOINT` says; needs the extra `otel`."""
    keys: Path | None = None
    """File of API keys, made by `ctrserve keys`; with it, every path but health asks for a key."""
    allow_anonymous: bool = False
    """Listen on other addresses than loopback without a key file."""


def unknown_variables(environ: dict[str, str] | None = None) -> list[str]:
    """Return the ``CTR_*`` names in the environment that no setting reads, sorted; those that Kubernetes sets are no error.

    >>> unknown_variables({"CTR_PROT": "80", "CTR_PORT": "80", "HOME": "/", "CTR_SERVICE_HOST": "10.0.0.5"})
    ['CTR_PROT']
    """
    known = {f"{PREFIX}{name}".upper() for name in Settings.model_fields}
    given = os.environ if environ is None else environ
    return sorted(
        name
        for name in given
        if name.startswith(PREFIX) and name.upper() not in known and not KUBERNETES_NAME.fullmatch(name)
    )
