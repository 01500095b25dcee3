"""The strict reader of CloudEvents."""

import json
from collections.abc import Callable
from time import process_time
from typing import Any

from twisted.trial.unittest import SynchronousTestCase
from twisted.web.http_headers import Headers

from chatgpt_source.http.server import Problem
from chatgpt_source.http.server.events import parse_json, read_events
from chatgpt_source.limited_json import MOST_MARKS

STRUCTURED = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"
EVENT = {"specversion": "1.0", "id": "1", "source": "/tests", "type": "t"}
CE = {f"ce-{name}": value for name, value in EVENT.items()}


def read(body: Any, headers: dict[str, str] | None = None) -> list[dict[str, Any]]:
    if not isinstance(body, bytes):
        body = json.dumps(body).encode()
    raw = {name: [value] for name, value in (headers or {"content-type": STRUCTURED}).items()}
    return read_events(Headers(raw), body)


class RefusalCase(SynchronousTestCase):
    def refused(
        self, pattern: str, call: Callable[..., Any], *args: Any, status: int = 400
    ) -> None:
        error = self.assertRaises(Problem, call, *args)
        self.assertEqual(error.status, status, error.detail)
        self.assertRegex(error.detail, pattern)


class StructuredTests(RefusalCase):
    def test_unchanged(self) -> None:
        event = {
            **EVENT,
            "time": "2026-01-31t12:00:60.123456789+01:00",
            "datacontenttype": "application/json; charset=utf-8",
            "dataschema": "https://example.com/schema#1",
            "subject": "Grüße",
            "ext1": True,
            "ext2": -5,
            "data": [1, None, {"x": 1.5}],
        }
        self.assertEqual(read(event), [event])
        self.assertEqual(list(read(event)[0]), list(event))

    def test_what_is_not_used_may_be_any_string(self) -> None:
        raw, unused = Headers({"content-type": [STRUCTURED]}), ("dataschema",)
        for schema, status in (("#", 0), ("", 0), ("a\n", 400), (5, 400)):
            event = {**EVENT, "dataschema": schema}
            body = json.dumps(event).encode()
            if status:
                self.refused("dataschema", read_events, raw, body, 1, 99, unused, status=status)
            else:
                self.assertEqual(read_events(raw, body, 1, 99, unused), [event])

    def test_nothing_invented(self) -> None:
        self.assertEqual(read(EVENT), [EVENT])

    def test_charset(self) -> None:
        for charset in ("UTF-8", '"utf-8"', "us-ascii"):
            headers = {"content-type": f"Application/CloudEvents+JSON ; charset={charset}"}
            self.assertEqual(read(EVENT, headers), [EVENT])
        headers = {"content-type": f"{STRUCTURED}; charset=utf-16"}
        self.refused("UTF-8", read, EVENT, headers, status=415)

    def test_null_attribute_is_absent(self) -> None:
        event = {**EVENT, "subject": None, "time": None, "data": None}
        self.assertEqual(read(event), [event])
        self.refused("missing: id", read, {**EVENT, "id": None})

    def test_required(self) -> None:
        for name in EVENT:
            event = {key: value for key, value in EVENT.items() if key != name}
            self.refused(f"missing: {name}$", read, event)

    def test_bad_attributes(self) -> None:
        for name, value, says in [
            ("specversion", "0.3", "1.0"),
            ("specversion", 1.0, "1.0"),
            ("id", "", "'id' must be a string that is not empty"),
            ("id", 7, "'id' must be a string"),
            ("id", "a\nb", "'id'.* control"),
            ("id", "\ud800", "'id'.* surrogate"),
            ("source", "", "'source' must be a URI-reference"),
            ("source", "a b", "'source' must be a URI-reference"),
            ("source", "%zz", "'source' must be a URI-reference"),
            ("source", "1:2", "'source' must be a URI-reference"),
            ("source", "http://[::1", "'source' must be a URI-reference"),
            ("type", "", "'type' must be a string that is not empty"),
            ("type", ["t"], "'type' must be a string"),
            ("subject", "", "'subject'"),
            ("subject", False, "'subject' must be a string"),
            ("datacontenttype", "", "'datacontenttype' must be a media type"),
            ("datacontenttype", "json", "'datacontenttype' must be a media type"),
            ("dataschema", "", "'dataschema' must be an absolute URI"),
            ("dataschema", "relative", "'dataschema' must be an absolute URI"),
            ("dataschema", "http://[:::]/", "'dataschema' must be an absolute URI"),
            ("time", "yesterday", "RFC 3339"),
            ("time", "2026-01-31", "RFC 3339"),
            ("time", "2026-01-31T12:00:00", "RFC 3339"),
            ("time", "2026-02-31T12:00:00Z", "RFC 3339"),
            ("time", 5, "RFC 3339"),
            ("data_base64", "%", "Base64"),
            ("data_base64", "é", "Base64"),
            ("data_base64", 5, "Base64"),
            ("Upper", "x", "'Upper': names"),
            ("line\n", "x", "names"),
            ("", "x", "names"),
            ("\ud800", "x", "names"),
            ("ext", 2**31, "'ext' must be between"),
            ("ext", 1.5, "'ext' must be a string, a boolean"),
            ("ext", {"a": 1}, "'ext' must be a string, a boolean"),
        ]:
            self.refused(says, read, {**EVENT, name: value})

    def test_data_twice(self) -> None:
        self.refused("not both", read, {**EVENT, "data": 1, "data_base64": "eA=="})

    def test_not_an_object(self) -> None:
        for value in ([EVENT], "x", 1, None, True):
            self.refused("JSON object", read, value)

    def test_not_json(self) -> None:
        for body in (
            b"",
            b"{",
            b"\xff",
            b"\xef\xbb\xbf{}",
            b'{"a": NaN}',
            b"-Infinity",
            b"1e999",
            b'{"a": ' + b"9" * 310 + b"}",
            b'{"a": -' + b"9" * 5000 + b"}",
            b"[" * 100_000,
        ):
            self.refused("JSON", parse_json, body)

    def test_large_whole_numbers_stay_as_they_are(self) -> None:
        for number in (2**63, -(10**308), 0):
            self.assertEqual(parse_json(str(number).encode()), number)
            self.assertIs(type(parse_json(str(number).encode())), int)

    def test_deep_data(self) -> None:
        self.refused("deeply", parse_json, b"[" * 100_000 + b"]" * 100_000)

    def test_long_values_are_cut_in_the_refusal(self) -> None:
        error = self.assertRaises(Problem, read, {**EVENT, "source": " " * 10_000})
        self.assertLess(len(error.detail), 300)


