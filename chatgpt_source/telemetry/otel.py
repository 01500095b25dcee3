"""Traces with OpenTelemetry, if its SDK is installed and the environment configures it.

Names and attributes follow its semantic conventions for HTTP, GenAI and CloudEvents. The text of
prompts and answers is recorded only if OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT asks for
it. Only this module imports the SDK, and it is imported only if it is used.
"""

import json
import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Protocol
from urllib.parse import urlsplit

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import (
    BatchSpanProcessor,
    SimpleSpanProcessor,
    SpanExporter,
    SpanExportResult,
)
from opentelemetry.trace import Span as OtelSpan
from opentelemetry.trace import SpanKind, StatusCode, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from chatgpt_source import __version__
from chatgpt_source.log import get_logger
from chatgpt_source.log.lines import Lines, lines_of
from chatgpt_source.prompt import DEAD_LETTER, TARGET, Answer, Ask, Delivery, Trace
from chatgpt_source.telemetry.spans import RequestSpan, Span, Spans

log = get_logger(__name__)

CAPTURE = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
_CAPTURING = {"true", "span_only", "span_and_event"}
_SERVERS_FAULT = 500
_W3C = TraceContextTextMapPropagator()


class NamedTarget(Protocol):
    """The settings of a named target."""

    @property
    def url(self) -> str: ...


class Settings(Protocol):
    """The settings that spans record."""

    @property
    def base_url(self) -> str: ...
    @property
    def api_version(self) -> str | None: ...
    @property
    def model(self) -> str: ...
    @property
    def max_tokens(self) -> int | None: ...
    @property
    def temperature(self) -> float | None: ...
    @property
    def top_p(self) -> float | None: ...
    @property
    def system_prompt(self) -> str | None: ...
    @property
    def target(self) -> str: ...
    @property
    def targets(self) -> Mapping[str, NamedTarget]: ...
    @property
    def dead_letter(self) -> str | None: ...
    @property
    def of_fallbacks(self) -> Mapping[str, "Settings"]: ...


def open_spans(config: Settings, environ: Mapping[str, str]) -> "OtelSpans":
    """Spans that are exported as the OTEL_ variables say.

    The SDK itself reads sampling, resource attributes and the exporter's endpoint.
    """
    sdk = logging.getLogger("opentelemetry")  # first: it warns of a variable with the value
    sdk.propagate = False
    sdk.handlers = [_ToOurLog()]
    named = OTELResourceDetector().detect().attributes
    ours = {"service.name": "chatgpt-source", "service.version": __version__}
    provider = TracerProvider(
        resource=Resource.create({name: ours[name] for name in ours if name not in named})
    )
    if environ.get("OTEL_TRACES_EXPORTER", "").strip().lower() == "console":
        # Not sys.stdout: twistd has replaced that by its log.
        lines = lines_of(sys.__stdout__)
        if lines is None:
            log.warn("OTEL_TRACES_EXPORTER is console, and stdout is closed: nothing is traced")
        else:
            provider.add_span_processor(SimpleSpanProcessor(_Console(lines)))
    else:
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    capture = environ.get(CAPTURE, "").strip().lower() in _CAPTURING
    return OtelSpans(provider, config, capture=capture)


class _Console(SpanExporter):
    """Writes each span as a line between those of the log."""

    def __init__(self, lines: Lines) -> None:
        self._lines = lines

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        for span in spans:
            self._lines.write(f"{span.to_json(indent=None)}\n".encode())
        return SpanExportResult.SUCCESS


class _ToOurLog(logging.Handler):
    """Logs the SDK's warnings without their arguments, which may hold anything."""

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.WARNING:
            log.warn("OpenTelemetry: {what}", what=str(record.msg).partition("%")[0].strip(" :("))


