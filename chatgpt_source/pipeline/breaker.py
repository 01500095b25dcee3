"""A peer's circuit breaker: whether a call may start now, how many at once, and why not.

The outcomes of the calls change three things:

- the circuit: a hold opens it. Then one call at a time passes, a probe: the first after 30 s, then
  at intervals that double to 10 min. Any success closes it;
- the throttle: a 429 stops all calls. Then one call passes at a time, and one more after each
  success of these; the calls of before, which may take long, do not count;
- the pace: after `STREAK` failures in a row, a peer gets `PACE` calls a second at most, so that a
  long backlog does not overload it. A drain ends that (`paced`).

A peer is unsteady if its calls fail now and then: `SETBACKS` of the last `AMONG` failed, each after
a success. That changes nothing for the calls, but is told until it is `UNSTEADY_FOR` seconds ago.

Where daemons share a journal, each adopts the circuit and the throttle that another has met, and a
probe begins only once it is granted (`grant_probe`).
"""

from collections import deque
from collections.abc import Callable

from attrs import define, field, frozen

from chatgpt_source.errors import CallError, PeerFailure, PossiblyBilled, Transient
from chatgpt_source.journal import PeerState
from chatgpt_source.log import get_logger
from chatgpt_source.pipeline.backoff import backoff, probe_interval
from chatgpt_source.pipeline.decide import Others

log = get_logger(__name__)

STREAK = 50
PACE = 20.0
SETBACKS = 3
AMONG = 20
UNSTEADY_FOR = 300.0

NEVER = float("-inf")


@define(eq=False, repr=False)
class Call:
    """A call under way, when it was started, and at which place of a route."""

    started: float
    place: int = 0


@frozen
class _Setback:
    """A call that failed after one that succeeded."""

    number: int
    at: float
    reason: str


