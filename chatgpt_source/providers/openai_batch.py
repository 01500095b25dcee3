"""Asks a model by OpenAI's Batch API: many prompts in a file, at half the price, within a day."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from time import perf_counter
from typing import Any

import attrs
from attrs import frozen
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.web.http_headers import Headers

from chatgpt_source.clock import wall
from chatgpt_source.config import Config
from chatgpt_source.errors import CallError, PossiblyBilled, Transient
from chatgpt_source.http.client import Client, Reply
from chatgpt_source.prompt import Answer, Prompt, Submitted
from chatgpt_source.providers import openai_chat, openai_responses
from chatgpt_source.providers.batch_lines import Line, Lines, read_line
from chatgpt_source.providers.completion import read_answer
from chatgpt_source.providers.failures import plain_word
from chatgpt_source.providers.openai import (
    MOST_BYTES,
    Server,
    read_error,
    request_headers,
    unbilled,
    with_request_id,
)
from chatgpt_source.providers.reading import read_id, read_object, unreadable
from chatgpt_source.providers.response import read_response

SILENCE = 120.0
"""Seconds in which a file that is sent or received must get on."""
MOST_LINES = 100
"""Lines of a lot."""
MOST_LOT = 2**20
"""Bytes of a lot, unless it has one line."""
BUSY = 0.002
"""Seconds of reading lines after which others may run."""
PAGE = 100
"""Files or batches in a page of a list."""
DAY = 86400.0

_UNDER_WAY = ("validating", "in_progress", "finalizing", "cancelling")
_ENDED = ("failed", "completed", "expired", "cancelled")
"""The statuses of a batch."""
_BOUNDARY = "chatgpt-source-batch"
"""Ends a part of an upload; JSON has no line that could be it."""


@frozen
class BatchStatus:
    """How far a batch is.

    Attributes:
        status: In the provider's word.
        ended: Whether nothing more will come of it.
        files: The files with its results.
        code: Why it failed, if it says so in a plain word.
    """

    status: str
    ended: bool
    files: tuple[str, ...] = ()
    code: str | None = None


class OpenAIBatch(Server):
    """Sends prompts in batches, each of which is a file of one prompt a line.

    Args:
        client: Makes the calls.
        clock: The time.
        config: The address, the key, and the parameters of a call.
    """

    def __init__(self, client: Client, clock: IReactorTime, config: Config) -> None:
        super().__init__(client, clock, config)
        self._settings = attrs.evolve(config, background=False)
        api: Any = openai_responses if config.api == "responses" else openai_chat
        self._request_body: Callable[[Prompt, Config], bytes] = api.request_body
        self._settings_sent: dict[str, str] = api.settings_sent(self._settings)
        self._read: Callable[[Reply], Answer | Submitted]
        self._read, self._endpoint = read_answer, "/v1/chat/completions"
        if config.api == "responses":
            self._read, self._endpoint = read_response, "/v1/responses"

    def line(self, prompt: Prompt) -> bytes:
        """A prompt's line of a batch's file."""
        outer = {"custom_id": prompt.id, "method": "POST", "url": self._endpoint}
        start = json.dumps(outer).encode("ascii").removesuffix(b"}")
        return b'%s, "body": %s}\n' % (start, self._request_body(prompt, self._settings))

    async def find_file(self, key: str) -> str | None:
        """The file of a batch by our key; None if it was not uploaded.

        Raises:
            CallError: If the call failed.
        """
        async for each in self._listed("files", purpose="batch"):
            if each.get("filename") == _filename(key):
                return self._id_of(each)
        return None

    async def upload(self, key: str, size: int, lines: AsyncIterator[bytes]) -> str:
        """Upload the file of a batch, and return its id.

        Args:
            key: Our key of the batch.
            size: How many bytes the lines have.
            lines: The lines, in any pieces. What they raise is raised.

        Raises:
            CallError: If the call failed.
            ValueError: If the lines have another size.
        """
        start = (
            f"--{_BOUNDARY}\r\n"
            'Content-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
            f"--{_BOUNDARY}\r\n"
            f'Content-Disposition: form-data; name="file"; filename="{_filename(key)}"\r\n'
            "Content-Type: application/jsonl\r\n\r\n"
        ).encode("ascii")
        end = f"\r\n--{_BOUNDARY}--\r\n".encode("ascii")

        async def form() -> AsyncIterator[bytes]:
            yield start
            async for piece in lines:
                yield piece
            yield end

        headers = self._headers()
        headers.setRawHeaders("Content-Type", [f"multipart/form-data; boundary={_BOUNDARY}"])
        length = len(start) + size + len(end)
        sending = self._client.send(
            self._base.child("files"), headers, length, form(), silence=SILENCE, most=MOST_BYTES
        )
        return self._id_of(_told(await self._of_kept(sending, None)))

    async def find(self, key: str, since: float) -> str | None:
        """A batch by our key; None if it was not submitted.

        Args:
            key: Our key.
            since: A date before which it was not submitted.

        Raises:
            CallError: If the call failed.
        """
        async for each in self._listed("batches"):  # the newest first
            metadata, created = each.get("metadata"), each.get("created_at")
            if isinstance(metadata, Mapping) and metadata.get("batch") == key:
                return self._id_of(each)
            if isinstance(created, int | float) and created < since - DAY:
                break
        return None

    async def submit(self, key: str, file: str) -> str:
        """Let the provider begin with a file, and return the batch's id.

        Raises:
            PossiblyBilled: If it may have begun all the same: `find` tells.
            CallError: If the call failed.
        """
        body = {
            "input_file_id": file,
            "endpoint": self._endpoint,
            "completion_window": "24h",
            "metadata": {"batch": key},
        }
        # On a kept connection it might be sent twice.
        calling = self._post(
            self._base.child("batches"), json.dumps(body).encode("ascii"), fresh=True
        )
        reply = await self._of_paid(calling)
        with with_request_id(reply):
            try:
                self._check(reply, {})
            except CallError as error:
                if reply.status < 500:  # else it may have begun, whatever the reply says
                    raise
                raise PossiblyBilled(
                    error.reason, status=error.status, retry_after=error.retry_after
                ) from None
            return read_id(read_object(reply).get("id"))

    async def look_up(self, batch: str) -> BatchStatus:
        """How far a batch is.

        Raises:
            Gone: If the provider has no such batch.
            CallError: If the call failed.
        """
        looking = self._get(self._base.child("batches", batch))
        document = _told(await self._of_look_up(looking, _BATCH))
        with unbilled():
            return _status(document)

    async def cancel(self, batch: str) -> None:
        """Let the provider stop its work on a batch; that may take minutes.

        Raises:
            Gone: If the provider has no such batch.
            CallError: If the call failed.
        """
        await self._of_kept(self._post(self._base.child("batches", batch, "cancel")), _BATCH)

    async def results(self, file: str, take: Callable[[Sequence[Line]], Awaitable[None]]) -> None:
        """Read a file of results, whatever its size, and pass on its lines in lots.

        A line that is too long or can't be read is left out. After an error, all may come again.

        Args:
            file: The file's id.
            take: Takes a lot; the next follows once that is done. What it raises is raised.

        Raises:
            Gone: If the provider has no such file.
            CallError: If the call failed.
        """
        lines, lots = Lines(), _Lots(self._clock, self._read_line, take)

        async def take_piece(piece: bytes) -> None:
            lots.resume()
            for line in lines.feed(piece):
                await lots.add(line)

        headers = self._headers()
        headers.setRawHeaders("Accept", ["*/*"])
        receiving = self._client.receive(
            self._base.child("files", file, "content"),
            headers,
            take_piece,
            silence=SILENCE,
            most=MOST_BYTES,
        )
        reply = await self._of_look_up(receiving, _FILE)
        if reply.status != 200 or reply.flaw:
            why = f"it {reply.flaw}" if reply.flaw else f"its status is {reply.status}"
            raise Transient(f"the batch's results can't be read: {why}", status=reply.status)
        await lots.add(lines.end())
        await lots.pass_on()

    async def delete(self, file: str) -> None:
        """Let the provider delete a file.

        Raises:
            Gone: If the provider has no such file.
            CallError: If the call failed.
        """
        await self._of_kept(self._delete(self._base.child("files", file)), _FILE)

    def _headers(self) -> Headers:
        return request_headers(self._config, None)

    def _id_of(self, document: Mapping[str, Any]) -> str:
        with unbilled():
            return read_id(document.get("id"))

    async def _listed(self, path: str, **query: str) -> AsyncIterator[Mapping[str, Any]]:
        """The objects of a list, page by page."""
        url = self._base.child(path)
        for name, value in {**query, "limit": str(PAGE)}.items():
            url = url.set(name, value)
        last = None
        while True:
            page = url if last is None else url.set("after", last)
            document = _told(await self._of_look_up(self._get(page), None))
            data = document.get("data")
            if not isinstance(data, list) or not all(isinstance(each, dict) for each in data):
                raise Transient("the model's list can't be read: it has no data", status=200)
            for each in data:
                yield each
            if not data or document.get("has_more") is not True:
                return
            before, last = last, self._id_of(data[-1])
            if last == before:
                raise Transient("the model's list can't be read: it does not end", status=200)

    def _read_line(self, line: bytes) -> Line | None:
        return read_line(line, self._read, self._error_of)

    def _error_of(self, reply: Reply) -> CallError:
        return read_error(reply, wall(self._clock), self._settings_sent)


class _Lots:
    """Reads lines, and passes them on in lots; lets others run after `BUSY`."""

    def __init__(
        self,
        clock: IReactorTime,
        read: Callable[[bytes], Line | None],
        take: Callable[[Sequence[Line]], Awaitable[None]],
    ) -> None:
        self._clock = clock
        self._read = read
        self._take = take
        self._lines: list[Line] = []
        self._size = 0
        self._resumed = perf_counter()

    def resume(self) -> None:
        """Count the time from now."""
        self._resumed = perf_counter()

    async def add(self, line: bytes) -> None:
        if len(self._lines) >= MOST_LINES or self._size + len(line) > MOST_LOT:
            await self.pass_on()
        read = self._read(line)
        if read is not None:
            self._lines.append(read)
            self._size += len(line)
        if perf_counter() - self._resumed >= BUSY:
            await deferLater(self._clock, 0)
            self.resume()

    async def pass_on(self) -> None:
        """Pass on what is there, if anything is."""
        lot, self._lines, self._size = self._lines, [], 0
        if lot:
            await self._take(lot)
            self.resume()


_BATCH = "this batch"
_FILE = "this file"


def _told(reply: Reply) -> dict[str, Any]:
    """The object in the reply to a call that costs nothing."""
    with with_request_id(reply), unbilled():
        return read_object(reply)


def _filename(key: str) -> str:
    return f"{key}.jsonl"


def _status(document: Mapping[str, Any]) -> BatchStatus:
    """Read a batch.

    Raises:
        PossiblyBilled: If it is none.
    """
    status = document.get("status")
    if status not in _UNDER_WAY + _ENDED:
        raise unreadable("it has no status that is known")
    files = [document.get(name) for name in ("output_file_id", "error_file_id")]
    return BatchStatus(
        status, status in _ENDED, tuple(read_id(each) for each in files if each), _code(document)
    )


def _code(batch: Mapping[str, Any]) -> str | None:
    try:
        codes = [each.get("code") for each in batch["errors"]["data"]]
    except (TypeError, LookupError, AttributeError):
        return None
    return plain_word(code for code in codes if isinstance(code, str))
