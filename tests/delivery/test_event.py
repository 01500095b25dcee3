"""The event: its members, its bytes, and what its attributes may be."""

import json
import time
from uuid import uuid4

import attrs
from cloudevents.core.bindings.http import to_binary
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from chatgpt_source.cloudevent import is_extension, is_source, is_type
from chatgpt_source.config import INCLUDABLE
from chatgpt_source.delivery.event import (
    CONTENT_TYPE,
    binary,
    encode,
    encode_unanswered,
    encode_undelivered,
)
from chatgpt_source.errors import Permanent
from chatgpt_source.prompt import DEFAULT_SOURCE, DEFAULT_TYPE, Answer, Details, Prompt, Trace

ID = "7f6b3a52-7a3f-4c56-9f5d-0a7f0e8f6c11"
ACCEPTED = 1679994910.70413


def prompt(
    accepted: float = ACCEPTED, source: str = DEFAULT_SOURCE, type_: str = DEFAULT_TYPE
) -> Prompt:
    return Prompt(ID, "What is Vanus?", source, type_, accepted)


class EncodeTests(SynchronousTestCase):
    def members(self, answer: str = "An answer", **given_: object) -> list[tuple[str, object]]:
        encoded = encode(prompt(**given_), Answer(answer))  # type: ignore[arg-type]
        pairs: list[tuple[str, object]] = json.loads(encoded, object_pairs_hook=list)
        return pairs

    def test_exactly_these_members_in_this_order(self) -> None:
        self.assertEqual(
            self.members(),
            [
                ("specversion", "1.0"),
                ("id", ID),
                ("source", "vanus-chatGPT-source"),
                ("type", "vanus-chatGPT-type"),
                ("datacontenttype", "application/json"),
                ("time", "2023-03-28T09:15:10.704130Z"),
                ("data", [("content", "An answer")]),
            ],
        )

    def test_nothing_but_the_answer_s_content(self) -> None:
        rich = Answer("An answer", "gpt-6-luna", "stop", "req_1", {"total_tokens": 3})
        self.assertEqual(encode(prompt(), rich), encode(prompt(), Answer("An answer")))

    def test_included(self) -> None:
        usage = {"total_tokens": 3}
        rich = Answer("An answer", "gpt-6-luna", "stop", "req_1", usage, "flex", "api.example")
        everything = {
            "prompt": "What is Vanus?",
            "usage": {"total_tokens": 3},
            "model": "gpt-6-luna",
            "finish_reason": "stop",
            "request_id": "req_1",
            "service_tier": "flex",
            "provider": "api.example",
        }
        self.assertEqual(set(everything), set(INCLUDABLE))
        for names in ([], ["usage"], ["model", "prompt"], list(everything)):
            data = json.loads(encode(prompt(), rich, names))["data"]
            expected = {"content": "An answer", **{name: everything[name] for name in names}}
            self.assertEqual(data, expected)
        data = json.loads(encode(prompt(), Answer("An answer"), list(everything)))["data"]
        self.assertEqual((data["usage"], data["request_id"]), (None, None))

    def test_json_and_tool_calls(self) -> None:
        calls = [{"id": "1", "function": {"name": "f", "arguments": "{}"}}]
        for answer, expected in (
            (Answer({"total": 5}), {"content": {"total": 5}}),
            (Answer(None), {"content": None}),
            (Answer(None, tool_calls=calls), {"content": None, "tool_calls": calls}),
            (Answer("x", tool_calls=calls), {"content": "x", "tool_calls": calls}),
        ):
            encoded = encode(prompt(), answer)
            self.assertEqual(json.loads(encoded)["data"], expected)
            self.assertEqual(json.loads(binary(encoded)[1]), expected)

    def test_extensions(self) -> None:
        encoded = encode(prompt(), Answer("x"), (), {"cluster": "a"})
        self.assertEqual(json.loads(encoded)["cluster"], "a")

    def test_what_a_cause_adds(self) -> None:
        cause = {"subject": "s", "causationid": "c", "count": 3, "flag": True}
        caused = attrs.evolve(prompt(), details=Details(attributes=cause))
        for encoded in (
            encode(caused, Answer("x")),
            encode_unanswered(caused, 1, Permanent("no"), ACCEPTED),
        ):
            event = json.loads(encoded)
            self.assertEqual({name: event[name] for name in cause}, cause)
            headers, _ = binary(encoded)
            told = {name: headers[f"ce-{name}"] for name in cause}
            self.assertEqual(
                told, {"subject": "s", "causationid": "c", "count": "3", "flag": "true"}
            )

    def test_the_operators_extensions_win(self) -> None:
        caused = attrs.evolve(prompt(), details=Details(attributes={"cluster": "theirs"}))
        ours = {"cluster": "ours"}
        self.assertEqual(json.loads(encode(caused, Answer("x"), (), ours))["cluster"], "ours")
        letter = encode_unanswered(caused, 1, Permanent("no"), ACCEPTED, ours)
        self.assertEqual(json.loads(letter)["cluster"], "ours")

    def test_metadata_comes_back(self) -> None:
        for metadata in ({}, {"order": {"no": 7}, "odd": "\ud800"}):
            given_ = attrs.evolve(prompt(), details=Details(metadata=metadata))
            data = json.loads(encode(given_, Answer("x"), ["model"]))["data"]
            self.assertEqual(data, {"content": "x", "model": None, "metadata": metadata})

    def test_a_conversation_is_included_as_a_list(self) -> None:
        messages = [{"role": "user", "content": "Why?"}]
        details = Details(conversation=True)
        asked = Prompt(ID, json.dumps(messages), "s", "t", ACCEPTED, details=details)
        data = json.loads(encode(asked, Answer("x"), ["prompt"]))["data"]
        self.assertEqual(data["prompt"], messages)

    def test_trace(self) -> None:
        traced = attrs.evolve(prompt(), trace=Trace("00-a-b-01", "x=1"))
        for encoded in (
            encode(traced, Answer("x")),
            encode_unanswered(traced, 1, Permanent("no"), ACCEPTED),
        ):
            event = json.loads(encoded)
            self.assertEqual((event["traceparent"], event["tracestate"]), ("00-a-b-01", "x=1"))
        only = attrs.evolve(prompt(), trace=Trace("00-a-b-01"))
        self.assertNotIn("tracestate", json.loads(encode(only, Answer("x"))))

    def test_binary(self) -> None:
        extensions = {"odd": 'caf\u00e9 "%"\U0001f600', "empty": ""}
        encoded = encode(prompt(type_="a b"), Answer("\u00e9\n"), ["model"], extensions)
        headers, body = binary(encoded)
        self.assertEqual(
            headers,
            {
                "ce-specversion": "1.0",
                "ce-id": ID,
                "ce-source": "vanus-chatGPT-source",
                "ce-type": "a%20b",
                "ce-time": "2023-03-28T09:15:10.704130Z",
                "ce-odd": "caf%C3%A9%20%22%25%22%F0%9F%98%80",
                "ce-empty": "",
                "content-type": "application/json",
            },
        )
        self.assertEqual(json.loads(body), {"content": "\u00e9\n", "model": None})
        self.assertEqual(binary(encoded), (headers, body))

    def test_binary_of_a_dead_letter(self) -> None:
        letter = encode_undelivered(
            encode(prompt(), Answer("x")), "http://t/", Permanent("no", status=400)
        )
        headers, body = binary(letter)
        self.assertEqual(headers["ce-knativeerrorcode"], "400")
        self.assertEqual(json.loads(body), {"content": "x"})

    def test_time(self) -> None:
        for accepted, expected in {
            0.0: "1970-01-01T00:00:00Z",
            1679994910.0: "2023-03-28T09:15:10Z",
            1679994910.5: "2023-03-28T09:15:10.500000Z",
            1679994910.000001: "2023-03-28T09:15:10.000001Z",
            4102444799.999999: "2099-12-31T23:59:59.999999Z",
        }.items():
            self.assertEqual(dict(self.members(accepted=accepted))["time"], expected)

    def test_source_and_type(self) -> None:
        members = dict(self.members(source="/a?b#c", type_="com.example.é"))
        self.assertEqual((members["source"], members["type"]), ("/a?b#c", "com.example.é"))

    def test_same_bytes_every_time(self) -> None:
        first = encode(prompt(), Answer("a"))
        for _ in range(3):
            self.assertEqual(encode(prompt(), Answer("a")), first)

    def test_content_type(self) -> None:
        self.assertEqual(CONTENT_TYPE, "application/cloudevents+json")

    @settings(deadline=None)
    @given(st.text(min_size=1))
    @example('\x00\x1f\x7f\x85\u2028\u2029\ufeff"\\/</script>')
    @example("😀 \r\n\t é")
    @example('{"content": "x"}')
    def test_any_content_arrives_as_it_was(self, content: str) -> None:
        encoded = encode(prompt(), Answer(content))
        event = JSONFormat().read(None, encoded)
        self.assertEqual(event.get_data(), {"content": content})
        self.assertEqual(event.get_id(), ID)

    @settings(deadline=None)
    @given(st.text(min_size=1), st.text(min_size=1), st.floats(0, 4e9))
    def test_all_that_is_let_in_can_be_encoded(
        self, source: str, type_: str, accepted: float
    ) -> None:
        source = source if is_source(source) else DEFAULT_SOURCE
        type_ = type_ if is_type(type_) else DEFAULT_TYPE
        members = json.loads(
            encode(Prompt(str(uuid4()), "p", source, type_, accepted), Answer("a"))
        )
        self.assertEqual((members["source"], members["type"]), (source, type_))
        self.assertRegex(members["time"], r"\A\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{6})?Z\Z")


_TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
_EXTENSIONS = st.from_regex("[a-z0-9]{1,20}", fullmatch=True).filter(is_extension)
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda values: st.lists(values, max_size=3) | st.dictionaries(st.text(), values, max_size=3),
    max_leaves=5,
)
_OBJECTS = st.dictionaries(st.text(), _VALUES, max_size=3)
_PROMPTS = st.builds(
    Prompt,
    _TEXTS,
    st.just("What is Vanus?"),
    _TEXTS,
    _TEXTS,
    st.floats(0, 253402300799),
    trace=st.none() | st.builds(Trace, _TEXTS, st.none() | _TEXTS),
    details=st.builds(
        Details,
        attributes=st.builds(
            dict,
            st.dictionaries(_EXTENSIONS, _TEXTS | st.booleans() | st.integers(-(2**31), 2**31 - 1)),
            subject=_TEXTS,
        ),
        metadata=st.none() | _OBJECTS,
    ),
)
_ANSWERS = st.builds(Answer, _VALUES, tool_calls=st.none() | st.lists(_OBJECTS, max_size=2))


class BinaryTests(SynchronousTestCase):
    """Binary mode is that of the library, but for booleans, which it writes as Python does."""

    def check(self, event: bytes) -> None:
        read = JSONFormat().read(CloudEvent, event)
        message = to_binary(read, JSONFormat())
        for name, value in read.get_attributes().items():
            if isinstance(value, bool):
                message.headers[f"ce-{name}"] = "true" if value else "false"
        headers, body = binary(event)
        self.assertEqual(list(headers.items()), list(message.headers.items()))
        self.assertEqual(body, message.body)

    @settings(deadline=None)
    @given(_PROMPTS, _ANSWERS, st.dictionaries(_EXTENSIONS, _TEXTS | st.just("")))
    def test_any_event(self, asked: Prompt, answer: Answer, extensions: dict[str, str]) -> None:
        event = encode(asked, answer, INCLUDABLE, extensions)
        error = Permanent("no \u00e9", status=400)
        self.check(event)
        self.check(encode_undelivered(event, "http://t/\u00e9?q", error))
        self.check(encode_undelivered(event, "http://t/", Permanent("no")))
        self.check(encode_unanswered(asked, 1, error, asked.accepted, extensions))

    def test_any_character(self) -> None:
        characters = [*map(chr, range(0xD800)), *map(chr, range(0xE000, 0x110000))]
        each = {f"x{ord(one)}": one for one in characters[:0x300]}
        self.check(encode(prompt(), Answer("x"), (), {**each, "all": "".join(characters)}))

    def test_any_time(self) -> None:
        for accepted in (0.0, 1e-6, 0.1, 1.5, 951782400.0, 1e9, 4102444799.999999, 253402300799.0):
            self.check(encode(prompt(accepted), Answer("x")))