class BatchTests(RefusalCase):
    def test_batch(self) -> None:
        headers = {"content-type": BATCH}
        events = [EVENT, {**EVENT, "id": "2"}]
        self.assertEqual(read(events, headers), events)
        self.assertEqual(read([], headers), [])

    def test_bad_one(self) -> None:
        headers = {"content-type": BATCH}
        self.refused(
            "index 1 .*missing: id, source", read, [EVENT, {"specversion": "1.0"}], headers
        )
        self.refused("index 0 .*JSON object", read, [1], headers)
        self.refused("JSON array", read, EVENT, headers)


class BinaryTests(RefusalCase):
    def test_data(self) -> None:
        for content_type, body, members in [
            ("application/json", b'{"a": [1]}', {"data": {"a": [1]}}),
            ("application/json", b"null", {"data": None}),
            ("text/json; charset=utf-8", b"5", {"data": 5}),
            ("application/vnd.x+json", b'"x"', {"data": "x"}),
            ("application/json", b"", {}),
            ("text/plain", "Grüße".encode(), {"data": "Grüße"}),
            ("text/plain; charset=ISO-8859-1", b"Gr\xfc\xdfe", {"data": "Grüße"}),
            ("text/plain; charset=utf-16", b"a\0", {"data_base64": "YQA="}),
            ("text/plain", b"\xff", {"data_base64": "/w=="}),
            ("image/png", b"\x89PNG", {"data_base64": "iVBORw=="}),
        ]:
            event = {**EVENT, "datacontenttype": content_type, **members}
            self.assertEqual(read(body, {**CE, "content-type": content_type}), [event])

    def test_no_content_type(self) -> None:
        self.assertEqual(read(b"", CE), [EVENT])
        self.assertEqual(read(b"[1]", CE), [{**EVENT, "data": [1]}])
        self.assertEqual(read(b"hello", CE), [{**EVENT, "data": "hello"}])
        self.assertEqual(read(b"\xff", CE), [{**EVENT, "data_base64": "/w=="}])

    def test_attributes_are_decoded_once(self) -> None:
        headers = {**CE, "ce-subject": "Gr%C3%BC%C3%9Fe%20%2525", "Ce-Ext": '"a \\"b\\""'}
        self.assertEqual(read(b"", headers), [{**EVENT, "subject": "Grüße %25", "ext": 'a "b"'}])

    def test_refused(self) -> None:
        for headers, body, says in [
            ({**CE, "ce-subject": "%ff"}, b"", "ce-subject is not percent-encoded UTF-8"),
            ({**CE, "ce-subject": "a%0Ab"}, b"", "control"),
            ({**CE, "ce-datacontenttype": "text/plain"}, b"", "ce-datacontenttype"),
            ({**CE, "ce-data": "text"}, b"", "ce-data "),
            ({**CE, "ce-data_base64": "text"}, b"", "ce-data_base64"),
            ({**CE, "content-type": "application/json"}, b"{", "Content-Type says JSON"),
            ({**CE, "content-type": "json"}, b"{", "media type"),
            ({"ce-id": "1"}, b"", "missing: specversion, source, type"),
            ({"content-type": "application/json"}, b"{}", "not a CloudEvent.*ce-id"),
            ({"x": "y"}, b"{}", "not a CloudEvent"),
        ]:
            self.refused(says, read, body, headers)

    def test_header_twice(self) -> None:
        headers = Headers({name: [value] for name, value in CE.items()})
        headers.addRawHeader("ce-id", "2")
        self.refused("ce-id came 2 times", read_events, headers, b"")

    def test_other_formats(self) -> None:
        for other in ("application/cloudevents+xml", "application/cloudevents-batch+avro"):
            self.refused("can't be read", read, b"<x/>", {**CE, "content-type": other}, status=415)
        self.refused("compressed", read, b"", {**CE, "content-encoding": "gzip"}, status=415)


