"""The admin site's JSON API: status, history, prompts, failures by reason, what operators do."""

import re
from urllib.parse import unquote

from attrs import frozen

from chatgpt_source.admin.actions import Actions, Busy, Unknown
from chatgpt_source.admin.archive import Archive
from chatgpt_source.admin.operator import operator_of
from chatgpt_source.admin.ranges import LATEST, RANGES, Range
from chatgpt_source.admin.search import Search
from chatgpt_source.admin.status import Status
from chatgpt_source.errors import NotCancelled, NotRedriven, NotTried, QuotaUsedUp
from chatgpt_source.http.server import BoundedRequest, Problem, to_json
from chatgpt_source.intake.accepting import retry_after_header
from chatgpt_source.intake.answers import answer_accepted
from chatgpt_source.intake.api import Intake, not_cancelled, unknown_prompt
from chatgpt_source.journal.failure_groups import FailureGroups
from chatgpt_source.log.audit import audit
from chatgpt_source.prompt import State
from chatgpt_source.words import count, sentence

PAGE = 50
LONGEST_PAGE = 500
"""Prompts on a page of the list: by default, and at most."""
LONGEST_WORD = 255
"""Characters of what is searched for, at most."""


@frozen
class Api:
    """The JSON API; each method answers a request.

    They raise Problem or JournalUnavailable.
    """

    intake: Intake
    status_: Status
    groups: FailureGroups
    actions: Actions
    search_: Search
    archive: Archive

    async def status(self, request: BoundedRequest) -> None:
        """Answer `GET /api/status`."""
        request.answer(200, to_json(await self.status_.to_dict()))

    async def history(self, request: BoundedRequest) -> None:
        """Answer `GET /api/history`: what happened in a range, column by column."""
        past = await self.archive.past(read_range(_argument(request, "range")))
        request.answer(200, to_json(past.to_dict()))

    async def prompts(self, request: BoundedRequest) -> None:
        """Answer `GET /api/prompts`: a page, the latest first, and where the next page begins."""
        state = read_state(_argument(request, "state"))
        limit = read_whole("limit", _argument(request, "limit"), LONGEST_PAGE) or PAGE
        before = read_whole("before", _argument(request, "before"), 2**63 - 1)
        reason = _argument(request, "reason")
        if reason is not None and state not in {None, State.FAILED}:
            raise Problem(400, "only failed prompts have a `reason`: leave out `state`")
        records = await self.intake.journal.latest(state, before, limit, reason)
        more = records[-1].position if len(records) == limit else None
        request.answer(
            200, to_json({"prompts": [record.to_dict() for record in records], "next": more})
        )

    async def prompt(self, request: BoundedRequest) -> None:
        """Answer `GET /api/prompts/<id>`: a prompt, and what happened to it, call by call."""
        detail = await self.intake.detail(_id(request))
        request.answer(200, to_json(detail.to_dict()))

    async def batches(self, request: BoundedRequest) -> None:
        """Answer `GET /api/batches`."""
        request.answer(200, to_json((await self.status_.tiers.read()).to_dict()))

    async def search(self, request: BoundedRequest) -> None:
        """Answer `GET /api/search`: the prompts of an id, its beginning, or an idempotency key."""
        word = (_argument(request, "q") or "").strip()
        if not 0 < len(word) <= LONGEST_WORD:
            raise Problem(
                400,
                "`q` must be an id, the beginning of one, or an idempotency key, of at most"
                f" {LONGEST_WORD} characters",
            )
        found = await self.search_.find(word)
        request.answer(
            200,
            to_json(
                {"prompts": [record.to_dict() for record in found.records], "more": found.more}
            ),
        )

    async def failures(self, request: BoundedRequest) -> None:
        """Answer `GET /api/failures`: the failed prompts by reason, the largest group first."""
        groups = await self.groups.read()
        request.answer(200, to_json({"groups": [each.to_dict() for each in groups]}))

    async def redrive(self, request: BoundedRequest) -> None:
        """Answer `POST /api/prompts/<id>/redrive`."""
        prompt_id = _id(request)
        await self.intake.record(prompt_id)  # raises 404 for an unknown id
        try:
            state = await self.actions.redrive(prompt_id, self._who(request))
        except QuotaUsedUp as refusal:
            raise Problem(
                429,
                f"asking again takes a unit, and {refusal.reason}: try again after midnight",
                retry_after_header(refusal),
            ) from None
        except NotRedriven as error:
            raise Problem(409, f"only a failed prompt can be redriven: {error}") from None
        request.answer(200, to_json({"id": prompt_id, "state": state.value}))

    async def redrive_all(self, request: BoundedRequest) -> None:
        """Answer `POST /api/redrive`: all failed prompts, or those of a `reason`."""
        reason = _argument(request, "reason")
        try:
            done, refused = await self.actions.redrive_all(reason, self._who(request))
        except Busy as error:
            raise _busy(error) from None
        told = f"Taken up again: {count(done)}."
        if refused:
            told += " Still failed, as asking takes a unit and the day has none left: "
            told += f"{count(refused)}."
        request.answer(200, to_json({"redriven": done, "refused": refused, "detail": told}))

    async def purge(self, request: BoundedRequest) -> None:
        """Answer `POST /api/prompts/<id>/purge`."""
        prompt_id = _id(request)
        await self.intake.record(prompt_id)  # raises 404 for an unknown id
        if not await self.actions.purge(prompt_id, self._who(request)):
            raise Problem(409, "only a failed prompt can be purged")
        request.answer(200, to_json({"id": prompt_id, "purged": True}))

    async def purge_all(self, request: BoundedRequest) -> None:
        """Answer `POST /api/purge`: all failed prompts, or those of a `reason`."""
        reason = _argument(request, "reason")
        try:
            done = await self.actions.purge_all(reason, self._who(request))
        except Busy as error:
            raise _busy(error) from None
        request.answer(200, to_json({"purged": done, "detail": f"Purged: {count(done)}."}))

    async def cancel(self, request: BoundedRequest) -> None:
        """Answer `POST /api/prompts/<id>/cancel`."""
        prompt_id = _id(request)
        try:
            cancelled = await self.actions.cancel(prompt_id, self._who(request))
        except NotCancelled as refusal:
            raise not_cancelled(refusal) from None
        if cancelled is None:
            raise unknown_prompt()
        request.answer(200, to_json({"id": prompt_id, "state": State.CANCELLED.value}))

    async def pause(self, request: BoundedRequest) -> None:
        """Answer `POST /api/pause/<what>`."""
        what = _id(request)
        try:
            pause = await self.actions.pause(what, self._who(request))
        except Unknown as error:
            raise Problem(404, str(error)) from None
        request.answer(200, to_json({**pause.to_dict(), "paused": True}))

    async def resume(self, request: BoundedRequest) -> None:
        """Answer `POST /api/resume/<what>`."""
        what = _id(request)
        try:
            was_paused = await self.actions.resume(what, self._who(request))
        except Unknown as error:
            raise Problem(404, str(error)) from None
        request.answer(200, to_json({"what": what, "paused": False, "was_paused": was_paused}))

    def _who(self, request: BoundedRequest) -> str:
        return operator_of(request, self.intake.config.admin_auth)

    async def try_now(self, request: BoundedRequest) -> None:
        """Answer `POST /api/peers/<label>/try`."""
        pipeline, label = self.intake.pipeline, unquote(_id(request))
        if label not in pipeline.queues:
            names = ", ".join(pipeline.queues)
            raise Problem(404, f"no peer has this name: it must be one of {names}")
        audit(self._who(request), f"tries {label} now")
        try:
            peer = await pipeline.try_now(label)
        except NotTried as refusal:
            raise Problem(409, str(refusal)) from None
        request.answer(202, to_json({"peer": label, "detail": f"{sentence(peer)} is called now."}))

    async def accept(self, request: BoundedRequest) -> None:
        """Answer `POST /api/prompts`: a prompt to try, accepted as on the prompt port."""
        accepted = await self.intake.accept(request)
        audit(self._who(request), f"tried {accepted.ids[0]}")
        answer_accepted(request, accepted, "/api/prompts")


