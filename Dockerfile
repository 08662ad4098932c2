# One image for every door. Alone it runs all of them with an embedded Redis; docker-compose.yml gives each its service.
FROM python:3.13-slim-bookworm AS build
WORKDIR /src
COPY requirements.lock ./
RUN python -m venv /opt/broker \
    && /opt/broker/bin/pip install --no-cache-dir --require-hashes --requirement requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY mappings mappings
COPY broker broker
RUN /opt/broker/bin/pip install --no-cache-dir --no-deps --no-build-isolation .

FROM python:3.13-slim-bookworm
RUN apt-get update \
    && apt-get install --yes --no-install-recommends redis-server \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --home-dir /var/lib/broker --create-home broker
COPY --from=build /opt/broker /opt/broker
ENV PATH=/opt/broker/bin:$PATH \
    BROKER_DATA=/var/lib/broker \
    BROKER_HL7__LISTEN=0.0.0.0:2575 \
    BROKER_DICOM__LISTEN=0.0.0.0:11112 \
    BROKER_CONSOLE__LISTEN=0.0.0.0:8080
USER 10001
WORKDIR /var/lib/broker
VOLUME /var/lib/broker
EXPOSE 2575 11112 8080
STOPSIGNAL SIGTERM
ENTRYPOINT ["broker"]
CMD ["run"]
