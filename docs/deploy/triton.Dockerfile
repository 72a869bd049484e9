# NVIDIA's Triton Inference Server with dossr for its Python backend. The model repository is mounted at /models.
#
#   docker build -f docs/deploy/triton.Dockerfile -t dossr:triton .
#   dossr-export bundle --triton models --serve device=cuda
#   docker run --rm --gpus all --shm-size 2g -p 8000:8000 -v "$PWD/models:/models:ro" dossr:triton
#
# On processors: --build-arg EXTRAS=cpu,openvino,images, and --serve device=cpu or device=openvino.

FROM python:3.12-slim-trixie AS build
WORKDIR /src
COPY . .
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM nvcr.io/nvidia/tritonserver:26.11-py3
ARG EXTRAS=cuda,images
COPY --from=build /wheels /wheels
# Into the Python of the server, which starts the backend with it.
# hadolint ignore=DL3013
RUN set -- /wheels/dossr-*.whl \
    && pip install --no-cache-dir --break-system-packages "dossr[${EXTRAS}] @ file://$1"
# The image's own user triton-server.
USER 1000
ENV HOME=/tmp
EXPOSE 8000 8001 8002
HEALTHCHECK --interval=30s --timeout=10s --start-period=10m CMD ["python3", "-c", \
    "from urllib.request import urlopen; urlopen('http://127.0.0.1:8000/v2/models/dossr/ready', timeout=5)"]
CMD ["tritonserver", "--model-repository=/models"]
