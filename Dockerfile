# fieldmarks for CPUs, with the extras for evaluation, data sets, embeddings, HEIC and OpenVINO. See
# docs/deployment.md. This file is linted; the image is not built by the project's own checks.
ARG PYTHON=3.13-slim-bookworm

FROM python:${PYTHON} AS build
# torch without CUDA; for a GPU, build with --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu128
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
WORKDIR /src
COPY constraints.txt pyproject.toml README.md LICENSE ./
COPY pipeline pipeline
COPY prompts prompts
COPY cache cache
RUN python -m venv /opt/fieldmarks \
    && /opt/fieldmarks/bin/pip install --no-cache-dir --extra-index-url "${TORCH_INDEX}" \
        -c constraints.txt '.[eval,data,embed,heic,openvino]'

FROM python:${PYTHON}
COPY --from=build /opt/fieldmarks /opt/fieldmarks
# A user without rights. The cache is a volume: downloaded models, embeddings, converted models; any user of
# `docker run --user` may write to it.
RUN useradd --uid 10001 --no-create-home fieldmarks \
    && install --directory --mode=1777 /cache \
    && install --directory --owner=fieldmarks /work
ENV PATH=/opt/fieldmarks/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    HF_HOME=/cache/huggingface \
    FIELDMARKS_CACHE=/cache/fieldmarks \
    MPLCONFIGDIR=/cache/matplotlib
USER 10001
VOLUME /cache
WORKDIR /work
ENTRYPOINT ["fieldmarks"]
CMD ["--help"]
