"""What a request brings, by its form."""

import json
from base64 import b64encode
from time import process_time
from typing import Any

from chatgpt_source.config import Credentials, TargetSettings
from chatgpt_source.http.server import Problem
from chatgpt_source.intake.fields import FIELDS
from chatgpt_source.journal import Key
from chatgpt_source.prompt import Arrival, Trace
from tests.intake.common import AHEAD, BATCH, EVENT, NOW, STRUCTURED, ReadingCase

CE = tuple(f"ce-{name}: {EVENT[name]}" for name in ("specversion", "id", "source", "type"))
JSON = "Content-Type: application/json"


def batch(*events: dict[str, Any]) -> str:
    return json.dumps([{**EVENT, **event} for event in events])


class TextTests(ReadingCase):
    def test_a_text(self) -> None:
        self.trace = Trace("x")
        received = self.root("grüße")
        self.assertEqual(received.arrival, Arrival.TEXT)
        self.assertEqual((received.size, received.is_batch), (7, False))
        prompt = self.prompt(received)
        self.assertEqual((prompt.text, prompt.trace), ("grüße", self.trace))
        self.assertEqual(prompt.accepted, NOW + AHEAD)
        self.assertEqual((prompt.target, prompt.deadline), ("target", None))
        self.assertIsNone(self.one(received).key)

    def test_json_and_other_media_types_are_texts(self) -> None:
        for line in (JSON, "Content-Type: application/x-www-form-urlencoded", "ce-other: x"):
            received = self.root('{"prompt": "x"}', line)
            self.assertEqual(received.arrival, Arrival.TEXT)
            self.assertEqual(self.prompt(received).text, '{"prompt": "x"}')

    def test_its_key(self) -> None:
        self.assertEqual(self.one(self.root("x", 'Idempotency-Key: "k"')).key, Key(("k",)))
        lines = ("Idempotency-Key: k", "Authorization: Bearer a")
        self.assertEqual(self.one(self.root("x", *lines)).key, Key(("k",)))
        self.configure(auth=Credentials())
        self.assertEqual(self.one(self.root("x", *lines)).key, Key(("Bearer a", "k")))
        key = self.one(self.json({"prompt": "x"}, JSON, *lines)).key
        self.assertEqual(key, Key(("Bearer a", "k")))

    def test_the_default_deadline(self) -> None:
        self.configure(deadline=60.0)
        self.assertEqual(self.prompt(self.root("x")).deadline, NOW + 60)
        self.assertEqual(self.prompt(self.root("x", "vanus-deadline: 2m")).deadline, NOW + 120)


