"""Who acts on the admin site, in words for the log."""

from base64 import b64encode
from typing import Any, cast

from twisted.trial.unittest import SynchronousTestCase
from twisted.web.http_headers import Headers

from chatgpt_source.admin.operator import operator_of
from chatgpt_source.config import Credentials
from chatgpt_source.config.secret import Secret

BOTH = Credentials((Secret("a-token"),), {"jörg": Secret("a:password")})


class OperatorTests(SynchronousTestCase):
    def who(self, credentials: Credentials | None, *given: bytes) -> str:
        class Request:
            requestHeaders = Headers({b"authorization": list(given)})

        return operator_of(cast(Any, Request()), credentials)

    def test_the_user_of_a_password(self) -> None:
        basic = b64encode("jörg:a:password".encode())
        self.assertEqual(self.who(BOTH, b"Basic " + basic), "jörg")
        self.assertEqual(self.who(BOTH, b" bASIC   " + basic + b" "), "jörg")

    def test_a_token_has_no_name(self) -> None:
        self.assertEqual(self.who(BOTH, b"Bearer a-token"), "an operator with a bearer token")

    def test_where_none_is_needed_no_name_is_believed(self) -> None:
        self.assertEqual(self.who(None), "an operator without credentials")
        self.assertEqual(
            self.who(None, b"Basic " + b64encode(b"root:x")), "an operator without credentials"
        )
