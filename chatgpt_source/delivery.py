"""The CloudEvent call: an event to the target (HTTP binding, structured mode)."""

from twisted.internet.interfaces import IReactorTime
from twisted.web.http_headers import Headers

from chatgpt_source.client import Client, FixedURL, NoReply, NotSent
from chatgpt_source.event import CONTENT_TYPE
from chatgpt_source.prompt import Again
from chatgpt_source.retry import retry_after, target_error

TIMEOUT = 30.0
MOST_BYTES = 64 * 2**10
"""How much of the target's answer is read; nothing in it matters."""


class Target:
    """Delivers to the one receiver of events.

    Args:
        client: Makes the call.
        clock: Tells what a `Retry-After` date means.
        url: The receiver.
    """

    def __init__(self, client: Client, clock: IReactorTime, url: str) -> None:
        self._client = client
        self._clock = clock
        self._url = FixedURL.from_text(url)
        self._headers = Headers({b"Content-Type": [CONTENT_TYPE.encode("ascii")]})

    async def deliver(self, event: bytes) -> None:
        """Deliver once.

        Raises:
            CallError: Of the class that says what to do with the event.
        """
        try:
            reply = await self._client.post(
                self._url, self._headers, event, timeout=TIMEOUT, most=MOST_BYTES
            )
        except NotSent as error:
            raise Again(f"the target can't be reached: {error}") from None
        except NoReply as error:
            raise Again(f"the target did not answer: {error}") from None
        if not 200 <= reply.status < 300:
            raise target_error(reply.status, retry_after(reply.header, self._clock.seconds()))
