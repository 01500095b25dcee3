"""Spans as OpenTelemetry makes them: names, parents, attributes, and what must not be in them."""

import json
import logging
import os
from io import StringIO
from typing import Any
from unittest.mock import patch

import attrs
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from twisted.internet.defer import CancelledError
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from chatgpt_source import application
from chatgpt_source.config import Config, TargetSettings
from chatgpt_source.config.secret import Secret
from chatgpt_source.delivery import event
from chatgpt_source.errors import PeerFailure, Transient
from chatgpt_source.prompt import Answer, Ask, Delivery, Details, Prompt, Trace
from chatgpt_source.telemetry.otel import OtelSpans
from chatgpt_source.telemetry.spans import NO_SPANS, are_wanted

PARENT = Trace("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "rojo=1")
CONFIG = Config(
    target="https://broker.example/x?key=MARKED",
    token=Secret("MARKED"),
    base_url="http://model.example:8000/v1",
    max_tokens=50,
    temperature=0.5,
)
PROMPT = Prompt("p1", "MARKED prompt", "/source", "a.type", 1.0, PARENT)
ANSWER = Answer(
    "MARKED answer", "gpt-6-luna-1", "stop", "req_1", {"prompt_tokens": 3, "completion_tokens": 4}
)


class SpansCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.begin()

    def begin(self, *, capture: bool = False, **settings: Any) -> None:
        self.exporter = InMemorySpanExporter()
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.spans = OtelSpans(provider, attrs.evolve(CONFIG, **settings), capture=capture)

    def exported(self) -> ReadableSpan:
        (span,) = self.exporter.get_finished_spans()
        self.exporter.clear()
        return span

    def assert_leads_to(self, trace: Trace | None, span: ReadableSpan) -> None:
        """Check that what went along names the span."""
        context = span.get_span_context()
        assert trace
        assert context
        flags = f"{context.trace_flags:02x}"
        self.assertEqual(trace.parent, f"00-{context.trace_id:032x}-{context.span_id:016x}-{flags}")


class RequestTests(SpansCase):
    def test_within_the_callers_trace(self) -> None:
        request = self.spans.request(PARENT, lambda: "/")
        request.answered(202)
        span = self.exported()
        assert span.parent
        self.assertEqual(f"{span.parent.span_id:016x}", PARENT.parent.split("-")[2])
        self.assertEqual(f"{span.context.trace_id:032x}", PARENT.parent.split("-")[1])
        self.assert_leads_to(request.trace, span)
        self.assertEqual(request.trace and request.trace.state, "rojo=1")
        self.assertEqual((span.name, span.kind), ("POST /", SpanKind.SERVER))
        self.assertEqual(
            dict(span.attributes or {}),
            {
                "http.request.method": "POST",
                "http.route": "/",
                "http.response.status_code": 202,
            },
        )

    def test_a_trace_of_its_own(self) -> None:
        request = self.spans.request(None, lambda: "/prompts")
        request.answered(202)
        span = self.exported()
        self.assertIsNone(span.parent)
        self.assert_leads_to(request.trace, span)
        self.assertEqual(span.name, "POST /prompts")
        self.assertEqual((span.attributes or {})["http.route"], "/prompts")

    def test_a_refusal_is_no_error_of_ours(self) -> None:
        for status, expected, kind in (
            (200, StatusCode.UNSET, None),
            (429, StatusCode.UNSET, None),
            (503, StatusCode.ERROR, "503"),
        ):
            self.spans.request(None, lambda: "/prompts").answered(status)
            span = self.exported()
            self.assertEqual(span.status.status_code, expected)
            assert span.attributes
            self.assertEqual(span.attributes["http.response.status_code"], status)
            self.assertEqual(span.attributes.get("error.type"), kind)

    def test_a_caller_who_has_hung_up_got_nothing(self) -> None:
        self.spans.request(None, lambda: "/").answered(None)
        span = self.exported()
        self.assertEqual(span.status.status_code, StatusCode.UNSET)
        self.assertNotIn("http.response.status_code", span.attributes or {})


class ChatTests(SpansCase):
    def ask(self, prompt: Prompt = PROMPT) -> ReadableSpan:
        with self.spans.chat(Ask(prompt, 1, 2, 1.0)) as work:
            work.answered(ANSWER)
        span = self.exported()
        self.assert_leads_to(work.trace, span)
        return span

    def test_attributes(self) -> None:
        span = self.ask()
        self.assertEqual((span.name, span.kind), ("chat gpt-6-luna", SpanKind.CLIENT))
        self.assertEqual(
            dict(span.attributes or {}),
            {
                "gen_ai.operation.name": "chat",
                "gen_ai.provider.name": "openai",
                "gen_ai.request.model": "gpt-6-luna",
                "gen_ai.request.max_tokens": 50,
                "gen_ai.request.temperature": 0.5,
                "gen_ai.response.model": "gpt-6-luna-1",
                "gen_ai.response.finish_reasons": ("stop",),
                "gen_ai.usage.input_tokens": 3,
                "gen_ai.usage.output_tokens": 4,
                "server.address": "model.example",
                "server.port": 8000,
                "chatgpt_source.attempt": 2,
            },
        )
        self.assertNotIn("MARKED", span.to_json())

    def test_the_names_of_the_responses_api(self) -> None:
        with self.spans.chat(Ask(PROMPT, 1, 2, 1.0)) as work:
            work.answered(attrs.evolve(ANSWER, usage={"input_tokens": 5, "output_tokens": 6}))
        attributes = dict(self.exported().attributes or {})
        self.assertEqual(attributes["gen_ai.usage.input_tokens"], 5)
        self.assertEqual(attributes["gen_ai.usage.output_tokens"], 6)

    def test_azure(self) -> None:
        self.begin(api_version="2024-10-21")
        attributes = dict(self.ask().attributes or {})
        self.assertEqual(attributes["gen_ai.provider.name"], "azure.ai.openai")

    def test_content_only_where_it_is_asked_for(self) -> None:
        self.begin(capture=True, system_prompt="Be brief.")
        attributes = dict(self.ask().attributes or {})
        messages = {
            name: json.loads(str(attributes[name])) for name in attributes if "messages" in name
        }
        text = {"type": "text", "content": "MARKED prompt"}
        self.assertEqual(messages["gen_ai.input.messages"], [{"role": "user", "parts": [text]}])
        (output,) = messages["gen_ai.output.messages"]
        self.assertEqual(output["parts"][0]["content"], "MARKED answer")
        self.assertEqual(output["finish_reason"], "stop")
        self.assertIn("Be brief.", str(attributes["gen_ai.system_instructions"]))

    def test_what_the_caller_set(self) -> None:
        self.begin(capture=True, system_prompt="Be brief.")
        call = {"model": "theirs", "max_completion_tokens": 7, "system": "Rhyme."}
        asked = attrs.evolve(PROMPT, details=Details(call=call))
        with self.spans.chat(Ask(asked, 1, 1, 1.0)):
            pass
        span = self.exported()
        attributes = dict(span.attributes or {})
        self.assertEqual(span.name, "chat theirs")
        self.assertEqual(attributes["gen_ai.request.model"], "theirs")
        self.assertEqual(attributes["gen_ai.request.max_tokens"], 7)
        self.assertEqual(attributes["gen_ai.request.temperature"], 0.5)
        self.assertIn("Rhyme.", str(attributes["gen_ai.system_instructions"]))
        self.assertNotIn("Be brief.", span.to_json())

    def test_failures(self) -> None:
        for error, kind, status in (
            (Transient("the model answered 503", status=503), "503", 503),
            (PeerFailure("the model answered 401", status=401), "401", 401),
            (Transient("the model can't be reached"), "Transient", None),
            (CancelledError(), "CancelledError", None),
        ):
            with self.assertRaises(type(error)), self.spans.chat(Ask(PROMPT, 1, 1, 1.0)):
                raise error
            span = self.exported()
            assert span.attributes
            self.assertEqual(span.status.status_code, StatusCode.ERROR)
            self.assertEqual(span.attributes["error.type"], kind)
            self.assertEqual(span.attributes.get("http.response.status_code"), status)
            self.assertNotIn("MARKED", span.to_json())


class DeliverTests(SpansCase):
    def test_attributes(self) -> None:
        encoded = event.encode(PROMPT, ANSWER)
        with self.spans.deliver(Delivery("p1", encoded, 1.0, 3, 1.0, PARENT)) as work:
            pass
        span = self.exported()
        self.assert_leads_to(work.trace, span)
        self.assertEqual((span.name, span.kind), ("deliver", SpanKind.PRODUCER))
        self.assertEqual(
            dict(span.attributes or {}),
            {
                "http.request.method": "POST",
                "server.address": "broker.example",
                "server.port": 443,
                "cloudevents.event_id": "p1",
                "cloudevents.event_source": "/source",
                "cloudevents.event_spec_version": "1.0",
                "cloudevents.event_type": "a.type",
                "chatgpt_source.attempt": 3,
            },
        )
        self.assertNotIn("MARKED", span.to_json())

    def test_each_receiver(self) -> None:
        self.begin(
            targets={"billing": TargetSettings("https://billing.example/?key=MARKED")},
            dead_letter="http://letters.example",
        )
        encoded = event.encode(PROMPT, ANSWER)
        for destination, name, address in (
            ("billing", "deliver", "billing.example"),
            ("dead_letter", "deliver dead letter", "letters.example"),
        ):
            delivery = Delivery("p1", encoded, 1.0, 1, 1.0, destination=destination)
            with self.spans.deliver(delivery):
                pass
            span = self.exported()
            attributes = dict(span.attributes or {})
            self.assertEqual((span.name, attributes["server.address"]), (name, address))
            self.assertNotIn("MARKED", span.to_json())


class OpenTests(SynchronousTestCase):
    def open(self, **environ: str) -> tuple[list[str], str]:
        """What the log and standard error say of a start with these variables."""
        said = StringIO()
        environ = {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_BSP_SCHEDULE_DELAY": "100000", **environ}
        self.patch(logging, "lastResort", logging.StreamHandler(said))
        sdk = logging.getLogger("opentelemetry")
        self.patch(sdk, "handlers", [])
        self.patch(sdk, "propagate", 0)  # the root logger may have a handler
        with capturedLogs() as logged, patch.dict(os.environ, environ):
            spans = application._open_spans(CONFIG)
        if spans is not NO_SPANS:
            self.patch(OTLPSpanExporter, "export", lambda *_: SpanExportResult.SUCCESS)
            spans.close()
        return [formatEvent(event) for event in logged], said.getvalue()

    def test_no_credentials_of_the_collector_in_the_log(self) -> None:
        (line,), said = self.open(OTEL_EXPORTER_OTLP_HEADERS="authorization: MARKED")
        self.assertTrue(line.startswith("OpenTelemetry: Header format invalid!"), line)
        self.assertNotIn("MARKED", line)
        self.assertEqual(said, "")

    def test_variables_that_can_not_be_used(self) -> None:
        for name, value in (
            ("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "MARKED"),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "1"),
        ):
            (line,), said = self.open(**{name: value})
            self.assertIn(name, line)
            self.assertTrue(line.endswith(": tracing is off"), line)
            self.assertNotIn("MARKED", line + said)


class WantedTests(SynchronousTestCase):
    def test_only_where_the_environment_says_where_to(self) -> None:
        endpoint = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}
        for environ, wanted in (
            ({}, False),
            ({"OTEL_SERVICE_NAME": "x"}, False),
            (endpoint, True),
            ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c/v1/traces"}, True),
            ({"OTEL_TRACES_EXPORTER": "console"}, True),
            ({"OTEL_TRACES_EXPORTER": "none", **endpoint}, False),
            ({"OTEL_SDK_DISABLED": "true", **endpoint}, False),
            ({"OTEL_EXPORTER_OTLP_ENDPOINT": " "}, False),
        ):
            self.assertIs(are_wanted(environ), wanted, environ)

    def test_no_spans_pass_the_trace_on(self) -> None:
        request = NO_SPANS.request(PARENT, str)
        request.answered(202)
        with NO_SPANS.chat(Ask(PROMPT, 1, 1, 1.0)) as chat:
            chat.answered(ANSWER)
        self.assertIs(request.trace, PARENT)
        self.assertIs(chat.trace, PARENT)
