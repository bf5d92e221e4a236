# syntax=docker/dockerfile:1
# Builder: the environment from the hashed lock, then our own wheel with no further resolving.
FROM python:3.13-slim AS builder
WORKDIR /src
RUN python -m venv /opt/trimtab
COPY constraints-controller.txt pyproject.toml README.md LICENSE ./
RUN /opt/trimtab/bin/pip install --no-cache-dir --require-hashes --requirement constraints-controller.txt
COPY controller controller
COPY trimtab trimtab
RUN python -m venv /opt/build \
    && /opt/build/bin/pip install --no-cache-dir "hatchling>=1.27" \
    && /opt/build/bin/pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir /wheels . \
    && /opt/trimtab/bin/pip install --no-cache-dir --no-deps /wheels/*.whl

# The image: the same interpreter path, no compiler, no package manager's cache, a user that is a number.
FROM python:3.13-slim
COPY --from=builder /opt/trimtab /opt/trimtab
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PATH=/opt/trimtab/bin:/usr/local/bin
USER 65532:65532
EXPOSE 8080
LABEL org.opencontainers.image.title="trimtab" \
      org.opencontainers.image.description="Keeps AI model services steady under load" \
      org.opencontainers.image.licenses="Apache-2.0"
ENTRYPOINT ["/opt/trimtab/bin/python", "-m", "controller"]
CMD ["run"]
