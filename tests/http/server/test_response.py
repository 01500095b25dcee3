"""The head of a response, as its bytes."""

from twisted.trial.unittest import SynchronousTestCase
from twisted.web import server
from twisted.web.http import stringToDatetime

from chatgpt_source.http.server.response import encode_head


class HeadTests(SynchronousTestCase):
    def test_the_status_and_the_fields(self) -> None:
        head = encode_head(b"HTTP/1.0", 404, {"Allow": "GET", "WWW-Authenticate": ("a", "b")})
        first, *fields, end, _ = head.split(b"\r\n")
        self.assertEqual((first, end), (b"HTTP/1.0 404 Not Found", b""))
        self.assertEqual(
            fields[-3:], [b"Allow: GET", b"WWW-Authenticate: a", b"WWW-Authenticate: b"]
        )

    def test_what_each_has(self) -> None:
        head = encode_head(b"HTTP/1.1", 200, {})
        fields = dict(line.split(b": ", 1) for line in head.split(b"\r\n")[1:-2])
        self.assertEqual(set(fields), {b"Server", b"Date"})
        self.assertEqual(fields[b"Server"], server.version)
        self.assertGreater(stringToDatetime(fields[b"Date"]), 0)

    def test_a_field_is_set_once(self) -> None:
        head = encode_head(b"HTTP/1.1", 200, {"Date": "today"})
        self.assertEqual(head.count(b"Date: "), 1)
        self.assertIn(b"Date: today\r\n", head)

    def test_text_that_is_not_ascii(self) -> None:
        head = encode_head(b"HTTP/1.1", 200, {"X": "\xe4"})
        self.assertIn("X: \xe4\r\n".encode(), head)