@define(eq=False, repr=False)
class Breaker:
    """The breaker of one peer; instants are the steady clock's.

    Args:
        peer: Its name for messages, like "the model".
        limit: How many calls may be under way at once.
        random: Numbers from 0 to 1, for the backoff's jitter.
        changed: Called after each change of the circuit or the throttle, to store the state.
        has_other: Whether another peer can take the calls: then each failure that passes throttles.
        shared: Whether other daemons call the peer too.
    """

    peer: str
    limit: int
    _random: Callable[[], float]
    _changed: Callable[[PeerState], None] = field(default=lambda _: None)
    has_other: bool = False
    shared: bool = False
    under_way: int = field(init=False, default=0)
    _recent: int = field(init=False, default=0)
    """How many of them were started since the last throttle."""
    since: float | None = field(init=False, default=None)
    """When `trouble` began; None while there is none."""
    failed_at: float = field(init=False, default=NEVER)
    """When the last call failed that made or kept `trouble`."""
    maybe_billed: bool = field(init=False, default=False)
    """Whether what failed last may have been billed, so that it is tried a few times only."""
    paced: bool = field(init=False, default=True)
    tried: bool = field(init=False, default=False)
    """Whether any call has ended."""
    _succeeded: float = field(init=False, default=NEVER)
    _succeeded_start: float = field(init=False, default=NEVER)
    _refusals: int = field(init=False, default=0)
    _trouble: str | None = field(init=False, default=None)
    _held: str | None = field(init=False, default=None)
    _misses: int = field(init=False, default=0)
    _probe: Call | None = field(init=False, default=None)
    _probe_at: float = field(init=False, default=NEVER)
    _granted_until: float = field(init=False, default=NEVER)
    """Until when a probe may begin here, where others call the peer too."""
    _throttles: int = field(init=False, default=0)
    _throttled_at: float = field(init=False, default=NEVER)
    _closed_until: float = field(init=False, default=NEVER)
    _window: int = field(init=False)
    _streak: int = field(init=False, default=0)
    _paced_until: float = field(init=False, default=NEVER)
    _ended: int = field(init=False, default=0)
    _setbacks: deque[_Setback] = field(init=False, factory=lambda: deque(maxlen=SETBACKS))
    unsteady_since: float = field(init=False, default=NEVER)
    """When it became unsteady, if it is."""

    def __attrs_post_init__(self) -> None:
        self._window = self.limit

    def restore(self, state: PeerState, now: float) -> None:
        """Continue with an earlier process's state: the next call is due when it was due there."""
        if state.held is not None:
            self._open_as(state, now)
        if state.throttled_until is not None and state.throttled_until > now:
            self._closed_until = state.throttled_until
            self._window = 1

    def adopt(self, state: PeerState, now: float) -> None:
        """Take over what another daemon knows."""
        if state.held is None:
            if self._held is not None:
                log.info("{peer} answers another daemon again: resuming", peer=self.peer)
                self._held = self._trouble = self._probe = self.since = None
                self._misses = 0
        elif self._probe is None:
            if self._held is None:
                log.warn(
                    "another daemon holds all calls to {peer}: {reason}",
                    peer=self.peer,
                    reason=state.held,
                )
            self._open_as(state, now)
        until = state.throttled_until
        if until is not None and until > max(now, self._closed_until):
            self._closed_until = until
            self._narrow(now)

    def _open_as(self, state: PeerState, now: float) -> None:
        """Open the circuit as a state has it."""
        self._held = state.held
        self.since = now if state.since is None else state.since
        self._misses = max(1, state.misses)
        self._probe_at = now if state.probe_at is None else state.probe_at
        self.tried = True

    def probe_until(self, now: float) -> float | None:
        """When the probe that is due would give way to another's; None: none is to be granted."""
        if not self._held or self._probe or now < max(self._probe_at, self._granted_until):
            return None
        return now + probe_interval(max(1, self._misses))

    def waits(self, now: float) -> bool:
        """Whether no call passes, because of a hold or a throttle."""
        return self.held or now < self._closed_until

    @property
    def probes(self) -> bool:
        """Whether a probe is under way."""
        return self._probe is not None

    def try_now(self, now: float) -> None:
        """Let one call pass at once, as if it were due: an operator has mended the peer.

        If it fails, the next probes come as soon as at first: somebody is at work on it.
        """
        self._misses = 0
        self._closed_until = min(self._closed_until, now)
        self._probe_at = min(self._probe_at, now)
        self._changed(self.state)

    def grant_probe(self, until: float) -> None:
        """Let a probe begin, until then."""
        self._granted_until = until

    @property
    def state(self) -> PeerState:
        """What the journal stores for the next start."""
        return PeerState(
            held=self._held,
            since=self.since,
            misses=self._misses,
            probe_at=self._probe_at if self._held else None,
            throttled_until=self._closed_until if self._closed_until > NEVER else None,
        )

    def resume_gradually(self) -> None:
        """Begin with one call at a time, because an earlier process's last calls failed."""
        self._window = 1

    @property
    def trouble(self) -> str | None:
        """Why calls to the peer fail, for people; None after a success."""
        return self._held or self._trouble

    def unsteady(self, now: float) -> str | None:
        """Why calls to the peer fail now and then, for people; None if they do not."""
        if self.held or len(self._setbacks) < SETBACKS:
            return None
        first, last = self._setbacks[0], self._setbacks[-1]
        if self._ended - first.number >= AMONG or now - last.at > UNSTEADY_FOR:
            return None
        return f"calls to {self.peer} fail now and then: {last.reason}"

    @property
    def others(self) -> Others:
        """The calls to this peer, as `decide` compares them with one that failed."""
        return Others(self._succeeded_start, self._succeeded, self._refusals, self.held)

    @property
    def held(self) -> bool:
        """Whether the circuit is open."""
        return self._held is not None

    def throttled(self, now: float) -> bool:
        """Whether a 429, or earlier failures, hold calls back that `limit` would allow."""
        return now < self._closed_until or self._recent >= self._window < self.limit

    def is_well(self, now: float) -> bool:
        """Whether it is only for lack of a free slot if no call may start now."""
        return not self._held and self._window >= self.limit and self.opens_at <= now

    def works(self, now: float) -> bool:
        """Whether calls pass, as far as is known: all of them, or gradually after a throttle."""
        return self.trouble is None and self.opens_at <= now

    @property
    def opens_at(self) -> float:
        """When a call may pass, as far as that depends on time; in the past if it may now."""
        if self._held:
            return max(self._closed_until, self._probe_at)
        return max(self._closed_until, self._paced_until if self._is_paced else NEVER)

    @property
    def _is_paced(self) -> bool:
        return self.paced and self._streak >= STREAK

    def room(self, now: float) -> int:
        """How many calls may start now."""
        if now < self.opens_at or (self._held and self._probe):
            return 0
        if self._held and self.shared and now >= self._granted_until:
            return 0
        free = min(self.limit - self.under_way, self._window - self._recent)
        if self._held:
            free = min(1, self.limit - self.under_way)
        elif self._is_paced:
            free = min(1, free)
        return max(0, free)

    def start(self, now: float, call: Call | None = None) -> Call:
        """Count a call that starts. The caller must call `end` for it."""
        call = call or Call(now)
        self.under_way += 1
        self._recent += self._is_recent(call)
        if self._held and self._probe is None and now >= self._probe_at:
            self._probe = call
            self._granted_until = NEVER
        if self._is_paced:
            self._paced_until = now + 1 / PACE
        return call

    def end(self, call: Call) -> None:
        """Count a call that has ended."""
        self.under_way -= 1
        self._recent -= self._is_recent(call)
        self._ended += 1
        if call is self._probe:
            self._probe = None

    def succeeded(self, call: Call, now: float) -> None:
        """Record a success: it closes the circuit, and one more call may be under way.

        After a throttle, only a call that was started since then makes room for one more.
        """
        if self._held:
            log.info("{peer} answers again: resuming", peer=self.peer)
        known = self._held is not None
        self._held = self._trouble = self._probe = self.since = None
        self._misses = self._streak = self._refusals = 0
        self._paced_until = NEVER
        if self._is_recent(call):  # else it says nothing of what the peer bears now
            known = known or self._throttles > 0
            self._throttles = 0
            self._window = min(self.limit, self._window + 1)
        self._succeeded = now
        self._succeeded_start = max(self._succeeded_start, call.started)
        self.tried = True
        if known:
            self._changed(self.state)

    def failed(
        self, call: Call, error: CallError, now: float, *, shared: bool, alone: bool = False
    ) -> None:
        """Record a failure.

        Args:
            call: The call.
            error: How it failed.
            now: The time.
            shared: Whether a 429 throttles all calls, not this prompt's alone.
            alone: Whether a hold is this prompt's own fault.
        """
        self.tried, before = True, self.state
        if isinstance(error, PeerFailure) and not alone:
            self._hold(call, error, now)
        elif isinstance(error, Transient):
            if self.trouble is None and self._succeeded > NEVER:
                self._set_back(error.reason, now)
            self.since = now if self.since is None else self.since
            self._trouble, self.failed_at = error.reason, now
            self.maybe_billed = isinstance(error, PossiblyBilled)
            self._streak += 1
        elif error.status == 200:  # as for a refusal: the peer works
            self.succeeded(call, now)
        else:
            self._refusals += alone
            self._trouble = None
            self.since = self.since if self._held else None
            self._streak = 0
        passes = self.has_other and isinstance(error, Transient)
        if passes or (error.throttled and shared and not isinstance(error, PeerFailure)):
            self._throttle(call, error, now)
        if call is self._probe:
            self._held = error.reason  # what it met is newer than what opened the circuit
            self._probe_at = max(self._probe_at, now + probe_interval(max(1, self._misses)))
        if self.state != before and (self._held or self._closed_until > now):
            self._changed(self.state)

    def forgive(self) -> None:
        """Forget the failures of calls that nobody needs any more."""
        self._trouble = self.since = None

    def throttle(self, call: Call, error: CallError, now: float) -> None:
        """Throttle all calls because of another peer's call, which shares this one's limits."""
        self._throttle(call, error, now)
        self._changed(self.state)

    def _set_back(self, reason: str, now: float) -> None:
        was_unsteady = self.unsteady(now) is not None
        self._setbacks.append(_Setback(self._ended, now, reason))
        if not was_unsteady:
            self.unsteady_since = self._setbacks[0].at

    def _hold(self, call: Call, error: PeerFailure, now: float) -> None:
        if self._held is not None and call is not self._probe:
            return  # it was started before the circuit opened
        self._misses += 1
        self._probe_at = now + probe_interval(self._misses)
        if self._held is None:
            self.since = now
            log.error(
                "{reason}; holding all calls to {peer}, next probe in {wait:.0f} s",
                reason=error.reason,
                peer=self.peer,
                wait=self._probe_at - now,
            )
        self._held = error.reason

    def _is_recent(self, call: Call) -> bool:
        """Whether a call was started since the last throttle."""
        return call.started > self._throttled_at

    def _narrow(self, now: float) -> None:
        """Let one call at a time pass; those that are under way do not count."""
        self._throttled_at, self._window, self._recent = now, 1, 0

    def _throttle(self, call: Call, error: CallError, now: float) -> None:
        if self._is_recent(call):  # else it was started before the last 429
            self._throttles += 1
            self._narrow(now)
        wait = error.retry_after or backoff(max(1, self._throttles), self._random)
        self._closed_until = max(self._closed_until, now + wait)
