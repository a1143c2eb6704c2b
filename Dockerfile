# The image of the functions and of the queue source: what is deployed, and what `up --backend docker` runs.
#   docker build -t gpu-telemetry . && docker run --rm -p 8080:8080 -e ETCD_ENDPOINTS=etcd:2379 gpu-telemetry
# Which of them runs is the command's choice, as in the manifests; without one it is query. Any base with Python
# 3.11 or later, its venv and pip will do. The legacy builder builds it too: no RUN --mount, no heredocs.
ARG BASE_IMAGE=python:3.12-slim

# What is to be installed, and nothing else of pyproject.toml: other changes in it install nothing anew.
FROM ${BASE_IMAGE} AS requirements
COPY pyproject.toml /
RUN python3 -c "import tomllib; \
    project = tomllib.load(open('/pyproject.toml', 'rb')); \
    print(*project['build-system']['requires'], sep='\n', file=open('/build.txt', 'w')); \
    print(*project['project']['dependencies'], sep='\n', file=open('/run.txt', 'w'))"

FROM ${BASE_IMAGE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
COPY constraints.txt /
COPY --from=requirements /build.txt /run.txt /
# pip byte-compiles what it installs. Of pyarrow goes what the functions never load: Flight, S3, headers, tests.
RUN python3 -m venv /opt/tools \
    && /opt/tools/bin/pip install --quiet -r /build.txt \
    && python3 -m venv --without-pip /opt/venv \
    && /opt/tools/bin/pip --python /opt/venv/bin/python install --quiet -c /constraints.txt -r /run.txt \
    && cd /opt/venv/lib/python3*/site-packages/pyarrow \
    && rm -rf include src tests *.pxd *.pyx *.pxi *.so.*.*.* \
        *_flight* *_s3* *_pyarrow_cpp_tests*
WORKDIR /src
COPY pyproject.toml LICENSE ./
COPY functions functions
COPY shared shared
# The package's description is its README, which is no reason to build the image anew.
RUN touch README.md \
    && /opt/tools/bin/pip install --quiet --no-deps --no-build-isolation --target /app . \
    && rm -r /app/bin \
    && PYTHONPATH=/app /opt/venv/bin/python -c "import functions.upload.main, functions.collect.queue_source"

FROM ${BASE_IMAGE}
LABEL org.opencontainers.image.title="gpu-telemetry" \
      org.opencontainers.image.description="GPU telemetry from CSV: upload it, lose nothing, ask what the fleet did" \
      org.opencontainers.image.licenses="MIT"
# Temporary files (heartbeats and the control socket of gunicorn, no data) go where even under a read-only root
# there is memory.
ENV PATH=/opt/venv/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONPATH=/app \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    TMPDIR=/dev/shm \
    XDG_RUNTIME_DIR=/dev/shm
COPY --from=build /opt/venv /opt/venv
COPY --from=build /app /app
WORKDIR /app
USER 65532:65532
EXPOSE 8080
CMD ["functions-framework", "--source=functions/query/main.py", "--target=query"]
