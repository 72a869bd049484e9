# dossr-run on NVIDIA GPUs: ONNX Runtime's CUDA provider. The driver is the host's, with NVIDIA's container toolkit;
# all other libraries of CUDA 13 come with the wheels, so that the base image needs none.
#
#   docker build -f docs/deploy/cuda.Dockerfile -t dossr:cuda .
#   docker run --rm --init --gpus all -v "$PWD:/work" --user "$(id -u):$(id -g)" -e HOME=/tmp \
#       dossr:cuda photo.jpg -o photo_x4.png --bundle bundle
#
# TensorRT: --build-arg EXTRAS=tensorrt,images --build-arg DEVICE=tensorrt
# Workers of Ray, for KubeRay: --target ray --build-arg EXTRAS=cuda,images,ray

FROM python:3.12-slim-trixie AS build
ARG EXTRAS=cuda,images
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
ENV PYTHONUNBUFFERED=1 \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility

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
ARG DEVICE=cuda
ENV DOSSR_HEALTH_DEVICE=${DEVICE}
HEALTHCHECK --interval=5m --timeout=5m --start-period=30s CMD ["sh", "-c", "exec dossr-doctor --device $DOSSR_HEALTH_DEVICE"]
ENTRYPOINT ["dossr-run"]
CMD ["--help"]
