"""An OpenAI-compatible server that also has the Files and Batch APIs; batches cost half."""

import json
import random
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from io import BytesIO
from typing import Any
from urllib.parse import parse_qs, urlsplit

import attrs
from attrs import Factory, define, field
from multipart import MultipartError, MultipartParser, parse_options_header
from twisted.web.http_headers import Headers

from tests.fakes.openai import api_error
from tests.fakes.responses import HALF, USAGE, FakeResponses, Kept, Outcome
from tests.fakes.responses import PATH as RESPONSES
from tests.fakes.server import Fault, Received, Reply

FILES = "/v1/files"
BATCHES = "/v1/batches"
CHATS = "/v1/chat/completions"
MOST_LINES = 50_000
MOST_BYTES = 200 * 10**6
DAY = 86400.0
ENDED = {"failed", "completed", "expired", "cancelled"}
_CALLS = {
    ("POST", FILES, 0): "upload",
    ("GET", FILES, 0): "list files",
    ("GET", FILES, 1): "file",
    ("GET", FILES, 2): "read",
    ("DELETE", FILES, 1): "delete",
    ("POST", BATCHES, 0): "submit",
    ("GET", BATCHES, 0): "list batches",
    ("GET", BATCHES, 1): "look up",
    ("POST", BATCHES, 2): "cancel",
}
"""The calls, by method, path and the number of names that follow the path."""
_MEMBERS = {"input_file_id", "endpoint", "completion_window", "metadata", "output_expires_after"}
_PARTS = {"purpose", "file", "expires_after[anchor]", "expires_after[seconds]"}
_WHY_NOT_RUN = {
    "expired": "This request could not be executed before the completion window expired.",
    "cancelled": "This request was not executed: the batch was cancelled.",
}


@define(eq=False)
class File:
    """A file that the fake keeps."""

    id: str
    name: str
    purpose: str
    content: bytes = field(repr=False)
    created: float

    def shown(self) -> dict[str, Any]:
        """The file as the API shows it."""
        return {
            "id": self.id,
            "object": "file",
            "bytes": len(self.content),
            "created_at": int(self.created),
            "expires_at": int(self.created + 30 * DAY),
            "filename": self.name,
            "purpose": self.purpose,
            "status": "processed",
            "status_details": None,
        }


@define(eq=False)
class Line:
    """A line of a batch.

    Attributes:
        fault: The status that it fails with; 0: it never runs, and nothing says so; None: neither.
    """

    id: str
    body: dict[str, Any] = field(repr=False)
    outcome: Outcome
    fault: int | None

    @property
    def costs(self) -> bool:
        """Whether it is billed once it has run."""
        return self.fault is None and self.outcome.status != "failed"


@define(eq=False)
class Batch:
    """A batch, and when it comes to what, by the fake's time.

    Attributes:
        lines: Its lines, in the order in which they run.
        errors: Why it fails once it has been validated.
        files: The ids of its output file and its error file, once it has ended.
    """

    id: str
    request: dict[str, Any]
    lines: Sequence[Line] = field(repr=False)
    errors: Sequence[dict[str, Any]]
    created: float
    begins: float
    finalizes: float
    completes: float
    expires: float
    cancelling: float | None = None
    cancelled: float | None = None
    files: tuple[str | None, str | None] = (None, None)
    counts: Counter[str] = Factory(Counter)

    @property
    def ends(self) -> float:
        """When it ends."""
        if self.errors:
            return self.begins
        if self.cancelled is not None:
            return min(self.cancelled, self.expires)
        return min(self.completes, self.expires)

    def status(self, now: float) -> str:
        """Its status at a moment."""
        if self.errors:
            return "failed" if now >= self.begins else "validating"
        if now >= self.ends and self.ends == self.expires:
            return "expired"
        if self.cancelled is not None:
            return "cancelled" if now >= self.ends else "cancelling"
        for status, since in (
            ("completed", self.completes),
            ("finalizing", self.finalizes),
            ("in_progress", self.begins),
        ):
            if now >= since:
                return status
        return "validating"

    def ran(self, now: float) -> Sequence[Line]:
        """The lines that have run."""
        until = min(now, self.ends)
        if self.errors or until < self.begins:
            return []
        if until >= self.finalizes:
            return self.lines
        share = (until - self.begins) / (self.finalizes - self.begins)
        return self.lines[: int(share * len(self.lines))]

    def end(self, now: float) -> None:
        """Let it end now; all its lines run, unless it is cancelled."""
        if self.cancelled is not None:
            self.cancelled = min(self.cancelled, now)
        elif now < self.ends:
            self.begins, self.finalizes = min(self.begins, now), min(self.finalizes, now)
            self.completes = now


