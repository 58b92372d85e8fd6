# The Python stages of dvc.yaml, each in a pod: `python -m tasks.running stage train --run ...`. For a GPU: PYTHON_IMAGE=<a
# CUDA base> XGBOOST=gpu TORCH=cu128; the base may come without Python.
# No `# syntax=` line: it would fetch a frontend from a registry. docker/install.sh and docker/prepare.sh say what the two stages do.
ARG PYTHON_IMAGE=python:3.11-slim-bookworm


FROM ${PYTHON_IMAGE} AS packages
# Another package index, where there is one; arguments of this stage are in no layer and no label of the image.
ARG PIP_INDEX_URL
ARG UV_DEFAULT_INDEX
ARG UV_HTTP_TIMEOUT=300
# gpu puts XGBoost with its GPU libraries in place of xgboost-cpu.
ARG XGBOOST=cpu
# PyTorch, for `train.family: mlp`: cpu, cu128 or another of uv's --torch-backend, or index, what the package index has.
ARG TORCH=none
WORKDIR /build
COPY docker/install.sh requirements/boot.txt requirements/train.txt requirements/gpu.txt requirements/torch.txt requirements/torch.version ./
RUN --mount=type=cache,id=airloop-packages,target=/var/cache/uv --mount=type=secret,id=ca,target=/run/secrets/ca \
    sh install.sh train.txt "$XGBOOST" "$TORCH"
COPY docker/leave_out.py docker/left_out.txt ./
RUN /opt/venv/bin/python leave_out.py left_out.txt


# The code, readable by everyone whatever the umask of the checkout that it is copied from.
FROM ${PYTHON_IMAGE} AS code
WORKDIR /opt/airloop
COPY dvc.yaml jobs.yaml params.yaml ./
COPY models models
COPY tasks tasks
RUN chmod -R u=rwX,go=rX /opt/airloop


FROM ${PYTHON_IMAGE} AS train
RUN --mount=type=bind,source=docker/prepare.sh,target=/mnt/prepare.sh sh /mnt/prepare.sh
COPY --from=packages /opt/venv /opt/venv
COPY --from=code /opt/airloop /opt/airloop

# The root may be read-only: everything is written below /scratch and /tmp.
ENV PATH=/opt/venv/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    PYTHONPATH=/opt/airloop \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    AIRLOOP_CODE=/opt/airloop \
    AIRLOOP_HOME=/scratch \
    HOME=/scratch \
    DVC_NO_ANALYTICS=1 \
    DO_NOT_TRACK=1 \
    ORT_DISABLE_TELEMETRY=1 \
    GIT_PYTHON_REFRESH=quiet

WORKDIR /scratch
USER 10001:10001
# A stage ends by itself and serves nobody: there is nothing to ask it.
HEALTHCHECK NONE
CMD ["python", "-m", "tasks.running", "--help"]

# Last, because they change with every commit and end the cache's use.
ARG PYTHON_IMAGE
ARG AIRLOOP_CODE_REVISION=unknown
ENV AIRLOOP_CODE_REVISION=${AIRLOOP_CODE_REVISION}
LABEL org.opencontainers.image.title="Airloop train" \
      org.opencontainers.image.description="The Python stages of Airloop, in a pod" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.base.name="${PYTHON_IMAGE}" \
      org.opencontainers.image.revision="${AIRLOOP_CODE_REVISION}"