class FieldsTests(ReadingCase):
    def test_a_target(self) -> None:
        self.configure(targets={name: TargetSettings("http://t") for name in ("a", "b")})
        self.assertEqual(self.prompt(self.root("x", "vanus-target: a")).target, "a")
        self.assertEqual(self.prompt(self.root("x", "vanus-target: ")).target, "target")
        for name in ("c", "none", "target", "http://evil.example"):
            detail = self.refused(
                "^the vanus-target header must be one of a, b, or left out",
                self.root,
                "x",
                f"vanus-target: {name}",
            )
            self.assertNotIn("none", detail)
        self.configure(keep_answers=1.0)
        self.assertEqual(self.prompt(self.root("x", "vanus-target: none")).target, "none")
        self.refused("one of a, b, none, or", self.root, "x", "vanus-target: c")

    def test_no_targets(self) -> None:
        told = "must be left out: `targets` names none, and the target `none` needs `keep_answers`"
        self.refused(told, self.root, "x", "vanus-target: none")

    def test_a_deadline(self) -> None:
        for given, deadline in (("90s", NOW + 90), ("2027-01-15T09:00:01Z", NOW + 1), ("", None)):
            prompt = self.prompt(self.root("x", f"vanus-deadline: {given}"))
            self.assertEqual(prompt.deadline, deadline)
        for wrong in ("90", "0s", "\xff"):
            self.refused("^the vanus-deadline header", self.root, "x", f"vanus-deadline: {wrong}")

    def test_a_deadline_that_has_passed_is_for_repeats(self) -> None:
        for second, late in ((0, True), (1, False)):
            given = f"2027-01-15T09:00:0{second}Z"
            for received in (
                self.root("x", f"vanus-deadline: {given}"),
                self.event(f"vanus-deadline: {given}"),
                self.json({"prompt": "x", "deadline": given}),
            ):
                self.assertEqual(self.one(received).late, late)

    def test_a_header_that_comes_twice(self) -> None:
        for name in FIELDS:
            twice = (f"vanus-{name}: ", f"Vanus-{name}: ")
            self.refused(f"vanus-{name} header came 2 times", self.root, "x", *twice)

    def test_on_all_forms(self) -> None:
        self.configure(targets={"a": TargetSettings("http://a")})
        lines = ("vanus-source: /s", "vanus-type: answer", "vanus-target: a", "vanus-deadline: 1m")
        for received in (
            self.root("x", *lines),
            self.event(*lines),
            self.root("x", *CE, *lines),
            self.root(batch({}, {"id": "2"}), f"Content-Type: {BATCH}", *lines),
            self.json({"prompt": "x"}, JSON, *lines),
        ):
            for submission in received.submissions:
                prompt = submission.prompt
                self.assertEqual((prompt.source, prompt.type), ("/s", "answer"))
                self.assertEqual((prompt.target, prompt.deadline), ("a", NOW + 60))


class EventTests(ReadingCase):
    def test_structured(self) -> None:
        received = self.event()
        self.assertEqual((received.arrival, received.is_batch), (Arrival.EVENT, False))
        self.assertEqual(self.prompt(received).text, "what is vanus")
        self.assertEqual(received.size, len(json.dumps(EVENT)))

    def test_structured_ignores_headers_of_the_binary_mode(self) -> None:
        received = self.event("ce-id: 2", "ce-type: vanus-chatGPT-type", "ce-source: %zz")
        self.assertEqual(self.one(received).key, Key(("event", "/tests", "1"), any_content=True))

    def test_binary(self) -> None:
        for lines, body in (
            (("Content-Type: text/plain",), "what is vanus"),
            ((), "what is vanus"),
            ((JSON,), '{"prompt": "what is vanus"}'),
        ):
            received = self.root(body, *CE, *lines)
            self.assertEqual((received.arrival, received.is_batch), (Arrival.EVENT, False))
            self.assertEqual(self.prompt(received).text, "what is vanus")
            key = Key(("event", "/tests", "1"), any_content=True)
            self.assertEqual(self.one(received).key, key)

    def test_half_an_event_is_refused_and_not_asked(self) -> None:
        for line in CE:
            self.refused("required and missing: ", self.root, "what is vanus", line)
        for media_type in ("application/cloudevents", "Application/CloudEvents+XML", STRUCTURED):
            problem = self.assertRaises(
                Problem, self.root, "what is vanus", f"Content-Type: {media_type}"
            )
            self.assertIn(problem.status, {400, 415})

    def test_other_formats(self) -> None:
        for media_type in ("application/cloudevents+avro", "application/cloudevents-batch+xml"):
            self.refused("can't be read", self.root, "x", f"Content-Type: {media_type}", status=415)

    def test_no_key_beside_it(self) -> None:
        self.refused("without an Idempotency-Key", self.event, "Idempotency-Key: k")
        self.refused("without an Idempotency-Key", self.root, "x", *CE, "Idempotency-Key: k")

    def test_two_headers(self) -> None:
        self.refused("ce-id came 2 times", self.root, "x", *CE, "ce-id: 2")