class OtelSpans(Spans):
    """Spans that are exported.

    Args:
        provider: Creates and exports spans.
        config: The settings that spans record.
        capture: Whether the text of prompts and answers is recorded.
    """

    def __init__(self, provider: TracerProvider, config: Settings, *, capture: bool) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("chatgpt_source", __version__)
        self._capture = capture
        self._config = config
        self._requests: dict[str | None, Mapping[str, Any]] = {None: _request(config)}
        for name, each in config.of_fallbacks.items():
            self._requests[name] = _request(each)
        urls = {TARGET.destination: config.target}
        urls |= {name: each.url for name, each in config.targets.items()}
        if config.dead_letter is not None:
            urls[DEAD_LETTER.destination] = config.dead_letter
        self._receivers = {name: _server(url) for name, url in urls.items()}

    def request(self, trace: Trace | None, route: Callable[[], str]) -> RequestSpan:
        """The span of a request; the prompt's further spans are its children."""
        path = route()
        attributes = {"http.request.method": "POST", "http.route": path}
        return _Request(self._start(f"POST {path}", trace, SpanKind.SERVER, attributes))

    def chat(self, ask: Ask, provider: str | None = None) -> Span:
        """The span of a call to the model."""
        call = ask.prompt.details.call
        set_by_caller = {
            "gen_ai.request.model": call.get("model"),
            "gen_ai.request.max_tokens": call.get("max_completion_tokens"),
            "gen_ai.request.temperature": call.get("temperature"),
        }
        attributes = {
            **self._requests[provider],
            **_without_none(set_by_caller),
            "chatgpt_source.attempt": ask.total,
        }
        if self._capture:
            attributes["gen_ai.input.messages"] = _message("user", ask.prompt.text)
            system = call.get("system", self._config.system_prompt)
            if system is not None:
                attributes["gen_ai.system_instructions"] = json.dumps(
                    [{"type": "text", "content": system}]
                )
        name = f"chat {attributes['gen_ai.request.model']}"
        span = self._start(name, ask.prompt.trace, SpanKind.CLIENT, attributes)
        return _Chat(span, capture=self._capture)

    def deliver(self, delivery: Delivery) -> Span:
        """The span of a call to a receiver of events."""
        is_letter = delivery.destination == DEAD_LETTER.destination
        name = "deliver dead letter" if is_letter else "deliver"
        event = json.loads(delivery.event)
        attributes = {
            "http.request.method": "POST",
            **self._receivers[delivery.destination],
            "cloudevents.event_id": event["id"],
            "cloudevents.event_source": event["source"],
            "cloudevents.event_spec_version": event["specversion"],
            "cloudevents.event_type": event["type"],
            "chatgpt_source.attempt": delivery.attempt,
        }
        return _Work(self._start(name, delivery.trace, SpanKind.PRODUCER, attributes))

    def close(self) -> None:
        """Export what is not exported yet."""
        self._provider.shutdown()

    def _start(
        self, name: str, trace: Trace | None, kind: SpanKind, attributes: Mapping[str, Any]
    ) -> OtelSpan:
        parent = _W3C.extract(trace.members(), Context()) if trace else Context()
        return self._tracer.start_span(name, parent, kind, attributes)


def _trace_of(span: OtelSpan) -> Trace:
    """The trace to pass on, so that later work is part of a span's."""
    carrier: dict[str, str] = {}
    _W3C.inject(carrier, set_span_in_context(span, Context()))
    return Trace(carrier["traceparent"], carrier.get("tracestate"))


class _Request(RequestSpan):
    """A request's span: a refusal is not an error of the server."""

    def __init__(self, span: OtelSpan) -> None:
        super().__init__(_trace_of(span))
        self._span = span

    def answered(self, status: int | None) -> None:
        if status is not None:
            self._span.set_attribute("http.response.status_code", status)
            if status >= _SERVERS_FAULT:
                self._span.set_attribute("error.type", str(status))
                self._span.set_status(StatusCode.ERROR)
        self._span.end()


class _Work(Span):
    """A span that ends with its work."""

    def __init__(self, span: OtelSpan) -> None:
        super().__init__(_trace_of(span))
        self.span = span

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is not None:
            status = getattr(error, "status", None)
            if status is not None:
                self.span.set_attribute("http.response.status_code", status)
            self.span.set_attribute("error.type", str(status) if status else kind.__name__)
            self.span.set_status(StatusCode.ERROR, getattr(error, "reason", None))
        self.span.end()


class _Chat(_Work):
    """A span of a call to the model."""

    def __init__(self, span: OtelSpan, *, capture: bool) -> None:
        super().__init__(span)
        self._capture = capture

    def answered(self, answer: Answer) -> None:
        told = {
            "gen_ai.response.model": answer.model,
            "gen_ai.response.finish_reasons": answer.finish_reason and [answer.finish_reason],
            "gen_ai.usage.input_tokens": answer.input_tokens,
            "gen_ai.usage.output_tokens": answer.output_tokens,
        }
        if self._capture:
            told["gen_ai.output.messages"] = _message(
                "assistant", answer.text, finish_reason=answer.finish_reason
            )
        self.span.set_attributes(_without_none(told))


def _message(role: str, text: str, **others: Any) -> str:
    parts = [{"type": "text", "content": text}]
    return json.dumps([{"role": role, "parts": parts, **others}])


def _request(config: Settings) -> Mapping[str, Any]:
    """The attributes of each call with some settings."""
    return _without_none(
        {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "azure.ai.openai" if config.api_version else "openai",
            "gen_ai.request.model": config.model,
            "gen_ai.request.max_tokens": config.max_tokens,
            "gen_ai.request.temperature": config.temperature,
            "gen_ai.request.top_p": config.top_p,
            **_server(config.base_url),
        }
    )


def _server(url: str) -> dict[str, Any]:
    parts = urlsplit(url)
    port = parts.port or {"http": 80, "https": 443}[parts.scheme]
    return {"server.address": parts.hostname or "", "server.port": port}


def _without_none(attributes: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in attributes.items() if value is not None}
