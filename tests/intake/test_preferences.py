"""What a caller prefers, and in which form it accepts the answer."""

from types import SimpleNamespace
from typing import Any, cast

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.http_headers import Headers

from chatgpt_source.http.server import BoundedRequest, Problem
from chatgpt_source.intake.preferences import (
    Form,
    Want,
    form_of,
    prefers_reply,
    wait_of,
    want_of,
)


def request(**headers: Any) -> BoundedRequest:
    """A request with headers; a list for one that comes several times."""
    raw = {name: [value] if isinstance(value, str) else value for name, value in headers.items()}
    return cast(BoundedRequest, SimpleNamespace(requestHeaders=Headers(raw)))


class WaitTests(SynchronousTestCase):
    def test_seconds(self) -> None:
        for prefer, seconds in (
            ("wait=10", 10),
            ("WAIT = 10", 10),
            ('wait="10"', 10),
            ("wait=0", 0),
            ("respond-async, wait=10", 10),
            ("wait=10;x=y, return=minimal", 10),
            (["return=minimal", "wait=10"], 10),
            (["wait=10", "wait=20"], 10),  # RFC 7240, section 2: the first one counts
            ('other="wait=5, wait=6", wait=7', 7),
            ('other="a\\", wait=5", wait=7', 7),
            (",, wait=7,", 7),
            ("wait=" + "9" * 18, 10**18 - 1),
        ):
            self.assertEqual(wait_of(request(prefer=prefer)), seconds, prefer)

    def test_none(self) -> None:
        for prefer in (
            "",
            "wait",
            "wait=",
            "wait=-1",
            "wait=1.5",
            "wait=x",
            "wait=x, wait=5",
            "wait=1 0",
            "wait=٣".encode().decode("latin-1"),
            "wait=" + "9" * 5000,
            'other="wait=5',
            "waits=5",
        ):
            self.assertIsNone(wait_of(request(prefer=prefer)), prefer)
        self.assertIsNone(wait_of(request()))

    def test_a_reply(self) -> None:
        for prefer in ("reply", "Reply", "reply; x=1", ["wait=1", "reply"], "reply="):
            self.assertTrue(prefers_reply(request(prefer=prefer)), prefer)
        for prefer in ("", "no-reply", "reply=no", 'x="reply"'):
            self.assertFalse(prefers_reply(request(prefer=prefer)), prefer)

    def test_bounded(self) -> None:
        self.assertEqual(
            want_of(request(prefer="wait=90"), 60.5), Want(60, Form.STRUCTURED, "wait=60")
        )
        for prefer, most in (("wait=0", 60), ("wait=9", 0), ("reply", 60), ("", 60)):
            self.assertIsNone(want_of(request(prefer=prefer), most), prefer)

    def test_a_reply_comes_first(self) -> None:
        wanted = want_of(request(prefer="wait=5, reply"), 60, 20)
        self.assertEqual(wanted, Want(20, Form.STRUCTURED, "reply", reply=True))
        self.assertEqual(
            want_of(request(prefer="wait=5"), 60, 20), want_of(request(prefer="wait=5"), 60)
        )

    def test_no_form_only_matters_to_who_waits(self) -> None:
        self.assertIsNone(want_of(request(accept="image/png"), 60, 20))
        for prefer in ("wait=5", "reply"):
            with self.assertRaises(Problem) as raised:
                want_of(request(accept="image/png", prefer=prefer), 60, 20)
            self.assertEqual(raised.exception.status, 406)


class FormTests(SynchronousTestCase):
    def test_forms(self) -> None:
        for form, accepts in {
            Form.STRUCTURED: (
                "*/*",
                "",
                "application/*",
                "application/cloudevents+json",
                "Application/CloudEvents+JSON; charset=utf-8",
                "application/json;q=0.5, application/cloudevents+json",
                "application/cloudevents+json;q=0.9, application/json;q=0.8",
                "text/html, image/gif, *; q=.2, */*; q=.2",
                "application/cloudevents+json, application/json, text/plain",
                ["image/png", "*/*;q=0.1"],
                "text/plain;q=nan",  # not valid, and so not there
                "text/plain;q=-1",
            ),
            Form.BINARY: (
                "application/json",
                "application/json;q=0.001",
                "application/json, text/plain, */*",
                "*/*, application/cloudevents+json;q=0",
                "*/*;q=0.1, application/json;q=0.5",
            ),
            Form.TEXT: (
                "text/plain",
                "text/*",
                "text/plain, */*",
                "text/plain;q=1.0, application/json;q=0.9",
                "text/html, text/*;q=0.1",
            ),
        }.items():
            for accept in accepts:
                self.assertIs(form_of(request(accept=accept)), form, accept)
        self.assertIs(form_of(request()), Form.STRUCTURED)

    def test_none_of_them(self) -> None:
        for accept in (
            "image/png",
            "application/cloudevents-batch+json",
            "*/*;q=0",
            "text/plain;q=0.0",
            "application/json;q=0, application/cloudevents+json;q=0, text/plain;q=0, */*",
        ):
            with self.assertRaises(Problem) as raised:
                form_of(request(accept=accept))
            self.assertEqual(raised.exception.status, 406)
            for form in Form:
                self.assertIn(form.value, raised.exception.detail)

    @settings(max_examples=300, deadline=None)
    @given(st.lists(st.text(st.characters(max_codepoint=255))))
    def test_a_form_or_a_problem(self, accept: list[str]) -> None:
        values = [value.encode("latin-1") for value in accept]
        try:
            self.assertIsInstance(form_of(request(accept=values)), Form)
        except Problem as problem:
            self.assertEqual(problem.status, 406)
        wait_of(request(prefer=values))