class BatchTests(ReadingCase):
    def batch(self, body: str) -> Any:
        return self.root(body, f"Content-Type: {BATCH}; charset=utf-8")

    def test_all(self) -> None:
        received = self.batch(batch({}, {"id": "2", "data": {"prompt": "x"}}))
        self.assertEqual((received.arrival, received.is_batch), (Arrival.EVENT, True))
        texts = [submission.prompt.text for submission in received.submissions]
        self.assertEqual(texts, ["what is vanus", "x"])
        self.assertTrue(self.batch(batch({})).is_batch)

    def test_or_none(self) -> None:
        for event, says in (
            ({"data": 5}, "the event has no prompt"),
            ({"type": "vanus-chatGPT-type"}, "the event's type"),
            ({"id": ""}, "attribute 'id'"),
            ({"expirytime": "soon"}, "attribute 'expirytime'"),
        ):
            self.refused(
                f"^event at index 1 of the batch: {says}", self.batch, batch({}, event, {})
            )

    def test_empty(self) -> None:
        self.refused("the batch is empty", self.batch, "[]")

    def test_too_long(self) -> None:
        self.configure(max_batch=2)
        self.assertEqual(len(self.batch(batch({}, {})).submissions), 2)
        detail = self.refused("at most 2 events", self.batch, json.dumps([5, 5, 5]), status=413)
        self.assertNotIn("index", detail)

    def test_json_in_base64_shares_one_bound(self) -> None:
        data = b64encode(b'{"prompt":"x","a":[' + b"0," * 2000 + b"0]}").decode()
        event = {name: value for name, value in EVENT.items() if name != "data"}
        event["data_base64"] = data
        self.assertEqual(len(self.batch(json.dumps([event] * 10)).submissions), 10)
        body = json.dumps([event] * 100)
        self.refused("^event at index 0 .* at most 327 commas", self.batch, body, status=413)

    def test_as_long_as_it_may_be(self) -> None:
        self.configure(max_batch=1000)
        events = [{"id": str(number), "data": {"prompt": "x"}} for number in range(1000)]
        self.assertEqual(len(self.batch(batch(*events)).submissions), 1000)


class DataSchemaTests(ReadingCase):
    def test_event_grid_s(self) -> None:
        for schema in ("#", "#1.0", ""):
            event = {**EVENT, "dataschema": schema, "data": "x"}
            self.assertEqual(self.prompt(self.event(dataschema=schema)).text, "what is vanus")
            batch = self.root(json.dumps([event]), f"Content-Type: {BATCH}")
            self.assertEqual(self.prompt(batch).text, "x")
            lines = (f"ce-{name}: {value}" for name, value in event.items() if name != "data")
            self.assertEqual(self.prompt(self.root("x", *lines)).text, "x")


class JsonTests(ReadingCase):
    def test_json(self) -> None:
        received = self.json('{"prompt": "x"}')
        self.assertEqual((received.arrival, received.size), (Arrival.JSON, 15))
        self.assertFalse(received.is_batch)
        self.assertIsNone(self.one(received).key)
        self.trace = Trace("x")
        self.assertEqual(self.prompt(self.json({"prompt": "x"})).trace, self.trace)

    def test_other_media_types(self) -> None:
        for media_type in ("text/plain", STRUCTURED, "application/problem+json", ""):
            line = f"Content-Type: {media_type}"
            self.refused("must be application/json", self.json, "{}", line, status=415)
        self.refused("must be application/json", self.json, "{}", "X: y", status=415)
        self.refused("UTF-8", self.json, "{}", f"{JSON}; charset=utf-16", status=415)
        self.refused("compressed", self.json, "{}", JSON, "Content-Encoding: gzip", status=415)

    def test_an_event_in_binary_mode(self) -> None:
        for header in ("ce-specversion: 1.0", "CE-ID: 1", "ce-source: /s", "ce-type: t"):
            self.refused("an event goes to /", self.json, '{"prompt": "x"}', JSON, header)
        self.json('{"prompt": "x"}', JSON, "ce-other: x")

    def test_no_json(self) -> None:
        for body in (b"", b"{", b"\xff", b'{"prompt": NaN}', b'{"temperature": 1e999}'):
            self.refused("not JSON in UTF-8", self.json, body)
        self.refused("nested too deeply", self.json, b"[" * 20_000)

    def test_a_key_or_none(self) -> None:
        self.refused("Idempotency-Key", self.json, {"prompt": "x"}, JSON, "Idempotency-Key: ")