def _busy(error: Busy) -> Problem:
    return Problem(409, f"{error}: wait for its end")


def read_state(value: str | None) -> State | None:
    """A state to filter by.

    Raises:
        Problem: 400 if it is not a state.
    """
    try:
        return State(value) if value is not None else None
    except ValueError:
        names = ", ".join(state.value for state in State)
        raise Problem(400, f"`state` must be one of {names}") from None


def read_range(value: str | None) -> Range:
    """A range of the history.

    Raises:
        Problem: 400 if it is none.
    """
    if value is None:
        return LATEST
    if value not in RANGES:
        raise Problem(400, f"`range` must be one of {', '.join(RANGES)}")
    return RANGES[value]


def read_whole(name: str, value: str | None, most: int) -> int | None:
    """A whole number from the query.

    Raises:
        Problem: 400 if it is not a whole number from 1 to `most`.
    """
    if value is None:
        return None
    if not re.fullmatch("[0-9]{1,19}", value) or not 1 <= int(value) <= most:
        raise Problem(400, f"`{name}` must be a whole number from 1 to {most}")
    return int(value)


def _argument(request: BoundedRequest, name: str) -> str | None:
    values = request.args.get(name.encode("ascii"), [])
    return values[-1].decode("utf-8", "replace") if values else None


def _id(request: BoundedRequest) -> str:
    return request.route().split("/")[3]
