"""What the journal does unasked: it renews its lease, ends those of others, and deletes texts."""

from attrs import define, field
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall

from chatgpt_source.journal.postgres import records, recovery
from chatgpt_source.journal.postgres.link import Link
from chatgpt_source.journal.postgres.runner import Runner
from chatgpt_source.journal.postgres.session import Session, Steps
from chatgpt_source.journal.unforeseen import log_unforeseen
from chatgpt_source.log import get_logger

log = get_logger(__name__)

RENEW_EVERY = 5.0
"""Seconds between two renewals of the lease."""
SWEEP_EVERY = 1.0
"""Seconds between two looks for leases that have ended."""
LAPSE_EVERY = 2.0
"""Seconds between two deletions of texts that are kept no longer."""


@define(eq=False, repr=False)
class Background:
    """Does again and again what each of the daemons that share a journal is to do.

    Args:
        clock: The time.
        runner: Runs the journal's operations.
        session: What operations see.
        link: Measures the database's clock.

    Attributes:
        takeovers: How often this process has ended the leases of others.
    """

    _clock: IReactorTime
    _runner: Runner
    _session: Session
    _link: Link
    takeovers: int = field(init=False, default=0)
    _calls: list[tuple[LoopingCall, float]] = field(init=False)

    @_calls.default
    def _make_calls(self) -> list[tuple[LoopingCall, float]]:
        calls = [
            (LoopingCall(self.renew), RENEW_EVERY),
            (LoopingCall(self.sweep), SWEEP_EVERY),
            (LoopingCall(self.let_lapse), LAPSE_EVERY),
        ]
        for call, _ in calls:
            call.clock = self._clock
        return calls

    def start(self) -> None:
        """Begin."""
        for call, seconds in self._calls:
            call.start(seconds, now=False)

    def stop(self) -> None:
        """End."""
        for call, _ in self._calls:
            if call.running:
                call.stop()

    def renew(self) -> Deferred[None]:
        """Renew the lease, as every group does, and look at the database's clock."""

        async def renew() -> None:
            await self._runner.write(records.probe)
            await self._runner.read(self._measure)

        return Deferred.fromCoroutine(renew()).addErrback(
            log_unforeseen, log, "renewing the journal's lease"
        )

    def sweep(self) -> Deferred[None]:
        """End the leases that are over.

        After an outage of the database, all may be over: who lives has time to renew its own.
        """
        now = self._clock.seconds()
        if now < self._session.sweep_after:
            return succeed(None)

        async def sweep() -> None:
            # These may be what connects again after an outage, or finds that the database's clock
            # was set: both put the sweep off.
            is_over = await self._runner.read(recovery.is_any_over)
            if is_over:
                await self._runner.read(self._measure)
            if is_over and self._clock.seconds() >= self._session.sweep_after:
                ended = await self._runner.write(lambda db: recovery.sweep(db, now))
                self.takeovers += ended > 0
                if ended:
                    log.warn(
                        "the lease of {number} of the daemons that share the journal has ended,"
                        " {lease:.0f} s after its last commit: taking over what it had claimed",
                        number=ended,
                        lease=recovery.LEASE,
                    )

        return Deferred.fromCoroutine(sweep()).addErrback(
            log_unforeseen, log, "taking over what other daemons have left"
        )

    def let_lapse(self) -> Deferred[None]:
        """Delete the texts that are not needed and not kept any more."""
        now = self._clock.seconds()

        async def lapse() -> None:
            while await self._runner.write(lambda db: records.let_lapse(db, now)):
                pass
            await self._runner.write(records.add_up)

        return Deferred.fromCoroutine(lapse()).addErrback(
            log_unforeseen, log, "deleting texts from the journal"
        )

    def _measure(self, _: Session) -> Steps[None]:
        self._link.measure()
        yield from ()
