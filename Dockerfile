# The image of the source. With `cloudevents-display --port 8080` as its command, it runs the Display sink.

FROM python:3.13-slim AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /build
# The shipped venv has no pip and can install nothing. The build image's pip fills it.
RUN python -m venv --without-pip /opt/venv && python -m pip install "setuptools>=70"
# The dependencies come first: their layer is rebuilt only when setup.py changes.
COPY setup.py pyproject.toml ./
# Always with what a journal in PostgreSQL needs (13 MB). `--build-arg EXTRAS=otel` adds what tracing needs.
ARG EXTRAS=""
RUN touch README.md \
    && python -c "import setuptools, distutils.core as core, sys; \
setup = core.run_setup('setup.py', stop_after='init'); \
print(*setup.install_requires, *sum((setup.extras_require[each] for each in ['postgres', *sys.argv[1].split()]), []), sep='\n')" \
    "$EXTRAS" > requirements.txt \
    && python -m pip --python /opt/venv install --requirement requirements.txt
COPY README.md LICENSE* ./
COPY chatgpt_source chatgpt_source
COPY twisted twisted
# The libraries' own tests are a fifth of the size. The bytecode is never checked against its source, so nothing is
# compiled or written at run time.
RUN python -m pip wheel --no-deps --no-build-isolation --wheel-dir dist . \
    && python -m pip --python /opt/venv install --no-deps dist/*.whl \
    && find /opt/venv -type d \( -name test -o -name tests \) -prune -exec rm -r {} + \
    && /opt/venv/bin/python -m compileall -q -f --invalidation-mode unchecked-hash /opt/venv

FROM python:3.13-slim
LABEL org.opencontainers.image.title="ChatGPT Source" \
      org.opencontainers.image.description="Takes prompts over HTTP, asks a chat model, delivers the answers as CloudEvents" \
      org.opencontainers.image.version="0.2.0" \
      org.opencontainers.image.licenses="Apache-2.0"
ENV PATH=/opt/venv/bin:$PATH \
    LANG=C.UTF-8 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
COPY --from=build /opt/venv /opt/venv
# The base image has the certificates of the public CAs, which calls to OpenAI need.
# `twistd --help` writes Twisted's cache of plugins, which the image's user could not write. The journal's folder belongs
# to group 0, so that `--user <any>:0` can write it as well as the default user.
RUN test -s /etc/ssl/certs/ca-certificates.crt \
    && twistd --help > /dev/null \
    && mkdir -p /var/lib/chatgpt-source \
    && chown 10001:0 /var/lib/chatgpt-source \
    && chmod 0770 /var/lib/chatgpt-source
VOLUME /var/lib/chatgpt-source
# `docker exec ... chatgpt-source-journal` finds the journal here.
WORKDIR /var/lib/chatgpt-source
# A number, so that Kubernetes can see that it is not root.
USER 10001:0
EXPOSE 8080
STOPSIGNAL SIGTERM
# Asks every port that twistd listens on, so that the image need not know the config.
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-m", "chatgpt_source.healthcheck"]
ENTRYPOINT ["twistd", "--nodaemon", "--pidfile=", "--rundir=/var/lib/chatgpt-source", "--logger=chatgpt_source.log.stdout"]
CMD ["chatgpt-source"]
