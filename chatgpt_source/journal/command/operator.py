"""Runs one command of an operator on a journal."""

import argparse
import json
import os
import pwd
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from functools import partial
from typing import Any, TextIO

from attrs import field, frozen
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from chatgpt_source.clock import rfc3339, wall
from chatgpt_source.config import Credentials
from chatgpt_source.errors import NotRedriven, QuotaUsedUp
from chatgpt_source.journal import AuditEntry, Journal, Record, reason_of
from chatgpt_source.journal.command.details import details
from chatgpt_source.journal.command.parser import IN_A_TERMINAL
from chatgpt_source.journal.command.table import (
    header,
    line,
    pause_header,
    pause_line,
    pause_row,
    reason_header,
    reason_line,
    reason_row,
    row,
    since,
)
from chatgpt_source.journal.keys import possible_keys
from chatgpt_source.journal.states import WAITING
from chatgpt_source.prompt import State
from chatgpt_source.terminal import Look
from chatgpt_source.waiting import results_of
from chatgpt_source.words import count

MOST_REASONS = 10_000
PAGE = 500
"""Records read at a time, so that a long journal needs little memory."""

MOST_AT_ONCE = 50
"""Prompts in one transaction at the most."""
QUICK = 0.01
"""Seconds of one transaction; after a slower one, the next has half as many prompts."""
PAUSE = 0.03
"""Seconds between two of them at the least; after a slow one, four times its time."""

Act = Callable[[str], Coroutine[Deferred[Any], Any, tuple[bool, str]]]
"""Acts on the prompt with an id; returns whether it was done, and words for people."""


def login() -> str:
    """Who runs this process, and by what: for the log of the daemons."""
    try:
        name = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # as in a container
        name = f"user {os.getuid()}"
    return f"{name} (chatgpt-source-journal)"