SOURCES = (
    # RFC 3986, section 1.1.2
    "ftp://ftp.is.co.za/rfc/rfc1808.txt",
    "http://www.ietf.org/rfc/rfc2396.txt",
    "ldap://[2001:db8::7]/c=GB?objectClass?one",
    "mailto:John.Doe@example.com",
    "news:comp.infosystems.www.servers.unix",
    "tel:+1-816-555-1212",
    "telnet://192.0.2.16:80/",
    "urn:oasis:names:specification:docbook:dtd:xml:4.1.2",
    # section 5.4: references
    "g:h",
    "g",
    "./g",
    "g/",
    "/g",
    "//g",
    "?y",
    "g?y",
    "#s",
    "g#s",
    "g?y#s",
    ";x",
    "g;x=1/./y",
    ".",
    "..",
    "../..",
    "http:g",
    # others
    "vanus-chatGPT-source",
    "/",
    "//",
    "///",
    "a//b",
    "s:",
    "s:/",
    "s://",
    "s:a//b",
    "?",
    "#",
    "%20",
    "%e2%82%AC",
    "a%2Fb",
    "http://user:pw@h:80/p?q/?#f/?",
    "http://h:/",
    "http://[v1.x:y]/",
    "http://[::ffff:192.0.2.1]/",
    "a:b:c",
    "./1:2",
    "1cloudevents-spec.example",
    "!$&'()*+,;=",
    "~_.-@",
)
NO_SOURCES = (
    "",
    " ",
    "a b",
    " a",
    "a ",
    "a\n",
    "\na",
    "a\tb",
    "a\x00",
    "a\x7f",
    "é",
    "ü/x",
    "a\u2028",
    "\ud800",
    "%",
    "%2",
    "%zz",
    "%2g",
    "a%",
    "<a>",
    '"a"',
    "a\\b",
    "{a}",
    "a|b",
    "a^b",
    "a`b",
    "1:2",
    ":a",
    ":",
    "-a:b",
    "é:x",
    "a#b#c",
    "#a#",
    "?a#b c",
    "[a]",
    "a[0]",
    "http://[::1",
    "http://::1]/",
    "http://[]/",
    "http://[::g]/",
    "http://[::1]x/",
    "http://[v.x]/",
    "http://h:8a/",
    "http://h:80:80/",
    "http://a@b@c/",
)
NO_ADDRESSES = ("http://[:::]/", "http://[1]/", "http://[1:2:3:4:5:6:7:8:9]/", "http://[::1.2.3]/")


