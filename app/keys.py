"""``python -m app.keys NAME SCOPES [RATE]``: make an API key and its line in the key file."""

from __future__ import annotations

import hashlib
import json
import secrets
import sys
from collections.abc import Sequence
from typing import Annotated

from typer import Argument, Option

from app.http.api_keys import parse_keys
from models.command_line.running import run_command
from models.errors import ModelsError

EXAMPLE = "Example: `ctrserve keys bidder predict 500 >> keys.txt`, then `CTR_KEYS=keys.txt ctrserve serve`"


def keys_command(
    name: Annotated[str, Argument(metavar="NAME", help="Whose key it is.")],
    scopes: Annotated[str, Argument(metavar="SCOPES", help="One or several of predict,metrics,admin.")],
    rate: Annotated[str | None, Argument(metavar="RATE", help="Most requests a second.")] = None,
    *,
    as_json: Annotated[bool, Option("--json", help="Print the key and its line as JSON.")] = False,
) -> None:
    """Make an API key and its line in the key file.

    The key itself is written to stderr and shown only now; the line goes to stdout.
    """
    secret = secrets.token_urlsafe(32)
    line = " ".join([name, scopes, hashlib.sha256(secret.encode()).hexdigest(), rate or ""]).strip()
    try:
        parse_keys(line)
    except ValueError as error:
        raise ModelsError(str(error)) from error
    if as_json:
        print(json.dumps({"key": secret, "line": line}))
        return
    sys.stderr.write(f"key, shown only now: {secret}\n")
    print(line)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return 0, or 2 after an error message of one line."""
    return run_command(keys_command, EXAMPLE, argv, "python -m app.keys")


if __name__ == "__main__":
    sys.exit(main())
