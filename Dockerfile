# Two images from one file: `--target api` has no torch, `--target worker` has it.
#
#   docker build --target api -t stillhouse-api .
#   docker build --target worker -t stillhouse-worker --build-arg PIP_ARGS="--extra-index-url …/whl/cu128" .
#
# PIP_ARGS is passed on to pip, so that a CPU-only or another CUDA build of torch can be chosen.

FROM python:3.11-slim-bookworm AS base
ENV PATH=/opt/venv/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    PYTHONUNBUFFERED=1 \
    STILLHOUSE_DATA_DIR=/data
RUN useradd --uid 10001 --user-group --create-home --shell /usr/sbin/nologin stillhouse \
    && install --directory --owner=stillhouse --group=stillhouse --mode=0700 /data
WORKDIR /srv/stillhouse


# What both images need from the package registry. It depends on the two lists alone, so a change of the source
# builds nothing here again.
FROM base AS packages
ARG PIP_ARGS=""
ENV PIP_DISABLE_PIP_VERSION_CHECK=1
COPY pyproject.toml constraints.txt ./
# bytecode that does not depend on time stamps: the same files give the same image
RUN mkdir stillhouse && touch README.md stillhouse/__init__.py \
    && python3 -m venv /opt/venv \
    && pip install --no-cache-dir --no-compile ${PIP_ARGS} -c constraints.txt -e '.[server,telemetry]' \
    && python -m compileall -q --invalidation-mode unchecked-hash /opt/venv/lib


FROM packages AS worker-packages
RUN pip install --no-cache-dir --no-compile ${PIP_ARGS} -c constraints.txt -e '.[worker]' \
    && python -m compileall -q --invalidation-mode unchecked-hash /opt/venv/lib


# The source of each image, compiled.
FROM packages AS api-source
COPY stillhouse stillhouse
COPY app app
COPY migrations migrations
RUN python -m compileall -q --invalidation-mode unchecked-hash stillhouse app migrations


FROM api-source AS worker-source
COPY worker worker
RUN python -m compileall -q --invalidation-mode unchecked-hash worker


FROM base AS api
COPY --from=packages /opt/venv /opt/venv
COPY --from=api-source /srv/stillhouse /srv/stillhouse
USER 10001:10001
VOLUME /data
EXPOSE 8400
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s \
    CMD ["python", "-m", "app.probe", "api"]
CMD ["stillhouse", "api", "--host", "0.0.0.0"]


# Everything of the worker but torch: what can be built and looked into without two gigabytes.
FROM base AS worker-without-torch
COPY --from=worker-source /srv/stillhouse /srv/stillhouse
USER 10001:10001
VOLUME /data
# a drained worker stores a checkpoint and gives its job back; give it more time than STILLHOUSE_STOP_GRACE_SECONDS
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s \
    CMD ["python", "-m", "app.probe", "worker"]
CMD ["stillhouse", "worker"]


FROM worker-without-torch AS worker
USER 0:0
# for training.compile; Python's headers are in the base image
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ \
    && rm -rf /var/lib/apt/lists/*
USER 10001:10001
COPY --from=worker-packages /opt/venv /opt/venv
