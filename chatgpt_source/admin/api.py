"""The admin site's JSON API: status, the latest prompts, one prompt, redrive, a prompt to try."""

import re

from attrs import frozen

from chatgpt_source.admin.redrive import Redriver
from chatgpt_source.admin.status import Status
from chatgpt_source.errors import NotRedriven, QuotaUsedUp
from chatgpt_source.http.server import BoundedRequest, Problem, to_json
from chatgpt_source.intake.accepting import retry_after_header
from chatgpt_source.intake.answers import answer_accepted
from chatgpt_source.intake.api import Intake
from chatgpt_source.prompt import State

PAGE = 50
LONGEST_PAGE = 500
"""Prompts on a page of the list: by default, and at most."""


@frozen
class Api:
    """The JSON API; each method answers a request.

    They raise Problem or JournalUnavailable.
    """

    intake: Intake
    status_: Status
    redriver: Redriver

    async def status(self, request: BoundedRequest) -> None:
        """Answer `GET /api/status`."""
        request.answer(200, to_json(await self.status_.to_dict()))

    async def prompts(self, request: BoundedRequest) -> None:
        """Answer `GET /api/prompts`: a page, the latest first, and where the next page begins."""
        state = read_state(_argument(request, "state"))
        limit = read_whole("limit", _argument(request, "limit"), LONGEST_PAGE) or PAGE
        before = read_whole("before", _argument(request, "before"), 2**63 - 1)
        records = await self.intake.journal.latest(state, before, limit)
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

    async def redrive(self, request: BoundedRequest) -> None:
        """Answer `POST /api/prompts/<id>/redrive`."""
        prompt_id = _id(request)
        await self.intake.record(prompt_id)  # raises 404 for an unknown id
        try:
            state = await self.redriver.one(prompt_id)
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
        """Answer `POST /api/redrive`."""
        try:
            done, refused = await self.redriver.all()
        except NotRedriven as error:
            raise Problem(409, f"{error}: wait for its end") from None
        told = f"Taken up again: {done}."
        if refused:
            told += f" Still failed, as asking takes a unit and the day has none left: {refused}."
        request.answer(200, to_json({"redriven": done, "refused": refused, "detail": told}))

    async def accept(self, request: BoundedRequest) -> None:
        """Answer `POST /api/prompts`: a prompt to try, accepted as on the prompt port."""
        answer_accepted(request, await self.intake.accept(request), "/api/prompts")


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