class SourceTests(SynchronousTestCase):
    def test_valid(self) -> None:
        for source in SOURCES:
            self.assertTrue(is_source(source), source)

    def test_invalid(self) -> None:
        for source in NO_SOURCES:
            self.assertFalse(is_source(source), source)

    def test_addresses_are_read(self) -> None:
        for source in NO_ADDRESSES:
            self.assertFalse(is_source(source), source)

    def test_long_ones_take_no_time(self) -> None:
        started = time.process_time()
        for piece in ("a", "a/", "/", "%20", "a:", "@", "?", "[", "//a", "a@", ":", "http://a"):
            for end in ("", " ", "%", "#", "##"):
                is_source(piece * (100_000 // len(piece)) + end)
                is_source("http://" + piece * (100_000 // len(piece)) + end)
        self.assertLess(time.process_time() - started, 10.0)


class TypeTests(SynchronousTestCase):
    def test_valid(self) -> None:
        for type_ in (
            "a",
            "com.example.x",
            "a b",
            "é",
            "😀",
            "\u00a0",
            "日本語",
            "<>\"'\\",
            "\ufffd",
        ):
            self.assertTrue(is_type(type_), type_)

    def test_invalid(self) -> None:
        for character in (
            *map(chr, range(0x20)),
            *map(chr, range(0x7F, 0xA0)),
            "\ufdd0",
            "\ufdef",
            "\ufffe",
            "\uffff",
        ):
            for type_ in (character, f"a{character}", f"a{character}b"):
                self.assertFalse(is_type(type_), repr(type_))
        self.assertFalse(is_type(""))

    def test_noncharacters_of_every_plane(self) -> None:
        """CloudEvents 1.0.2, section 3.1: nor lone surrogates."""
        for plane in range(1, 17):
            for low in (0xFFFE, 0xFFFF):
                self.assertFalse(is_type(chr((plane << 16) + low)), hex(plane))
        for surrogate in ("\ud800", "a\udfff"):
            self.assertFalse(is_type(surrogate))
