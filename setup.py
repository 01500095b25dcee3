"""Packaging of ChatGPT Source; the settings of its tools are in pyproject.toml."""

from pathlib import Path

from setuptools import setup

OTEL = ["opentelemetry-sdk>=1.30", "opentelemetry-exporter-otlp-proto-http>=1.30"]
POSTGRES = ["psycopg[binary]>=3.2"]

setup(
    name="chatgpt-source",
    version="0.2.0",
    description="Takes prompts over HTTP, asks a chat model, delivers the answers as CloudEvents",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    # By hand: find_packages() does not see twisted.plugins, which must have no __init__.py.
    packages=[
        "chatgpt_source",
        "chatgpt_source.admin",
        "chatgpt_source.config",
        "chatgpt_source.delivery",
        "chatgpt_source.display",
        "chatgpt_source.health",
        "chatgpt_source.http",
        "chatgpt_source.http.client",
        "chatgpt_source.http.listen",
        "chatgpt_source.http.server",
        "chatgpt_source.intake",
        "chatgpt_source.journal",
        "chatgpt_source.journal.command",
        "chatgpt_source.journal.copying",
        "chatgpt_source.journal.postgres",
        "chatgpt_source.journal.postgres.schema",
        "chatgpt_source.journal.sqlite",
        "chatgpt_source.journal.sqlite.schema",
        "chatgpt_source.log",
        "chatgpt_source.pipeline",
        "chatgpt_source.process",
        "chatgpt_source.providers",
        "chatgpt_source.telemetry",
        "twisted.plugins",
    ],
    package_data={
        "chatgpt_source": ["py.typed"],
        "chatgpt_source.admin": ["*.css", "*.js", "*.xml"],
        "chatgpt_source.intake": ["openapi.json"],
        "chatgpt_source.journal.postgres.schema": ["*.sql"],
        "chatgpt_source.journal.sqlite.schema": ["*.sql"],
    },
    python_requires=">=3.10",
    install_requires=[
        "attrs>=23.2",
        "cloudevents>=2.2,<3",
        "cryptography>=39",
        # The parser of uvicorn: a tenth of the CPU of Twisted's, which has no public interface.
        "httptools>=0.7",
        # Runs in a process of its own, and only where answers have a schema.
        "jsonschema-rs>=0.55",
        "prometheus-client>=0.21",
        "pyyaml>=6.0.1",
        "rfc3986-validator>=0.1.1",
        "treq>=26.7",
        "twisted[tls]>=26.10",
        # Slim images carry no zoneinfo, and `timezone` must work in them.
        "tzdata>=2024.1",
    ],
    entry_points={
        "console_scripts": ["chatgpt-source-journal = chatgpt_source.journal.command:main"]
    },
    extras_require={
        # Completes the options of `chatgpt-source-journal` in a shell.
        "completion": ["argcomplete>=3"],
        "test": [
            *OTEL,
            "argcomplete>=3",
            *POSTGRES,
            "grafana-foundation-sdk==1769699998!10.1.0; python_version >= '3.11'",
            "hypothesis>=6.100",
            "kubernetes-validate>=1.31",
            # The types that OpenAI's own SDK makes of their published schema.
            "openai>=2",
            "openapi-spec-validator>=0.9",
            # A real proxy.
            "proxy.py>=2.4.10",
            # Calls the daemon as the OpenAPI document says, and checks its responses by it.
            "schemathesis>=4.32",
            "selenium>=4.20",
            "standardwebhooks>=1.0",
        ],
        "otel": OTEL,
        "postgres": POSTGRES,
        # Rivals, and charts.
        "bench": ["fastapi>=0.115", "httpx>=0.27", "matplotlib>=3.9", "openai>=2", "uvicorn>=0.30"],
        "lint": [
            *OTEL,
            *POSTGRES,
            "import-linter>=2.1",
            "mypy>=1.14",
            "mypy-zope>=1.0.9",
            "ruff>=0.9",
            "types-PyYAML>=6.0.12",
        ],
    },
    classifiers=[
        "Framework :: Twisted",
        "Operating System :: POSIX",
        "Programming Language :: Python :: 3",
        "Typing :: Typed",
    ],
    zip_safe=False,
)
