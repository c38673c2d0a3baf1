# Two images: `serve` (the last stage, so the default), which needs no torch, and `train`.
# pip chooses the build of torch; for a CPU build: --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cpu
FROM python:3.11-slim-bookworm AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /src
# The C extension is compiled in this stage only. python3-dev is for base images whose Python is the distribution's.
RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends gcc libc6-dev python3-dev && rm -rf /var/lib/apt/lists/*
RUN python -m venv /opt/ctrserve
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY models models
COPY app app
COPY ctrserve ctrserve
RUN /opt/ctrserve/bin/pip install --quiet --constraint constraints.txt .

FROM build AS build-train
ARG TORCH_INDEX=
RUN /opt/ctrserve/bin/pip install --quiet --constraint constraints.txt ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} torch \
    && /opt/ctrserve/bin/pip install --quiet --constraint constraints.txt '.[train]'

FROM python:3.11-slim-bookworm AS runtime
ENV PATH=/opt/ctrserve/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 CTR_ARTIFACTS=/artifacts
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin ctrserve \
    && mkdir /artifacts && chown 10001:10001 /artifacts
VOLUME /artifacts
WORKDIR /tmp
USER 10001

FROM runtime AS train
COPY --from=build-train /opt/ctrserve /opt/ctrserve
ENV MPLCONFIGDIR=/tmp/matplotlib
ENTRYPOINT ["python", "-m", "models.train"]
CMD ["--help"]

FROM runtime AS serve
COPY --from=build /opt/ctrserve /opt/ctrserve
ENV CTR_HOST=0.0.0.0
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/health/ready', timeout=2)"]
CMD ["python", "-m", "app"]
