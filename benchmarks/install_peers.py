"""``python -m benchmarks.install_peers --peers DIR``: one virtual environment for each peer, below ``DIR``.

What is there already stays. A peer that cannot be installed is reported and left out. TorchServe needs Java 17 to run.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

PEERS = Path("build/peers")
# torch first and by itself: it lets pip take a CPU build where the index has one.
TORCH = "torch==2.13.0"
MODEL = ("numpy", "safetensors", "orjson")
# uvloop and httptools: uvicorn takes them when they are there, and is faster for it.
SERVERS: Mapping[str, Sequence[str]] = {
    "litserve": ("litserve==0.2.19", "uvloop", "httptools"),
    "bentoml": ("bentoml==1.4.40", "uvloop", "httptools"),
    "mlserver": ("mlserver==1.7.1", "uvloop", "httptools"),
    "ray": ("ray[serve]==2.60.0", "uvloop", "httptools"),
    "torchserve": (
        *("torchserve==0.12.0", "torch-model-archiver==0.12.0", "pyyaml", "psutil", "packaging", "pillow"),
        *("requests", "captum", "nvgpu", "setuptools"),
    ),
}
TIMEOUT_S = 900


def install(directory: Path, packages: Sequence[str], pip_arguments: Sequence[str]) -> None:
    """Make a virtual environment with torch and ``packages``; nothing is left of it when that fails."""
    pip = [str(directory / "bin" / "python"), "-m", "pip", "install", "--quiet", *pip_arguments]
    try:
        subprocess.run([sys.executable, "-m", "venv", str(directory)], check=True, timeout=TIMEOUT_S)
        subprocess.run([*pip, TORCH], check=True, timeout=TIMEOUT_S)
        subprocess.run([*pip, *MODEL, *packages], check=True, timeout=TIMEOUT_S)
    except (subprocess.SubprocessError, KeyboardInterrupt):
        shutil.rmtree(directory, ignore_errors=True)
        raise


def main() -> int:
    """Install the peers that are not there; return how many could not be."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers", type=Path, default=PEERS, help="directory of the virtual environments")
    parser.add_argument("--pip-args", default="", help="further arguments of pip install")
    options = parser.parse_args()
    failed = 0
    for name, packages in SERVERS.items():
        directory = (options.peers / name).absolute()
        if directory.exists():
            print(f"{name:12}is there")
            continue
        try:
            install(directory, packages, options.pip_args.split())
            print(f"{name:12}installed", flush=True)
        except subprocess.SubprocessError as error:
            failed += 1
            print(f"{name:12}could not be installed: {error}", flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(main())