class HostileTests(RefusalCase):
    def batch(self, number: int, **attributes: Any) -> bytes:
        events = [{**EVENT, "id": str(index), **attributes} for index in range(number)]
        return json.dumps(events).encode()

    def test_a_long_batch_is_refused_before_its_events_are_checked(self) -> None:
        headers = Headers({"content-type": [BATCH]})
        body = json.dumps([{}] * 10_000).encode()
        self.refused("at most 100 events", read_events, headers, body, 100, status=413)
        self.assertEqual(len(read_events(headers, self.batch(100), 100)), 100)

    def test_intricate_json(self) -> None:
        body = b"[" + b"0," * MOST_MARKS + b"0]"
        self.refused("at most 131072 commas", parse_json, body, status=413)
        self.refused("at most 10 commas", parse_json, b"[" + b"[]," * 10 + b"0]", 10, status=413)
        self.assertEqual(parse_json(b'["' + b"," * 100 + b'"]', 10), ["," * 100])
        headers = {**CE, "content-type": "application/json"}
        self.refused("at most 131072", read, body, headers, status=413)
        self.refused("at most 131072", read, body, CE, status=413)

    def test_many_or_long_attributes(self) -> None:
        for more in (
            {"source": "/" * 17_000},
            {"subject": "\xa0" * 17_000},
            {f"a{number}": True for number in range(500)},
        ):
            self.refused("attributes .* at most 16384", read, {**EVENT, **more}, status=413)
        self.assertEqual(len(read({**EVENT, "source": "/" * 16_000})), 1)
        headers = Headers({"content-type": [BATCH]})
        body = self.batch(100, source="/" * 2000)
        self.refused("attributes", read_events, headers, body, status=413)
        self.assertEqual(len(read_events(headers, self.batch(100, source="/" * 900))), 100)

    def test_in_bounded_time(self) -> None:
        size = 2**20
        data = b'{"specversion":"1.0","id":"1","source":"/","type":"t","data":%b}'
        for body in (
            data % (b"[" + b"[]," * 10_000 + b"0]"),
            data % (b'"' + b"\\u4e2d" * (size // 6) + b'"'),
            data % (b"[" * 100_000),
            data % (b"9" * size),
            json.dumps({**EVENT, "source": "/" * size}).encode(),
            json.dumps({**EVENT, "subject": "\xa0" * size}).encode(),
            json.dumps({**EVENT, "data_base64": "A" * size}).encode(),
        ):
            started = process_time()
            try:
                read(body)
            except Problem as problem:
                self.assertIn(problem.status, {400, 413})
            self.assertLess(process_time() - started, 1.0, body[:100])
