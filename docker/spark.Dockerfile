# Features and batch scoring: a pod with Spark inside, or driver and executor of Spark on Kubernetes.
# No `# syntax=` line: it would fetch a frontend from a registry. docker/install.sh and docker/prepare.sh say what the two stages do.
ARG PYTHON_IMAGE=python:3.11-slim-bookworm


FROM ${PYTHON_IMAGE} AS packages
# Another package index, where there is one; arguments of this stage are in no layer and no label of the image.
ARG PIP_INDEX_URL
ARG UV_DEFAULT_INDEX
ARG UV_HTTP_TIMEOUT=300
WORKDIR /build
COPY docker/install.sh requirements/boot.txt requirements/spark.txt ./
RUN --mount=type=cache,id=airloop-packages,target=/var/cache/uv --mount=type=secret,id=ca,target=/run/secrets/ca \
    sh install.sh spark.txt
COPY docker/leave_out.py docker/left_out.txt ./
RUN /opt/venv/bin/python leave_out.py left_out.txt


# The code, readable by everyone whatever the umask of the checkout that it is copied from.
FROM ${PYTHON_IMAGE} AS code
WORKDIR /opt/airloop
COPY dvc.yaml jobs.yaml params.yaml ./
COPY models models
COPY tasks tasks
COPY docker/spark_entrypoint.py /usr/local/lib/airloop/
RUN chmod -R u=rwX,go=rX /opt/airloop /usr/local/lib/airloop


FROM ${PYTHON_IMAGE} AS spark
# Java from Debian: Spark 4 needs all modules, which trimmed runtimes lack.
ARG JAVA_PACKAGE=openjdk-17-jre-headless
RUN --mount=type=bind,source=docker/prepare.sh,target=/mnt/prepare.sh sh /mnt/prepare.sh "$JAVA_PACKAGE"
COPY --from=packages /opt/venv /opt/venv
# Where Spark on Kubernetes looks for itself; the folder in the environment has Python's version in its name.
RUN ln -s /opt/venv/lib/python3*/site-packages/pyspark /opt/spark
COPY --from=code /usr/local/lib/airloop /usr/local/lib/airloop
COPY --from=code /opt/airloop /opt/airloop

# The root may be read-only: everything is written below /scratch and /tmp, and where Spark mounts its own volumes.
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
    GIT_PYTHON_REFRESH=quiet \
    JAVA_HOME=/opt/java \
    SPARK_HOME=/opt/spark \
    PYSPARK_PYTHON=/opt/venv/bin/python \
    PYSPARK_DRIVER_PYTHON=/opt/venv/bin/python

WORKDIR /scratch
USER 10001:10001
# A job ends by itself and serves nobody: there is nothing to ask it.
HEALTHCHECK NONE
ENTRYPOINT ["python", "-IS", "/usr/local/lib/airloop/spark_entrypoint.py"]
CMD ["spark-submit", "--version"]

# Last, because they change with every commit and end the cache's use.
ARG PYTHON_IMAGE
ARG AIRLOOP_CODE_REVISION=unknown
ENV AIRLOOP_CODE_REVISION=${AIRLOOP_CODE_REVISION}
LABEL org.opencontainers.image.title="Airloop spark" \
      org.opencontainers.image.description="Features and batch scoring of Airloop, as a pod or as driver and executor of Spark on Kubernetes" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.base.name="${PYTHON_IMAGE}" \
      org.opencontainers.image.revision="${AIRLOOP_CODE_REVISION}"
