# The demo in a container, for a CPU (default) or a GPU:
#
#   docker build -t script .                           docker run --rm -p 7860:7860 script
#   docker build -t script --build-arg TARGET=cuda .   docker run --rm --gpus all -p 7860:7860 script
#
# No weights inside but the embedded model's. Nothing is written outside /tmp and the cache of models from the hub, so
# `--read-only --tmpfs /tmp -v models:/home/user/.cache/huggingface` works.
ARG TARGET=cpu

FROM python:3.12-slim AS base
RUN useradd --create-home --uid 1000 user && install --directory --owner=user /home/user/.cache/huggingface
USER 1000
ENV HOME=/home/user \
    PATH=/home/user/.local/bin:$PATH \
    HF_HOME=/home/user/.cache/huggingface \
    GRADIO_ANALYTICS_ENABLED=False \
    GRADIO_TEMP_DIR=/tmp/gradio \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1
WORKDIR /home/user/app
# The requirements come first, so that a change to the sources does not install them again.
COPY --chown=user requirements.txt requirements-mcp.txt ./

# Of torch the wheel without CUDA, which is a tenth of the size.
FROM base AS cpu
RUN pip install --user --no-cache-dir --extra-index-url https://download.pytorch.org/whl/cpu --requirement requirements.txt

FROM base AS cuda
RUN pip install --user --no-cache-dir --requirement requirements.txt

FROM ${TARGET} AS app
WORKDIR /home/user/app
COPY --chown=user . .
EXPOSE 7860
HEALTHCHECK --interval=30s --timeout=5s --start-period=120s \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:7860/healthz', timeout=3)"]
CMD ["python", "app.py", "--profile", "docker"]
