# The web service, with the data transfer jobs that it runs on this machine.
FROM python:3.12-slim AS build
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY src ./src
RUN python -m venv /opt/service \
    && /opt/service/bin/pip install --no-cache-dir -c constraints.txt setuptools wheel \
    && /opt/service/bin/pip install --no-cache-dir --no-build-isolation -c constraints.txt .

FROM python:3.12-slim
COPY --from=build /opt/service /opt/service
RUN useradd --create-home --uid 1000 service \
    && install -d -o service -g service /var/lib/aind-data-transfer-service
USER service
ENV PATH=/opt/service/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    DATA_DIR=/var/lib/aind-data-transfer-service
VOLUME /var/lib/aind-data-transfer-service
EXPOSE 5000
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s CMD ["python", "-c", \
    "import urllib.request as u; u.urlopen('http://127.0.0.1:5000/healthz', timeout=4)"]
CMD ["uvicorn", "aind_data_transfer_service.server:app", "--host", "0.0.0.0", "--port", "5000"]
