# Every part of Airflow, by command. As a worker it runs any stage or job in a process, Spark included.
# No `# syntax=` line: it would fetch a frontend from a registry. docker/install.sh and docker/prepare.sh say what the two stages do.
ARG PYTHON_IMAGE=python:3.11-slim-bookworm


FROM ${PYTHON_IMAGE} AS packages
# Another package index, where there is one; arguments of this stage are in no layer and no label of the image.
ARG PIP_INDEX_URL
ARG UV_DEFAULT_INDEX
ARG UV_HTTP_TIMEOUT=300
WORKDIR /build
COPY docker/install.sh requirements/boot.txt requirements/airflow.txt ./
RUN --mount=type=cache,id=airloop-packages,target=/var/cache/uv --mount=type=secret,id=ca,target=/run/secrets/ca \
    sh install.sh airflow.txt
COPY docker/leave_out.py docker/left_out.txt ./
RUN /opt/venv/bin/python leave_out.py left_out.txt


# The code, readable by everyone whatever the umask of the checkout that it is copied from.
FROM ${PYTHON_IMAGE} AS code
WORKDIR /opt/airloop
COPY dvc.yaml jobs.yaml params.yaml ./
COPY dags dags
COPY plugins plugins
COPY models models
COPY tasks tasks
COPY serving serving
COPY docker/health.py docker/init.py /usr/local/lib/airloop/
RUN chmod -R u=rwX,go=rX /opt/airloop /usr/local/lib/airloop


FROM ${PYTHON_IMAGE} AS airflow
# Java from Debian: Spark 4 needs all modules, which trimmed runtimes lack.
ARG JAVA_PACKAGE=openjdk-17-jre-headless
RUN --mount=type=bind,source=docker/prepare.sh,target=/mnt/prepare.sh sh /mnt/prepare.sh "$JAVA_PACKAGE"
# Volumes take their owner from these folders. An empty airflow.cfg keeps Airflow from writing one with keys of its own.
RUN install -d -o airloop -g airloop -m 0750 /opt/airflow /var/lib/airflow /var/lib/mlflow \
 && install -o airloop -g airloop -m 0640 /dev/null /opt/airflow/airflow.cfg
COPY --from=packages /opt/venv /opt/venv
COPY --from=code /usr/local/lib/airloop /usr/local/lib/airloop
COPY --from=code /opt/airloop /opt/airloop

# What is the same wherever this image runs; where things are and every secret come from the container's own environment.
# hadolint ignore=DL3064 # ..._PASSWORDS_FILE is only a path
ENV PATH=/opt/venv/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    PYTHONPATH=/opt/airloop \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    AIRLOOP_CODE=/opt/airloop \
    AIRLOOP_HOME=/var/lib/airloop \
    HOME=/var/lib/airloop \
    AIRFLOW_HOME=/opt/airflow \
    AIRFLOW_CONFIG=/opt/airflow/airflow.cfg \
    AIRFLOW__CORE__DAGS_FOLDER=/opt/airloop/dags \
    AIRFLOW__CORE__PLUGINS_FOLDER=/opt/airloop/plugins \
    AIRFLOW__CORE__LOAD_EXAMPLES=False \
    AIRFLOW__LOGGING__BASE_LOG_FOLDER=/var/lib/airflow/logs \
    AIRFLOW__LOGGING__DAG_PROCESSOR_CHILD_PROCESS_LOG_DIRECTORY=/var/lib/airflow/logs/dag_processor \
    AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE=/var/lib/airflow/passwords.json \
    DVC_NO_ANALYTICS=1 \
    DO_NOT_TRACK=1 \
    ORT_DISABLE_TELEMETRY=1 \
    GIT_PYTHON_REFRESH=quiet \
    SCARF_ANALYTICS=false \
    MLFLOW_DISABLE_TELEMETRY=true \
    MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false \
    JAVA_HOME=/opt/java \
    PYSPARK_PYTHON=/opt/venv/bin/python \
    PYSPARK_DRIVER_PYTHON=/opt/venv/bin/python

WORKDIR /opt/airloop
USER 10001:10001
EXPOSE 8080
# For the default command; whoever starts another part gives its check.
HEALTHCHECK --interval=15s --timeout=10s --start-period=120s --retries=4 \
    CMD ["python", "-IS", "/usr/local/lib/airloop/health.py", "http://127.0.0.1:8080/api/v2/monitor/health"]
CMD ["airflow", "api-server"]

# Last, because they change with every commit and end the cache's use.
ARG PYTHON_IMAGE
ARG AIRLOOP_CODE_REVISION=unknown
ENV AIRLOOP_CODE_REVISION=${AIRLOOP_CODE_REVISION}
LABEL org.opencontainers.image.title="Airloop airflow" \
      org.opencontainers.image.description="Every part of Airflow for Airloop, by command" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.base.name="${PYTHON_IMAGE}" \
      org.opencontainers.image.revision="${AIRLOOP_CODE_REVISION}"