@frozen(eq=False, repr=False)
class Operator:
    """Runs one command.

    Attributes:
        journal: The journal.
        clock: The time.
        out: The output.
        json: Whether to print JSON.
        pause: Waits for some seconds.
        err: The output for what is no result.
        look: How the output looks.
        credentials: The callers', whose idempotency keys are known by them.
        who: Who runs it.
    """

    journal: Journal
    clock: IReactorTime
    out: TextIO
    json: bool
    pause: Callable[[float], Awaitable[None]]
    err: TextIO
    look: Look
    credentials: Sequence[Credentials] = ()
    who: str = field(factory=login)

    async def do(self, options: argparse.Namespace) -> int:
        """Run the command; returns the exit status."""
        match options.command:
            case "list":
                return await self._list(options)
            case "show":
                return await self._show(options.id)
            case "reasons":
                return await self._reasons()
            case "paused":
                return await self._paused()
            case "pause" | "resume":
                return await self._set(options.what, is_paused=options.command == "pause")
        return await self._act_on(options)

    async def _act_on(self, options: argparse.Namespace) -> int:
        act, did = self._purge, "purged"
        if options.command == "redrive":
            act, did = self._redrive, "redrove"
        if options.all:
            wanted = await self._wanted(options)
            ids = [each.id async for each in self._oldest(State.FAILED) if wanted(each)]
            if not ids:
                self._tell_of_none("failed", options)
            return 0 if await self._each_audited(ids, act, did, options.reason) else 1
        each = partial(self._whole, partial(self._audited, act, did))
        return 0 if await self._each(options.ids, each) else 1

    async def _audited(self, act: Act, did: str, prompt_id: str) -> tuple[bool, str]:
        """Act on a prompt, for the log of a daemon."""
        done, detail = await act(prompt_id)
        if done:
            await self._audit(f"{did} {prompt_id}")
        return done, detail

    async def _each_audited(
        self, ids: Sequence[str], act: Act, did: str, reason: str | None
    ) -> bool:
        """As `_each`; what was done is one line of a daemon's log, also if not all could be."""
        acted = 0
        which = f" ({reason})" if reason and await self._is_whole(reason) else ""

        async def counted(prompt_id: str) -> tuple[bool, str]:
            nonlocal acted
            done, detail = await act(prompt_id)
            acted += done
            return done, detail

        try:
            return await self._each(ids, counted)
        finally:
            if acted:
                await self._audit(f"{did} {count(acted, 'failed prompt')}{which}")

    def _audit(self, did: str) -> Deferred[None]:
        """Let a daemon log what was done, and when: perhaps it runs later."""
        when = rfc3339(int(wall(self.clock)))
        return self.journal.audit(AuditEntry(self.who, f"{did} at {when}"))

    async def _list(self, options: argparse.Namespace) -> int:
        limit = options.limit
        if limit is None and self._is_table:
            limit = IN_A_TERMINAL
        wanted, shown = await self._wanted(options), 0
        async for record in self._newest(None if options.state == "all" else State(options.state)):
            if not wanted(record):
                continue
            if shown == limit and limit:
                self.err.write(f"and more: --limit shows more than {limit}, and 0 all\n")
                return 0
            if not shown and self._is_table:
                self.out.write(header(self.look) + "\n")
            shown += 1
            text = row(record, wall(self.clock), self.look) if self._is_table else line(record)
            self._write(record.to_dict(), text)
        if not shown:
            are_all = (
                options.state == State.FAILED.value and not options.since and not options.reason
            )
            rest = await self._of_those_that_wait() if are_all else ""
            self._tell_of_none("" if options.state == "all" else options.state, options, rest)
        return 0

    async def _of_those_that_wait(self) -> str:
        """That prompts wait, although none is failed: then all is not well yet."""
        found = [each.value for each in WAITING if await self.journal.latest(each, None, 1)]
        return f"; some are {' or '.join(found)}: --state shows them" if found else ""

    def _tell_of_none(self, state: str, options: argparse.Namespace, rest: str = "") -> None:
        """Say that there are no prompts in a state, or none of those that were chosen."""
        choice = [
            name for name, value in (("time", options.since), ("reason", options.reason)) if value
        ]
        none = f"no {state} prompts" if state else "no prompts"
        if not self.json:
            none += f" of that {' and '.join(choice)}" if choice else ""
            self.err.write(f"{none}{rest}\n")

    @property
    def _is_table(self) -> bool:
        return self.look.width is not None and not self.json

    async def _wanted(self, options: argparse.Namespace) -> Callable[[Record], bool]:
        """Whether a prompt is one of those that `--since` and `--reason` choose."""
        earliest = options.since.at(wall(self.clock)) if options.since else 0.0
        reason = options.reason or ""
        is_whole = await self._is_whole(reason)

        def wanted(record: Record) -> bool:
            error = record.error or ""
            has_it = reason_of(error) == reason if is_whole else reason.lower() in error.lower()
            return has_it and since(record) >= earliest

        return wanted

    async def _is_whole(self, reason: str) -> bool:
        """Whether this is the reason of a group, not only a part of some."""
        groups = await self.journal.failure_groups(MOST_REASONS) if reason else ()
        return any(each.reason == reason for each in groups)

    async def _reasons(self) -> int:
        groups, now = await self.journal.failure_groups(MOST_REASONS), wall(self.clock)
        if not groups and not self.json:
            self.err.write("no failed prompts\n")
        elif self._is_table:
            self.out.write(reason_header(self.look) + "\n")
        for each in groups:
            text = reason_row(each, now, self.look) if self._is_table else reason_line(each)
            self._write(each.to_dict(), text)
        return 0

    async def _paused(self) -> int:
        known, now = await self.journal.pauses(), wall(self.clock)
        paused = [each for each in known.values() if not each.resumed]
        if not paused and not self.json:
            self.err.write("nothing is paused\n")
        elif self._is_table:
            self.out.write(pause_header(self.look) + "\n")
        for each in paused:
            text = pause_row(each, now, self.look) if self._is_table else pause_line(each)
            self._write(each.to_dict(), text)
        return 0

    async def _set(self, what: str, *, is_paused: bool) -> int:
        """Pause or resume something; returns 1 if it was not paused."""
        done = True
        if is_paused:
            pause = await self.journal.pause(what, self.who)
            told = f"paused since {rfc3339(int(pause.since))} by {pause.who}"
        else:
            done = await self.journal.resume(what, self.who) is not None
            told = "resumed" if done else "not paused"
        self._say({"what": what, "done": done, "detail": told}, f"{what}  {told}")
        return 0 if done else 1

    async def _each(self, ids: Sequence[str], act: Act) -> bool:
        """Act on prompts, a few in a transaction; returns whether all were acted on.

        A daemon's write waits for one transaction at the most, then has the pause.
        """
        done, most = True, 1
        while ids:
            some, ids = ids[:most], ids[most:]
            started = self.clock.seconds()
            acts = [Deferred.fromCoroutine(self._act(id_, act)) for id_ in some]
            ended = await results_of(acts)
            done = done and all(ended)
            took = self.clock.seconds() - started
            most = min(2 * most, MOST_AT_ONCE) if took < QUICK else max(1, most // 2)
            if ids:
                await self.pause(max(PAUSE, 4 * took))
        return done

    async def _act(self, prompt_id: str, act: Act) -> bool:
        done, detail = await act(prompt_id)
        self._tell(prompt_id, detail, done=done)
        return done

    async def _whole(self, act: Act, given: str) -> tuple[bool, str]:
        """Act on the prompt whose id begins so."""
        prompt_id, detail = await self._found(given)
        if prompt_id is None:
            return False, detail
        done, detail = await act(prompt_id)
        return done, detail if prompt_id == given else f"({prompt_id}) {detail}"

    async def _found(self, given: str) -> tuple[str | None, str]:
        """The id that is given whole, or by its beginning; None, and why, if there is none."""
        ids = await self.journal.ids(given, 2) if given else []
        if not ids:
            return None, "not in this journal"
        if len(ids) > 1 and given != ids[0]:
            return None, "several ids begin so: give more of it"
        return ids[0], ""

    def _oldest(self, state: State | None) -> AsyncIterator[Record]:
        return _each_of(lambda after: self.journal.records(state, after or 0, PAGE))

    def _newest(self, state: State | None) -> AsyncIterator[Record]:
        return _each_of(lambda before: self.journal.latest(state, before, PAGE))

    async def _show(self, given: str) -> int:
        by_key = await self.journal.ids_of(possible_keys(given, self.credentials))
        if len(by_key) > 1:
            self._tell(given, f"several have this key: {', '.join(by_key)}", done=False)
            return 1
        prompt_id, detail = await self._found(by_key[0] if by_key else given)
        found = prompt_id and await self.journal.detail(prompt_id)
        if not found:
            self._tell(given, detail or "not in this journal", done=False)
            return 1
        self._write(found.to_dict(), "\n".join(details(found, self.look)))
        return 0

    async def _redrive(self, prompt_id: str) -> tuple[bool, str]:
        try:
            state = await self.journal.redrive(prompt_id)
        except NotRedriven as error:
            return False, f"not redriven: {error}"
        except QuotaUsedUp as error:
            return False, f"not redriven: asking again takes a unit, and {error.reason}"
        return True, f"to be {'delivered' if state is State.ANSWERED else 'asked'} again"

    async def _purge(self, prompt_id: str) -> tuple[bool, str]:
        gone = await self.journal.purge(prompt_id)
        return gone, "forgotten" if gone else "no failed prompt of this journal"

    def _tell(self, prompt_id: str, detail: str, *, done: bool) -> None:
        self._say({"id": prompt_id, "done": done, "detail": detail}, f"{prompt_id}  {detail}")

    def _say(self, values: Mapping[str, object], text: str) -> None:
        self._write(values, self.look.fold(text, "  "))

    def _write(self, values: Mapping[str, object], text: str) -> None:
        self.out.write(f"{json.dumps(values) if self.json else text}\n")


async def _each_of(
    page_from: Callable[[int | None], Awaitable[Sequence[Record]]],
) -> AsyncIterator[Record]:
    """The records of all pages; each page begins after the last record of the one before."""
    position = None
    while page := await page_from(position):
        for record in page:
            yield record
        position = page[-1].position
