# MLflow's tracking server and registry; MLFLOW_BACKEND_STORE_URI and MLFLOW_ARTIFACTS_DESTINATION say where it keeps things.
# No `# syntax=` line: it would fetch a frontend from a registry. docker/install.sh and docker/prepare.sh say what the two stages do.
ARG PYTHON_IMAGE=python:3.11-slim-bookworm


FROM ${PYTHON_IMAGE} AS packages
# Another package index, where there is one; arguments of this stage are in no layer and no label of the image.
ARG PIP_INDEX_URL
ARG UV_DEFAULT_INDEX
ARG UV_HTTP_TIMEOUT=300
WORKDIR /build
COPY docker/install.sh requirements/boot.txt requirements/mlflow.txt ./
RUN --mount=type=cache,id=airloop-packages,target=/var/cache/uv --mount=type=secret,id=ca,target=/run/secrets/ca \
    sh install.sh mlflow.txt
COPY docker/leave_out.py docker/left_out.txt ./
RUN /opt/venv/bin/python leave_out.py left_out.txt


FROM ${PYTHON_IMAGE} AS mlflow
RUN --mount=type=bind,source=docker/prepare.sh,target=/mnt/prepare.sh sh /mnt/prepare.sh
COPY --from=packages /opt/venv /opt/venv
COPY --chmod=0644 docker/health.py /usr/local/lib/airloop/health.py

ENV PATH=/opt/venv/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp \
    DO_NOT_TRACK=1 \
    GIT_PYTHON_REFRESH=quiet \
    MLFLOW_DISABLE_TELEMETRY=true \
    MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false

WORKDIR /tmp
USER 10001:10001
EXPOSE 5000
HEALTHCHECK --interval=15s --timeout=10s --start-period=120s --retries=4 \
    CMD ["python", "-IS", "/usr/local/lib/airloop/health.py", "http://127.0.0.1:5000/health"]
CMD ["mlflow", "server", "--host=0.0.0.0", "--port=5000", "--workers=1"]

# Last, because they change with every commit and end the cache's use.
ARG PYTHON_IMAGE
ARG AIRLOOP_CODE_REVISION=unknown
ENV AIRLOOP_CODE_REVISION=${AIRLOOP_CODE_REVISION}
LABEL org.opencontainers.image.title="Airloop mlflow" \
      org.opencontainers.image.description="MLflow's tracking server and registry, on PostgreSQL and S3" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.base.name="${PYTHON_IMAGE}" \
      org.opencontainers.image.revision="${AIRLOOP_CODE_REVISION}"
