"""The interface of tracing: spans of requests that bring prompts, of asking and of delivering.

Here nothing is traced, and a caller's trace is passed on unchanged; `otel` makes real spans.
"""

from collections.abc import Callable, Mapping
from types import TracebackType

from typing_extensions import Self

from chatgpt_source.prompt import Answer, Ask, Delivery, Trace


class Span:
    """A span, as a context manager around its work; an exception ends it as a failure.

    Attributes:
        trace: The trace to pass on, so that later work is part of it.
    """

    def __init__(self, trace: Trace | None) -> None:
        self.trace = trace

    def answered(self, answer: Answer) -> None:
        """The work was a call to the model, and brought this answer."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """The work has ended."""


class RequestSpan:
    """The span of a request.

    Attributes:
        trace: The trace to pass on, so that later work is part of it.
    """

    def __init__(self, trace: Trace | None) -> None:
        self.trace = trace

    def answered(self, status: int | None) -> None:
        """The response was sent, with this status; None: nobody was there any more."""


class Spans:
    """Begins spans."""

    def request(self, trace: Trace | None, route: Callable[[], str]) -> RequestSpan:  # noqa: ARG002 - for those who tell
        """A request may bring a prompt.

        Args:
            trace: Its trace, if any.
            route: Tells the path that it was sent to.
        """
        return RequestSpan(trace)

    def chat(self, ask: Ask, provider: str | None = None) -> Span:  # noqa: ARG002 - for those who tell
        """A provider is being asked; None: the first."""
        return Span(ask.prompt.trace)

    def deliver(self, delivery: Delivery) -> Span:
        """An event is being delivered."""
        return Span(delivery.trace)

    def close(self) -> None:
        """Export what is not exported yet. Blocks."""


NO_SPANS = Spans()


def are_wanted(environ: Mapping[str, str]) -> bool:
    """Whether the environment configures an exporter, and does not disable the SDK."""

    def said(name: str) -> str:
        return environ.get(name, "").strip().lower()

    exporter = said("OTEL_TRACES_EXPORTER")
    endpoints = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
    if said("OTEL_SDK_DISABLED") == "true" or exporter == "none":
        return False
    return bool(exporter) or any(map(said, endpoints))
