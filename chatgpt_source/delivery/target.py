"""Sends an event to its receiver and classifies failures (CloudEvents HTTP binding)."""

import hashlib
import hmac
from base64 import b64decode, b64encode
from collections.abc import Iterator, Mapping, Sequence
from functools import partial

from twisted.internet.interfaces import IReactorTime
from twisted.web.http_headers import Headers

from chatgpt_source.clock import wall
from chatgpt_source.config import Config
from chatgpt_source.config.secret import Secret
from chatgpt_source.delivery.event import CONTENT_TYPE, binary
from chatgpt_source.errors import CallError, PeerFailure, Permanent, Transient, first_class
from chatgpt_source.http.client import Client, FixedURL, NoReply, NotSent
from chatgpt_source.http.client.retry_after import read_retry_after
from chatgpt_source.http.server import origin_of
from chatgpt_source.prompt import DEAD_LETTER, TARGET, Delivery, Receiver, receiver_at

TIMEOUT = 30.0
_REFUSES = {401, 403, 404, 410}
"""Statuses that an event would meet too, whatever the method."""
MOST_BYTES = 64 * 2**10
"""Bytes of a receiver's response that are read; its content is not used."""


class Target:
    """Delivers events to one receiver.

    Args:
        client: Makes the call.
        clock: The time, for `Retry-After` dates and signatures.
        url: The receiver's address.
        mode: `structured` or `binary`.
        headers: Headers of each call.
        signing: The secrets that sign each call (Standard Webhooks); several during a rotation.
        receiver: The receiver's name and setting, for error messages.
    """

    def __init__(
        self,
        client: Client,
        clock: IReactorTime,
        url: str,
        mode: str = "structured",
        headers: Mapping[str, Secret] | None = None,
        signing: Sequence[Secret] = (),
        receiver: Receiver = TARGET,
    ) -> None:
        self._client = client
        self._clock = clock
        self._url = FixedURL.from_text(url)
        self._mode = mode
        self._settings = headers or {}
        self._signing = signing
        self._receiver = receiver

    async def deliver(self, delivery: Delivery) -> int:
        """Deliver once, and return the HTTP status.

        Raises:
            CallError: Its subclass says what to do with the event.
        """
        headers, body = self._message(delivery)
        try:
            reply = await self._client.post(
                self._url,
                headers,
                body,
                timeout=TIMEOUT,
                most=MOST_BYTES,
                fresh=delivery.attempt > 1,
            )
        except NotSent as error:
            raise Transient(f"{self._receiver.name} can't be reached: {error}") from None
        except NoReply as error:
            raise Transient(f"{self._receiver.name} did not answer: {error}") from None
        if not 200 <= reply.status < 300:
            wait = read_retry_after(reply.header, wall(self._clock))
            raise receiver_error(self._receiver, reply.status, wait)
        return reply.status

    @property
    def origin(self) -> str:
        """Its address without path and query, which may be secret."""
        return origin_of(self._url.to_text())

    async def try_to_reach(self) -> str:
        """Send OPTIONS, which is no event; what came of it, in words.

        Raises:
            CallError: If no event can be expected to get there.
        """
        headers = Headers({name: [secret.read()] for name, secret in self._settings.items()})
        try:
            reply = await self._client.options(self._url, headers, timeout=TIMEOUT, most=MOST_BYTES)
        except (NotSent, NoReply) as error:
            raise Transient(f"{self._receiver.name} can't be reached: {error}") from None
        if reply.status in _REFUSES or reply.status >= 500:
            raise receiver_error(self._receiver, reply.status)
        return f"answers ({reply.status} to OPTIONS)"

    def _message(self, delivery: Delivery) -> tuple[Headers, bytes]:
        named, body = {"content-type": CONTENT_TYPE}, delivery.event
        if self._mode == "binary":
            named, body = binary(delivery.event)
        if delivery.trace is not None:
            named |= delivery.trace.members()
        named |= {name: secret.read() for name, secret in self._settings.items()}
        if self._signing:
            secrets = [secret.read() for secret in self._signing]
            named |= signature(secrets, delivery.id, int(wall(self._clock)), body)
        return Headers({name: [value] for name, value in named.items()}), body


def targets_of(
    config: Config, client: Client, clock: IReactorTime
) -> Iterator[tuple[Receiver, Target]]:
    """The receivers of events that the settings name."""
    target_at = partial(Target, client, clock)
    mode = config.content_mode
    yield (
        TARGET,
        target_at(config.target, mode, config.target_headers, config.signing_secret),
    )
    for name, each in config.targets.items():
        settings = each.url, each.content_mode, each.headers, each.signing_secret
        yield receiver_at(name), target_at(*settings, receiver_at(name))
    if config.dead_letter is not None:
        yield DEAD_LETTER, target_at(config.dead_letter, mode, receiver=DEAD_LETTER)


def signature(secrets: Sequence[str], id_: str, timestamp: int, body: bytes) -> dict[str, str]:
    """The headers that sign a message (Standard Webhooks).

    Args:
        secrets: Each `whsec_` and base64; each adds a signature.
        id_: The message's id: the same for each attempt.
        timestamp: When it is sent, in seconds since the epoch.
        body: As it is sent.
    """
    signed = f"{id_}.{timestamp}.".encode() + body
    keys = [b64decode(secret.partition("_")[2] + "==") for secret in secrets]  # may lack padding
    digests = [hmac.new(key, signed, hashlib.sha256).digest() for key in keys]
    return {
        "webhook-id": id_,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(f"v1,{b64encode(digest).decode()}" for digest in digests),
    }


def receiver_error(receiver: Receiver, status: int, wait: float | None = None) -> CallError:
    """Classify a receiver's response that is not a 2xx.

    Args:
        receiver: The receiver.
        status: The HTTP status.
        wait: The result of `read_retry_after`.
    """
    setting = f"check `{receiver.setting}`"
    kind, why = first_class(
        (status in {404, 408, 409, 429} or status >= 500, Transient, ""),
        (status in {401, 403}, PeerFailure, ": check which credentials it requires"),
        (status == 410, PeerFailure, f": it asks us to stop: {setting}"),
        (300 <= status < 400, Permanent, f", a redirect, which is not followed: {setting}"),
        (True, Permanent, ": it refuses this event"),
    )
    return kind(f"{receiver.name} answered {status}{why}", status=status, retry_after=wait)