class BoundedTests(ReadingCase):
    """No body keeps the reactor for long; the longest of these have a megabyte."""

    SIZE = 2**20

    def bodies(self) -> dict[str, tuple[Any, bytes]]:
        def structured(data: bytes) -> bytes:
            event = b'{"specversion":"1.0","id":"1","source":"/","type":"t",%b}'
            return event % data

        def batched(data: bytes, most: int) -> bytes:
            return b"[" + b",".join([structured(data)] * most) + b"]"

        size = self.SIZE
        marks = b"[" + b"[]," * 10_000 + b"0]"
        parts = b'{"role":"user","content":"' + b"x" * 5 + b'"}'
        messages = b"[" + b",".join([parts] * 4500) + b"]"
        return {
            "json, lists": (self.json, b'{"prompt":"x","metadata":{"a":' + marks + b"}}"),
            "json, messages": (self.json, b'{"messages":' + messages + b"}"),
            "json, escapes": (self.json, b'{"prompt":"' + b"\\u4e2d" * (size // 6) + b'"}'),
            "json, digits": (self.json, b'{"max_tokens":' + b"9" * size + b"}"),
            "json, numbers": (
                self.json,
                b'{"prompt":"x","metadata":{"a":[' + b",".join([b"9" * 300] * 3400) + b"]}}",
            ),
            "json, names": (
                self.json,
                b'{"prompt":"x",' + b",".join(b'"%d":1' % n for n in range(16_000)) + b"}",
            ),
            "json, depth": (self.json, b'{"metadata":' + b'{"a":' * 900 + b"1" + b"}" * 901),
            "json, commas": (self.json, b"," * size),
            "json, quotes": (self.json, b'"' * size),
            "event, escapes": (self.root, structured(b'"data":"' + b"\\n" * (size // 2) + b'"')),
            "event, lists": (self.root, structured(b'"data":' + marks)),
            "event, base64": (
                self.root,
                structured(b'"data_base64":"' + b"eHh4" * (size // 4) + b'"'),
            ),
            "event, source": (self.root, structured(b'"data":"x","source":"' + b"/" * size + b'"')),
            "event, extensions": (
                self.root,
                structured(b'"data":"x",' + b",".join(b'"a%d":1' % n for n in range(16_000))),
            ),
            "batch, long": (self.root, batched(b'"data":"x"', 10_000)),
            "batch, sources": (
                self.root,
                batched(b'"data":"x","source":"' + b"/" * 900 + b'"', 100),
            ),
            "batch, lists": (
                self.root,
                batched(b'"data":{"prompt":"x","a":[' + b"0," * 250 + b"0]}", 100),
            ),
            "batch, base64": (
                self.root,
                batched(
                    b'"data_base64":"%b"'
                    % b64encode(b'{"prompt":"x","a":[' + b"0," * 320 + b"0]}"),
                    100,
                ),
            ),
        }

    def test_in_bounded_time(self) -> None:
        for name, (read, body) in self.bodies().items():
            media_type = BATCH if name.startswith("batch") else STRUCTURED
            lines = (JSON,) if read == self.json else (f"Content-Type: {media_type}",)
            request = self.request(body, *lines)
            self.patch(self, "request", lambda *_, request=request: request)
            started = process_time()
            try:
                read(body, *lines)
            except Problem as problem:
                self.assertIn(problem.status, {400, 413}, name)
            self.assertLess(process_time() - started, 1.0, name)
            del self.request
