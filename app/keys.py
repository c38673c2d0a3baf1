"""``python -m app.keys NAME SCOPES [RATE]``: make an API key and its line in the key file."""

from __future__ import annotations

import argparse
import hashlib
import secrets
import sys

from app.http.api_keys import parse_keys


def main() -> None:
    """Make a key: the key itself to stderr, the line for the file to stdout."""
    parser = argparse.ArgumentParser(prog="python -m app.keys", description="Make an API key and its line.")
    parser.add_argument("name", help="whose key it is")
    parser.add_argument("scopes", help="one or several of predict,metrics,admin")
    parser.add_argument("rate", nargs="?", help="requests a second")
    options = parser.parse_args()
    secret = secrets.token_urlsafe(32)
    words = [options.name, options.scopes, hashlib.sha256(secret.encode()).hexdigest(), options.rate or ""]
    line = " ".join(words).strip()
    try:
        parse_keys(line)
    except ValueError as error:
        parser.error(str(error))
    sys.stderr.write(f"key, shown only now: {secret}\n")
    sys.stdout.write(line + "\n")


if __name__ == "__main__":
    main()
