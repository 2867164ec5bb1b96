# One small image for every process of ours; which one it becomes is the command's first word.
FROM python:3.12-slim AS build
RUN python -m venv /venv
COPY requirements.txt .
RUN /venv/bin/pip install --no-cache-dir --no-compile --require-hashes -r requirements.txt \
 && /venv/bin/python -m compileall -q -j 0 /venv/lib

FROM python:3.12-slim
RUN useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin rushline \
 && install -d -o rushline -m 700 /var/lib/rushline/audit
COPY --from=build /venv /venv
WORKDIR /app
COPY pyproject.toml ./
COPY broker-config broker-config
COPY adapters adapters
COPY audit audit
COPY console console
COPY gateway gateway
COPY orders orders
COPY outbox outbox
COPY stack stack
COPY streams streams
COPY workers workers
RUN python -m compileall -q -j 0 /app
# Nothing is written at run time but to /tmp: the root file system may be read-only.
ENV PATH=/venv/bin:/usr/bin:/bin PYTHONPATH=/app PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 10001
STOPSIGNAL SIGTERM
ENTRYPOINT ["python", "-m", "console"]
CMD ["--help"]
