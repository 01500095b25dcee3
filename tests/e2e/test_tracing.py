"""Spans of the real daemon, as a collector gets them (OTLP over HTTP)."""

import json

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from twisted.internet import reactor

from tests.e2e.processes import ROOT, Daemon, DaemonCase
from tests.fakes.server import Received, Reply, ScriptedServer

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
CAPTURE = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"


class Collector(ScriptedServer):
    """Keeps the spans it is sent."""

    def objection(self, _request: Received) -> Reply | None:
        return None

    def default(self, _request: Received) -> Reply:
        return Reply(200, b"", {"Content-Type": "application/x-protobuf"})

    def spans(self) -> list:
        found = []
        for request in self.requests:
            assert request.path == "/v1/traces", request.path
            message = ExportTraceServiceRequest.FromString(request.body)
            for resource in message.resource_spans:
                names = {each.key: each.value.string_value for each in resource.resource.attributes}
                assert names["service.name"] == "chatgpt-source"
                found += [span for scope in resource.scope_spans for span in scope.spans]
        return found


class TracingTests(DaemonCase):
    def setUp(self) -> None:
        super().setUp()
        self.collector = Collector(reactor)
        self.collector.start()
        self.addCleanup(self.collector.stop)

    def traced(self, **environ: str) -> Daemon:
        endpoint = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": self.collector.origin,
            "OTEL_EXPORTER_OTLP_COMPRESSION": "none",
        }
        return Daemon(self, self.config(), **endpoint, **environ)

    async def test_a_prompts_way(self):
        self.openai.queue(Reply(503))
        daemon = self.traced()
        await daemon.start()
        await daemon.reaches(
            await daemon.accepted("MARKED", {"traceparent": PARENT, "tracestate": "rojo=1"}),
            "delivered",
        )
        await daemon.stop()
        spans = sorted(self.collector.spans(), key=lambda span: span.start_time_unix_nano)
        self.assertEqual(
            [span.name for span in spans],
            ["POST /", "chat gpt-6-luna", "chat gpt-6-luna", "deliver"],
        )
        accept, failed, chat, deliver = spans
        trace_id, caller = PARENT.split("-")[1:3]
        self.assertEqual({span.trace_id.hex() for span in spans}, {trace_id})
        self.assertEqual(accept.parent_span_id.hex(), caller)
        self.assertEqual({span.parent_span_id for span in spans[1:]}, {accept.span_id})
        self.assertEqual([span.status.code for span in spans], [0, 2, 0, 0])
        sent = [ask.header("traceparent").split("-")[2] for ask in self.openai.asks]
        self.assertEqual(sent, [failed.span_id.hex(), chat.span_id.hex()])
        (delivery,) = self.target.requests
        self.assertEqual(delivery.header("traceparent").split("-")[2], deliver.span_id.hex())
        self.assertEqual(delivery.header("tracestate"), "rojo=1")
        (event,) = self.target.events
        self.assertEqual(event["traceparent"].split("-")[2], accept.span_id.hex())
        for request in self.collector.requests:
            self.assertNotIn(b"MARKED", request.body)

    async def test_content_where_it_is_asked_for(self):
        daemon = self.traced(**{CAPTURE: "true"})
        await daemon.start()
        await daemon.reaches(await daemon.accepted("MARKED"), "delivered")
        await daemon.stop()
        self.assertIn(b"MARKED", b"".join(request.body for request in self.collector.requests))
        self.assertNotIn("MARKED", daemon.text)

    async def test_across_a_crash(self):
        self.openai.queue(Reply(503, delay=0.2))
        daemon = self.traced()
        await daemon.start()
        prompt_id = await daemon.accepted("text", {"traceparent": PARENT})
        await daemon.reaches(prompt_id, lambda record: record["error"])
        await daemon.kill()
        await daemon.start()
        await daemon.reaches(prompt_id, "delivered")
        await daemon.stop()
        spans = self.collector.spans()
        self.assertEqual({span.trace_id.hex() for span in spans}, {PARENT.split("-")[1]})
        self.assertEqual({span.name for span in spans}, {"chat gpt-6-luna", "deliver"})

    async def test_no_collector(self):
        await self.collector.stop()
        daemon = self.traced(OTEL_BSP_SCHEDULE_DELAY="100")
        await daemon.start()
        await daemon.reaches(await daemon.accepted("MARKED"), "delivered")
        await daemon.stop(timeout=8)
        self.assertIn("stopped", daemon.text)
        self.assertNotIn("Traceback", daemon.text)
        self.assertNotIn("MARKED", daemon.text)

    async def test_on_the_console(self):
        daemon = Daemon(self, self.config(), OTEL_TRACES_EXPORTER="console")
        await daemon.start()
        as_json = {"Content-Type": "application/json"}
        accepted = await daemon.post('{"prompt": "MARKED"}', as_json, "/prompts")
        await daemon.reaches(accepted.json()["id"], "delivered")
        await daemon.stop()
        lines = [json.loads(line) for line in daemon.text.splitlines()]  # the log is JSON, too
        names = [line["name"] for line in lines if "name" in line]
        self.assertEqual(names, ["POST /prompts", "chat gpt-6-luna", "deliver"])
        self.assertNotIn("MARKED", daemon.text)

    async def test_not_wanted(self):
        daemon = Daemon(self, self.config(), OTEL_SERVICE_NAME="x")
        await daemon.start()
        await daemon.reaches(await daemon.accepted("text"), "delivered")
        await daemon.stop()
        self.assertIsNone(self.target.requests[0].header("traceparent"))

    async def test_without_the_extra(self):
        daemon = self.traced()
        package = daemon.dir / "opentelemetry"
        package.mkdir()
        (package / "__init__.py").write_text("raise ImportError('no module named opentelemetry')")
        daemon.environ["PYTHONPATH"] = f"{daemon.dir}:{ROOT}"
        await daemon.start()
        await daemon.reaches(await daemon.accepted("text"), "delivered")
        await daemon.stop()
        self.assertIn("the extra `otel` is not installed", daemon.text)
