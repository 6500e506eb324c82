# Targets: prod, which Compose builds, has a browser for signing in; slim has none, for use with a provided token.

# The tag is not pinned by digest: no registry could be reached where this file was written, and a digest must not be
# guessed. To pin it, append @sha256:... as `docker buildx imagetools inspect python:3.12-slim-bookworm` prints it.
FROM python:3.12-slim-bookworm AS base
WORKDIR /app
ENV PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore

# Dependencies change less often than the program, so they have their own layers. They are pinned by hash.
FROM base AS dependencies
RUN python3 -m venv --without-pip /opt/venv
COPY requirements/runtime.txt /tmp/
RUN python3 -m pip --python /opt/venv/bin/python install --quiet --require-hashes --only-binary :all: -r /tmp/runtime.txt

FROM dependencies AS dependencies-browser
COPY requirements/browser.txt /tmp/
RUN python3 -m pip --python /opt/venv/bin/python install --quiet --require-hashes --only-binary :all: -r /tmp/browser.txt

# The build tool is pinned by hash, too, and does not get into the final image.
FROM base AS wheel
RUN python3 -m venv --without-pip /opt/build
COPY requirements/build.txt /tmp/
RUN python3 -m pip --python /opt/build/bin/python install --quiet --require-hashes --only-binary :all: -r /tmp/build.txt
COPY pyproject.toml README.md LICENSE /src/
COPY pysequence_api /src/pysequence_api
RUN cd /src && /opt/build/bin/python -m hatchling build -t wheel -d /dist

# The runtime: no build tool, no compiler, a non-root user that owns one directory.
FROM base AS runtime
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /tmp --shell /usr/sbin/nologin sequence \
    && install -d -o sequence -g sequence -m 700 /app/data
ENV HOME=/tmp PYTHONDONTWRITEBYTECODE=1 SEQUENCE_DATA_DIR=/app/data
LABEL org.opencontainers.image.title="pysequence-api" \
      org.opencontainers.image.description="A self-hosted gateway to your GetSequence account, with spending limits and an audit trail" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="MIT"
# 8720 is for programs, and 8721 for the owner's page, if SEQUENCE_OWNER_PORT says so.
EXPOSE 8720 8721
HEALTHCHECK --interval=30s --timeout=5s --start-period=120s --retries=3 CMD ["pysequence-api", "health"]
ENTRYPOINT ["pysequence-api"]
CMD ["serve"]

FROM runtime AS slim
COPY --from=dependencies /opt/venv /opt/venv
RUN --mount=type=bind,from=wheel,source=/dist,target=/dist \
    python3 -m pip --python /opt/venv/bin/python install --quiet --no-deps --no-index /dist/*.whl
ENV PATH=/opt/venv/bin:$PATH
USER 10001:10001

# Playwright's driver needs libatomic1, which the chromium package does not install.
FROM runtime AS prod
RUN apt-get update -qq \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium libatomic1 \
    && apt-get clean && rm -rf /var/lib/apt/lists/* /var/log/apt /var/log/dpkg.log /var/cache/debconf/*-old
COPY --from=dependencies-browser /opt/venv /opt/venv
RUN --mount=type=bind,from=wheel,source=/dist,target=/dist \
    python3 -m pip --python /opt/venv/bin/python install --quiet --no-deps --no-index /dist/*.whl
# Chromium's own sandbox, and a user of its own, need privileges that the container does not have (docs/security.md).
ENV PATH=/opt/venv/bin:$PATH CHROMIUM_FLAGS=--no-sandbox
USER 10001:10001
