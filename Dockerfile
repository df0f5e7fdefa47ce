# The demo in a container: no weights inside but the embedded model, nothing written outside /tmp and the Hugging Face
# cache, so `docker run --read-only --tmpfs /tmp -p 7860:7860 IMAGE` works.
FROM python:3.12-slim

RUN useradd --create-home --uid 1000 user
USER user
ENV HOME=/home/user \
    PATH=/home/user/.local/bin:$PATH \
    HF_HOME=/home/user/.cache/huggingface \
    GRADIO_ANALYTICS_ENABLED=False \
    GRADIO_TEMP_DIR=/tmp/gradio \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1
WORKDIR /home/user/app

# The requirements come first, so that a change to the sources does not install them again.
COPY --chown=user requirements.txt .
RUN pip install --user --no-cache-dir --requirement requirements.txt
COPY --chown=user . .

EXPOSE 7860
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:7860/healthz', timeout=3)"]
CMD ["python", "app.py", "--host", "0.0.0.0", "--port", "7860"]
