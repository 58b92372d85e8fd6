# The online prediction service.
# No `# syntax=` line: it would fetch a frontend from a registry. docker/install.sh and docker/prepare.sh say what the two stages do.
ARG PYTHON_IMAGE=python:3.11-slim-bookworm


FROM ${PYTHON_IMAGE} AS packages
# Another package index, where there is one; arguments of this stage are in no layer and no label of the image.
ARG PIP_INDEX_URL
ARG UV_DEFAULT_INDEX
ARG UV_HTTP_TIMEOUT=300
WORKDIR /build
COPY docker/install.sh requirements/boot.txt requirements/serve.txt ./
RUN --mount=type=cache,id=airloop-packages,target=/var/cache/uv --mount=type=secret,id=ca,target=/run/secrets/ca \
    sh install.sh serve.txt
COPY docker/leave_out.py docker/left_out.txt ./
RUN /opt/venv/bin/python leave_out.py left_out.txt


# The code, readable by everyone whatever the umask of the checkout that it is copied from.
FROM ${PYTHON_IMAGE} AS code
WORKDIR /opt/airloop
COPY params.yaml ./
COPY models models
COPY tasks tasks
COPY serving serving
COPY docker/health.py /usr/local/lib/airloop/
RUN chmod -R u=rwX,go=rX /opt/airloop /usr/local/lib/airloop


FROM ${PYTHON_IMAGE} AS serve
RUN --mount=type=bind,source=docker/prepare.sh,target=/mnt/prepare.sh sh /mnt/prepare.sh
COPY --from=packages /opt/venv /opt/venv
COPY --from=code /usr/local/lib/airloop /usr/local/lib/airloop
COPY --from=code /opt/airloop /opt/airloop

ENV PATH=/opt/venv/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    PYTHONPATH=/opt/airloop \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    AIRLOOP_CODE=/opt/airloop \
    AIRLOOP_HOME=/var/lib/airloop \
    HOME=/var/lib/airloop \
    ORT_DISABLE_TELEMETRY=1

WORKDIR /opt/airloop
USER 10001:10001
EXPOSE 8000
# Alive, not ready: /readyz says 503 until the first promotion, and that is no fault.
HEALTHCHECK --interval=15s --timeout=10s --start-period=60s --retries=4 \
    CMD ["python", "-IS", "/usr/local/lib/airloop/health.py", "http://127.0.0.1:8000/healthz"]
CMD ["uvicorn", "serving.app:app", "--host=0.0.0.0", "--port=8000", "--http=serving.whole:Protocol", \
     "--no-access-log", "--timeout-keep-alive=75", "--timeout-graceful-shutdown=20"]

# Last, because they change with every commit and end the cache's use.
ARG PYTHON_IMAGE
ARG AIRLOOP_CODE_REVISION=unknown
ENV AIRLOOP_CODE_REVISION=${AIRLOOP_CODE_REVISION}
LABEL org.opencontainers.image.title="Airloop serve" \
      org.opencontainers.image.description="The online prediction service of Airloop" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.base.name="${PYTHON_IMAGE}" \
      org.opencontainers.image.revision="${AIRLOOP_CODE_REVISION}"
