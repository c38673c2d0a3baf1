"""``python -m app``: read settings, then hand over to uvicorn."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from tempfile import TemporaryDirectory

import uvicorn
from pydantic import SecretStr

from app.http.api_keys import KeyFile
from app.http.guarded_protocol import GuardedProtocol
from app.observability.logs import configure_logging
from app.registry.rollback import DIRECTORY
from app.settings import PREFIX, Settings, unknown_variables
from models.command_line.options import with_options
from models.command_line.running import run_command
from models.errors import ModelsError

LOOPBACK = {"127.0.0.1", "::1", "localhost"}


PANELS = {
    "Model": ("artifacts", "poll_s", "catalog", "max_catalog_bytes"),
    "Listening": ("host", "port", "workers", "drain_s", "docs", "metrics", "traces", "model_name"),
    "Access": ("keys", "allow_anonymous"),
    "Limits": ("max_body_bytes", "max_rows", "max_waiting", "max_waiting_bytes"),
    "Redis": ("redis_url", "redis_timeout_ms", "redis_ttl_s", "hot_bytes"),
}
EXAMPLE = "Example: `ctrserve serve --artifacts artifacts --port 8000`"


@with_options(Settings, PANELS)
def serve_command(*, config: Settings) -> None:
    """Serve the current artifact over HTTP until told to stop.

    Each option is also an environment variable: `--hot-bytes` is `CTR_HOT_BYTES`.
    """
    if unknown := unknown_variables():
        raise ModelsError(f"unknown setting {unknown[0]}; python -m app --help lists them")
    if fault := _fault_of(config):
        raise ModelsError(fault)
    if config.traces:
        import app.observability.spans  # noqa: F401  # an error before a worker starts
    configure_logging()
    _export(config)
    with ExitStack() as stack:
        if config.workers > 1:  # workers put their metrics side by side, so that each can answer for all
            shared = stack.enter_context(TemporaryDirectory(prefix="ctrserve-"))
            os.environ[DIRECTORY] = os.environ["PROMETHEUS_MULTIPROC_DIR"] = shared
        _serve(config)


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until told to stop; return 2 after one line when a setting is wrong."""
    return run_command(serve_command, EXAMPLE, argv, "python -m app")


def _fault_of(settings: Settings) -> str | None:
    """Return what speaks against serving with these settings."""
    if settings.keys is None:
        if settings.host in LOOPBACK or settings.allow_anonymous:
            return None
        return f"{settings.host} is no loopback address: set CTR_KEYS, or CTR_ALLOW_ANONYMOUS=1 to serve everybody"
    try:
        KeyFile(settings.keys, settings.workers)
    except (OSError, ValueError) as error:
        return f"{settings.keys}: {error.strerror if isinstance(error, OSError) else error}"
    return None


def _serve(settings: Settings) -> None:
    # Before uvicorn listens to signals there is nothing to finish; once it has stopped in good order it raises the signal
    # again. Neither is a failure.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
    uvicorn.run(
        "app.worker:create_worker",
        factory=True,
        host=settings.host,
        port=settings.port,
        workers=settings.workers,
        loop="uvloop",
        http=GuardedProtocol,
        proxy_headers=False,
        ws="none",
        access_log=False,
        server_header=False,
        log_config=None,
        timeout_graceful_shutdown=10,
    )


def _export(settings: Settings) -> None:
    # Workers are fresh processes: they read the settings from the environment, the command line's included.
    for name in settings.model_fields_set:
        value = getattr(settings, name)
        text = value.get_secret_value() if isinstance(value, SecretStr) else str(value)
        if value is not None:
            os.environ[f"{PREFIX}{name.upper()}"] = text
    # A worker is one thread; numpy reads this when the app is imported.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    os.environ.setdefault("OMP_NUM_THREADS", "1")


if __name__ == "__main__":
    sys.exit(main())
