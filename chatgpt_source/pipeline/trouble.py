"""Trouble: log that calls of a kind fail, and that they succeed again, but not too often."""

from attrs import define, field
from twisted.logger import Logger

from chatgpt_source.pipeline.breaker import NEVER

QUIET = 60.0
"""Seconds from one line about failures to the next."""


@define(eq=False, repr=False)
class Trouble:
    """Logs the first failure of some, and the next success.

    Args:
        log: The log.
        fails: What the calls can't do, for people.
        works: What they can do again.
    """

    _log: Logger
    _fails: str
    _works: str
    _told: bool = field(init=False, default=False)
    _told_at: float = field(init=False, default=NEVER)

    def failed(self, why: str, now: float) -> None:
        """Note a failure."""
        if not self._told and now >= self._told_at + QUIET:
            self._told, self._told_at = True, now
            self._log.warn("{fails}: {why}", fails=self._fails, why=why)

    def succeeded(self) -> None:
        """Note a success."""
        if self._told:
            self._told = False
            self._log.info("{works}", works=self._works)
