# CPU:  docker build --target cpu -t sled-tts .   (--build-arg TORCH_INDEX_URL=... for a CPU-only torch)
# CUDA: docker build --target cuda -t sled-tts:cuda .
FROM python:3.12-slim AS base
ENV PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 HF_HOME=/data/huggingface SLED_TTS_HOST=0.0.0.0 \
    SLED_TTS_VOICES_DIR=/data/voices XDG_CACHE_HOME=/data/cache TRITON_CACHE_DIR=/data/cache/triton
RUN useradd --create-home --uid 10001 sled && mkdir /data && chown sled /data
WORKDIR /app
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY model model
COPY server server
COPY clients clients
COPY bench bench
EXPOSE 8000
VOLUME /data
HEALTHCHECK --interval=10s --timeout=3s --start-period=120s \
    CMD python -c "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/health/ready', timeout=2)"

FROM base AS cpu
ARG TORCH_INDEX_URL=
# pyworld comes as C++, and the kernels of a step are compiled into the package; the compiler does not stay.
RUN apt-get update && apt-get install --yes --no-install-recommends g++ \
    && pip install torch==2.13.0 ${TORCH_INDEX_URL:+--index-url "$TORCH_INDEX_URL"} && pip install ".[server]" \
    && python -m sled_tts.model.native.build \
    && apt-get purge --yes --auto-remove g++ && rm -rf /var/lib/apt/lists/*
USER sled
ENTRYPOINT ["sled-tts"]
CMD ["serve"]

FROM base AS cuda
# For pyworld; and Triton compiles a launcher for each of its kernels, on the machine that runs them.
RUN apt-get update && apt-get install --yes --no-install-recommends g++ && rm -rf /var/lib/apt/lists/*
RUN pip install torch==2.13.0 && pip install ".[server]"
USER sled
ENTRYPOINT ["sled-tts"]
CMD ["serve", "--device", "cuda", "--slots", "64"]