class FakeBatches(FakeResponses):
    """`/v1/files` and `/v1/batches` beside what `FakeResponses` has.

    A file is taken as it is; a batch whose file is wrong fails once it has been validated, and a
    line whose body is wrong fails alone. Either is a complaint too.

    Args:
        reactor: The real reactor.
        token: The only key it takes; None: any.

    Attributes:
        validating: How many seconds a new batch is validated.
        running: How many seconds its lines take, all together.
        finalizing: How many seconds its results take then.
        cancelling: How many seconds its end takes once it is cancelled; its lines run meanwhile.
        window: The seconds after which it expires.
        listed_after: The seconds after which a new batch is in the list.
        failures: The codes that the next batches fail with once they have been validated.
        line_faults: What befalls the next lines of batches: see `Line.fault`.
        troubles: For each call what befalls the next ones. A Reply: it is the answer, and the call
            has no effect. A Fault: the call has its effect, and the fault befalls the reply; of a
            file that is read, half the content comes first.
        files: The files that it keeps, by id.
        batches: The batches, by id.
        paid: How often each line of a batch was billed, by its `custom_id`.
        time: Tells the fake's time; the reactor's clock unless a test says otherwise.
    """

    def __init__(self, reactor: Any, token: str | None = None) -> None:
        super().__init__(reactor, token)
        self.validating = 0.02
        self.running = 0.2
        self.finalizing = 0.02
        self.cancelling = 0.1
        self.window = DAY
        self.listed_after = 0.0
        self.failures: deque[str] = deque()
        self.line_faults: deque[int | None] = deque()
        self.troubles: dict[str, deque[Reply | Fault]] = {call: deque() for call in _CALLS.values()}
        self.files: dict[str, File] = {}
        self.batches: dict[str, Batch] = {}
        self.time: Callable[[], float] = reactor.seconds
        self._made = 0

    def now(self) -> float:
        return self.time()

    @property
    def paid(self) -> Counter[str]:
        now = self.now()
        ran = (line for batch in self.batches.values() for line in batch.ran(now))
        return Counter(line.id for line in ran if line.costs)

    @property
    def billed(self) -> int:
        return super().billed + self.paid.total()

    @property
    def money(self) -> float:
        return super().money + HALF * self.paid.total()

    def calls(self, name: str) -> list[Received]:
        """The calls of a name that came in, like "submit"."""
        return [request for request in self.requests if _call_of(request) == name]

    def end_batches(self) -> None:
        """Let all batches that are under way end now."""
        for batch in self.batches.values():
            batch.end(self.now())

    def expire_batches(self) -> None:
        """Let the window of all batches that are under way end now."""
        now = self.now()
        for batch in self.batches.values():
            if now < batch.ends:
                batch.expires = now

    def objection(self, request: Received) -> Reply | None:
        if not _is_ours(request):
            return super().objection(request)
        if _call_of(request) is None:
            return self._complain(404, f"Invalid URL ({request.method} {request.path})", None)
        return self._objection_to_key(request)

    def default(self, request: Received) -> Reply:
        if not _is_ours(request):
            return super().default(request)
        call = _call_of(request)
        trouble = self.troubles[call].popleft() if self.troubles[call] else Fault.NONE
        if isinstance(trouble, Reply):
            return trouble
        self._finish_batches()
        reply = self._reply_to(call, request)
        if trouble is Fault.NONE:
            return reply
        body = reply.body[: len(reply.body) // 2] if call == "read" else reply.body
        return attrs.evolve(reply, body=body, fault=trouble)

    def _reply_to(self, call: str, request: Received) -> Reply:
        about_all = {
            "upload": self._upload,
            "submit": self._submit,
            "list files": self._list_files,
            "list batches": self._list_batches,
        }
        if call in about_all:
            return about_all[call](request)
        path, names, _ = _read_path(request)
        kept = (self.files if path == FILES else self.batches).get(names[0])
        if kept is None:
            return api_error(404, f"No such {path.removeprefix('/v1/')} object: {names[0]}")
        about_one = {"read": self._read, "delete": self._delete, "cancel": self._cancel}
        return about_one.get(call, self._show)(kept)

    def _upload(self, request: Received) -> Reply:
        try:
            parts = _read_form(request)
        except MultipartError:
            return self._complain(400, "We could not parse the form of your request.", None)
        wrong = {part.name: "Unknown parameter." for part in parts if part.name not in _PARTS}
        fields = {part.name: part for part in parts}
        if len(fields) != len(parts):
            return self._complain(400, "A parameter comes twice.", None)
        file = fields.get("file")
        if file is None or not file.filename:
            wrong["file"] = "'file' is a required property"
        elif not file.filename.endswith(".jsonl"):
            wrong["file"] = "Invalid file format for Batch API. Must be .jsonl"
        elif file.size > MOST_BYTES:
            wrong["file"] = "File is too large."
        if "purpose" not in fields or fields["purpose"].value != "batch":
            wrong["purpose"] = "Here it must be 'batch'."
        for param, message in wrong.items():
            return self._complain(400, message, "invalid_value", param)
        request.body = b""  # the file has it
        return self._reply(self._keep(file.filename, "batch", file.raw).shown())

    def _keep(self, name: str, purpose: str, content: bytes) -> File:
        file = File(self._new("file"), name, purpose, content, self.now())
        self.files[file.id] = file
        return file

    def _submit(self, request: Received) -> Reply:
        asked = request.document
        if not isinstance(asked, dict):
            return self._complain(400, "We could not parse the JSON body of your request.", None)
        wrong = {name: "Unknown parameter." for name in asked if name not in _MEMBERS}
        metadata = asked.get("metadata", {})
        if asked.get("endpoint") not in {CHATS, RESPONSES}:
            wrong["endpoint"] = "Invalid value."
        if asked.get("completion_window") != "24h":
            wrong["completion_window"] = "Invalid value: it must be '24h'."
        if not isinstance(metadata, dict) or not all(
            isinstance(text, str) and len(name) <= 64 and len(text) <= 512
            for name, text in metadata.items()
        ):
            wrong["metadata"] = "Invalid value: it must have texts."
        file = self.files.get(asked.get("input_file_id"))
        if file is None or file.purpose != "batch":
            wrong["input_file_id"] = "No such file, or not one of purpose 'batch'."
        for param, message in wrong.items():
            return self._complain(400, message, "invalid_value", param)
        lines, errors = self._read_lines(file, asked["endpoint"])
        if self.failures and not errors:
            errors = [_error(self.failures.popleft(), None, "This is why it failed.")]
        now = self.now()
        begins = now + self.validating
        finalizes = begins + self.running
        batch = Batch(
            id=self._new("batch"),
            request=asked,
            lines=lines,
            errors=errors,
            created=now,
            begins=begins,
            finalizes=finalizes,
            completes=finalizes + self.finalizing,
            expires=now + self.window,
        )
        self.batches[batch.id] = batch
        return self._reply(self._shown(batch))

    def _read_lines(
        self, file: File, endpoint: str
    ) -> tuple[Sequence[Line], Sequence[dict[str, Any]]]:
        """The lines of a file, shuffled, and what is wrong with it."""
        lines: list[Line] = []
        errors = []
        ids, models = set(), set()
        for number, text in enumerate(file.content.splitlines(), 1):
            read = _read_line(text)
            if read is None:
                errors.append(_error("invalid_json_line", number, "This line is not a request."))
                continue
            if read["custom_id"] in ids:
                errors.append(_error("duplicate_custom_id", number, "The custom_id is not unique."))
            if read["url"] != endpoint:
                errors.append(_error("url_mismatch", number, "The url is not the endpoint."))
            ids.add(read["custom_id"])
            models.add(str(read["body"].get("model")))
            lines.append(Line(read["custom_id"], read["body"], Outcome(), None))
        if not lines and not errors:
            errors.append(_error("empty_file", None, "The file is empty."))
        if len(models) > 1:
            errors.append(_error("model_mismatch", None, "One model a batch."))
        if len(lines) > MOST_LINES:
            errors.append(_error("too_many_tasks", None, "There are too many lines."))
        self.complaints += [error["message"] for error in errors]
        for line in [] if errors or self.failures else lines:
            line.outcome = self._outcome()
            fault = self.line_faults.popleft() if self.line_faults else None
            wrong = self._objection_to_body(line.body, endpoint)
            line.fault = fault if wrong is None else wrong.status
        random.Random(len(lines)).shuffle(lines)
        return lines, errors

    def _objection_to_body(self, body: dict[str, Any], endpoint: str) -> Reply | None:
        for name in ("background", "stream"):
            if body.get(name):
                return self._complain(400, "Not in a batch.", "invalid_value", name)
        if endpoint == RESPONSES:
            return self._objection_to_prompt(body)
        return self._objection_to_chat(_as_request(body))

    def _cancel(self, batch: Batch) -> Reply:
        now = self.now()
        if batch.status(now) in ENDED:
            return api_error(409, f"Cannot cancel a batch with status '{batch.status(now)}'.")
        if batch.cancelling is None:
            batch.cancelling, batch.cancelled = now, now + self.cancelling
        return self._reply(self._shown(batch))

    def _finish_batches(self) -> None:
        """Write the results of those that have ended meanwhile."""
        now = self.now()
        for batch in self.batches.values():
            if now < batch.ends or batch.errors or batch.counts:
                continue
            ran = batch.ran(now)
            results = [self._result(line, batch) for line in ran if line.fault != 0]
            good = [line for status, line in results if status == 200]
            bad = [line for status, line in results if status != 200]
            why = batch.status(now)
            if why in _WHY_NOT_RUN:
                error = {"code": f"batch_{why}", "message": _WHY_NOT_RUN[why]}
                bad += [_result_line(line, None, error) for line in batch.lines[len(ran) :]]
            batch.counts.update(total=len(batch.lines), completed=len(good), failed=len(bad))
            batch.files = (self._write(batch, "output", good), self._write(batch, "error", bad))

    def _write(self, batch: Batch, kind: str, lines: Iterable[bytes]) -> str | None:
        content = b"".join(lines)
        name = f"{batch.id}_{kind}.jsonl"
        return self._keep(name, "batch_output", content).id if content else None

    def _result(self, line: Line, batch: Batch) -> tuple[int, bytes]:
        status = line.fault or 200
        if line.fault:
            code = {429: "rate_limit_exceeded", 400: "invalid_value"}.get(status, "server_error")
            body = json.loads(api_error(status, code=code).body)
        elif batch.request["endpoint"] == CHATS:
            reply = self._completion(_as_request(line.body), line.outcome, "default")
            body = json.loads(reply.body)
        else:
            body = self.body_of(Kept(f"resp_{line.id}", line.body, line.outcome, 0.0, 0.0))
        response = {"status_code": status, "request_id": "req_fake", "body": body}
        return status, _result_line(line, response, None)

    def _shown(self, kept: File | Batch) -> dict[str, Any]:
        if isinstance(kept, File):
            return kept.shown()
        now = self.now()
        status = kept.status(now)
        validated = status not in {"validating", "failed"}
        ran = kept.ran(now)
        good = sum(line.fault is None for line in ran)
        counts = kept.counts or Counter(
            total=len(kept.lines) if validated else 0, completed=good, failed=len(ran) - good
        )
        output, error = kept.files
        ended_at = {f"{each}_at": int(kept.ends) if status == each else None for each in ENDED}
        finalizing = validated and kept.finalizes <= min(now, kept.ends)
        usage = {name: (n if isinstance(n, dict) else n * good) for name, n in USAGE.items()}
        return {
            "id": kept.id,
            "object": "batch",
            "endpoint": kept.request["endpoint"],
            "errors": {"object": "list", "data": kept.errors} if status == "failed" else None,
            "input_file_id": kept.request["input_file_id"],
            "completion_window": "24h",
            "status": status,
            "output_file_id": output,
            "error_file_id": error,
            "created_at": int(kept.created),
            "in_progress_at": int(kept.begins) if now >= kept.begins and validated else None,
            "expires_at": int(kept.expires),
            "finalizing_at": int(kept.finalizes) if finalizing else None,
            "cancelling_at": None if kept.cancelling is None else int(kept.cancelling),
            **ended_at,
            "model": kept.lines[0].body.get("model") if kept.lines and validated else None,
            "request_counts": {name: counts[name] for name in ("total", "completed", "failed")},
            "usage": usage if status in ENDED and validated else None,
            "metadata": kept.request.get("metadata"),
        }

    def _list_files(self, request: Received) -> Reply:
        query = _read_path(request)[2]
        files = [f for f in self.files.values() if query.get("purpose", f.purpose) == f.purpose]
        return self._list(files, query, most=10_000, usual=10_000)

    def _list_batches(self, request: Received) -> Reply:
        until = self.now() - self.listed_after
        batches = [batch for batch in self.batches.values() if batch.created <= until]
        return self._list(batches, _read_path(request)[2], most=100, usual=20)

    def _list(self, kept: Sequence[Any], query: dict[str, str], *, most: int, usual: int) -> Reply:
        """A page of what the fake keeps, newest first."""
        limit = int(query.get("limit", usual))
        if not 1 <= limit <= most:
            return self._complain(400, f"It must be from 1 to {most}.", "invalid_value", "limit")
        if query.get("order") != "asc":
            kept = kept[::-1]
        ids = [each.id for each in kept]
        after = query.get("after")
        if after is not None and after not in ids:
            return self._complain(400, "There is no such object.", "invalid_value", "after")
        first = 0 if after is None else ids.index(after) + 1
        page = [self._shown(each) for each in kept[first : first + limit]]
        return self._reply(
            {
                "object": "list",
                "data": page,
                "first_id": page[0]["id"] if page else None,
                "last_id": page[-1]["id"] if page else None,
                "has_more": first + limit < len(kept),
            }
        )

    def _read(self, file: File) -> Reply:
        headers = {"Content-Type": "application/octet-stream", "x-request-id": "req_fake"}
        return Reply(200, file.content, headers)

    def _delete(self, file: File) -> Reply:
        del self.files[file.id]
        return self._reply({"id": file.id, "object": "file", "deleted": True})

    def _show(self, kept: File | Batch) -> Reply:
        return self._reply(self._shown(kept))

    def _new(self, kind: str) -> str:
        self._made += 1
        return {"file": f"file-{self._made}", "batch": f"batch_{self._made}"}[kind]


def _is_ours(request: Received) -> bool:
    return _read_path(request)[0] in {FILES, BATCHES}


def _call_of(request: Received) -> str | None:
    """The name of a call of these APIs."""
    path, names, _ = _read_path(request)
    if names[1:] not in ([], ["content" if path == FILES else "cancel"]):
        return None
    return _CALLS.get((request.method, path, len(names)))


def _read_path(request: Received) -> tuple[str, list[str], dict[str, str]]:
    """The path of the API, the names that follow it, and the query."""
    url = urlsplit(request.path)
    parts = url.path.split("/")
    query = {name: values[0] for name, values in parse_qs(url.query).items()}
    return "/".join(parts[:3]), parts[3:], query


def _read_form(request: Received) -> list[Any]:
    """The parts of a form.

    Raises:
        MultipartError: If it is none.
    """
    kind, options = parse_options_header(request.header("content-type") or "")
    if kind != "multipart/form-data" or "boundary" not in options:
        raise MultipartError("no form")
    body = BytesIO(request.body)
    return MultipartParser(body, options["boundary"], len(request.body), strict=True).parts()


def _read_line(text: bytes) -> dict[str, Any] | None:
    """A line of a batch's file; None if it can't be read as one."""
    try:
        line = json.loads(text)
        kinds = {name: type(value) for name, value in line.items()}
    except (ValueError, AttributeError):
        return None
    known = {"custom_id": str, "method": str, "url": str, "body": dict}
    return line if kinds == known and line["method"] == "POST" and line["custom_id"] else None


def _as_request(body: dict[str, Any]) -> Received:
    """A line of a batch as the call that it stands for."""
    return Received("POST", CHATS, Headers(), b"", 0.0, body)


def _error(code: str, line: int | None, message: str) -> dict[str, Any]:
    return {"code": code, "line": line, "message": message, "param": None}


def _result_line(line: Line, response: Any, error: Any) -> bytes:
    result = {
        "id": f"batch_req_{line.id}",
        "custom_id": line.id,
        "response": response,
        "error": error,
    }
    return json.dumps(result).encode() + b"\n"
