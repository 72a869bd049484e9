# dossr-run on processors.
#
#   docker build -f docs/deploy/cpu.Dockerfile -t dossr:cpu .
#   docker run --rm --init -v "$PWD:/work" --user "$(id -u):$(id -g)" dossr:cpu photo.jpg -o photo_x4.png
#
# Workers of Ray, for KubeRay:
#
#   docker build -f docs/deploy/cpu.Dockerfile --target ray --build-arg EXTRAS=cpu,openvino,images,ray -t dossr:ray .

FROM python:3.12-slim-trixie AS build
ARG EXTRAS=cpu,openvino,images
WORKDIR /src
COPY . .
# Into a prefix of its own, which becomes /usr/local: login shells find the commands there, too.
# hadolint ignore=DL3013
RUN pip install --no-cache-dir --no-compile --prefix=/install ".[${EXTRAS}]"

FROM python:3.12-slim-trixie AS base
COPY --from=build /install /usr/local
RUN useradd --uid 10001 --create-home dossr
USER 10001
WORKDIR /work
ENV PYTHONUNBUFFERED=1

FROM base AS ray
USER 0
# KubeRay probes its containers with wget, and its jobs come through Ray's dashboard.
# hadolint ignore=DL3008,DL3013
RUN apt-get update \
    && apt-get install --yes --no-install-recommends wget \
    && rm -rf /var/lib/apt/lists/* \
    && pip install --no-cache-dir "ray[default]"
USER 10001

FROM base AS run
HEALTHCHECK --interval=5m --timeout=1m --start-period=10s CMD ["dossr-doctor", "--device", "cpu"]
ENTRYPOINT ["dossr-run"]
CMD ["--help"]
