"""Reads an answer in JSON where `response_format` asks for that, and checks it."""

from collections.abc import Mapping
from typing import Any

from attrs import define, evolve, field
from twisted.internet.defer import DeferredLock
from twisted.internet.threads import deferToThreadPool

from chatgpt_source import limited_json
from chatgpt_source.errors import Permanent
from chatgpt_source.json_schema import Question, faults
from chatgpt_source.prompt import Answer
from chatgpt_source.providers.reading import is_plain

AT_ONCE = 16
"""Checks of one process at the most."""
MOST_MARKS = 2**16
"""The bound of `limited_json` for an answer's JSON: less than 20 ms, for more than models write."""

Form = Mapping[str, Any]
"""A `response_format`, in the form of the chat API."""


@define(eq=False, repr=False)
class _Open:
    """A question, and what was found."""

    question: Question
    found: str | None = None


@define(eq=False, repr=False)
class Checks:
    """Checks answers against schemas, in processes that last as long as there are any waiting.

    Attributes:
        reactor: The reactor, in one of whose threads a process is awaited.
    """

    reactor: Any
    _waiting: list[_Open] = field(factory=list)
    _running: DeferredLock = field(factory=DeferredLock)

    async def check_schema(self, form: Form | None) -> None:
        """Check the schema that a form has, if it has one, before a call is paid for.

        Raises:
            Permanent: If no answer can be checked against it.
        """
        if form is not None and form.get("type") == "json_schema":
            found = await self._found(form["json_schema"]["schema"])
            if found:
                raise Permanent(f"no answer can have the prompt's `response_format`: {found}")

    async def structured(self, answer: Answer, form: Form | None) -> Answer:
        """An answer with the value of its JSON as its content; the same one if it needs no JSON.

        Raises:
            Permanent: If it is not what was asked for.
        """
        kind = "text" if form is None else form.get("type", "text")
        if form is None or kind == "text" or answer.content is None:
            return answer
        value = _value(answer)
        if kind == "json_schema":
            found = await self._found(form["json_schema"]["schema"], value)
        else:
            found = "" if isinstance(value, dict) else "it is not a JSON object"
        if found:
            raise _wrong(found)
        return evolve(answer, content=value)

    async def _found(self, *question: Any) -> str:
        """The result of `faults`: one process checks what has come while the last one worked."""
        mine = _Open(question)
        self._waiting.append(mine)
        await self._running.acquire()
        try:
            while mine.found is None:
                batch = self._waiting[:AT_ONCE]
                questions = [each.question for each in batch]
                pool = self.reactor.getThreadPool()
                found = await deferToThreadPool(self.reactor, pool, faults, questions)
                del self._waiting[: len(found)]
                for each, told in zip(batch, found, strict=False):
                    each.found = told
        finally:
            self._running.release()
        return mine.found


def _value(answer: Answer) -> Any:
    try:
        limited_json.check(answer.content, MOST_MARKS)
        value = limited_json.read(answer.content)
        plain = is_plain(value)
    except limited_json.TooIntricate:
        raise _wrong("its JSON has too many members") from None
    except ValueError:
        cut = answer.finish_reason == "length"
        raise _wrong("its JSON is cut off" if cut else "it is not JSON") from None
    except RecursionError:
        plain = False
    if not plain:
        raise _wrong("its JSON is nested too deeply, or has odd numbers or characters")
    return value


def _wrong(found: str) -> Permanent:
    return Permanent(f"the answer is not what `response_format` asks for: {found}", status=200)
