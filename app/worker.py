"""What each server process starts with; uvicorn imports it, after the environment has been set."""

from __future__ import annotations

from app.http.endpoint import Application
from app.main import create_app
from app.observability.logs import configure_logging


def create_worker() -> Application:
    """Return the app of one server process, which writes its own log lines."""
    configure_logging()
    return create_app()
