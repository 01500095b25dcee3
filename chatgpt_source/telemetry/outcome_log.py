"""Writes the log's lines about prompts: one for each outcome."""

from chatgpt_source.log import get_logger
from chatgpt_source.prompt import State
from chatgpt_source.telemetry.observer import AskEnded, DeliveryEnded, Observer

log = get_logger(__name__)

UNKNOWN = "-"
"""The log's text for an unknown request id."""
_ACCEPTED = "accepted: id={id} bytes={bytes} status={status} seconds={seconds:.3f}"
_ACCEPTED_WAITS = "accepted: id={id} bytes={bytes} seconds={seconds:.3f}"
_TRIED_AGAIN = "{reason}: id={id} request_id={request_id}{by}, next attempt in {wait:.1f} s"
_FAILED = "set aside: id={id} request_id={request_id}{by} {reason}"


class OutcomeLog(Observer):
    """Writes the lines."""

    def accepted(
        self, *, prompt_id: str, size: int, seconds: float, waits: bool = False, **_: object
    ) -> None:
        """A prompt was accepted; if its caller waits, the response has a line of its own."""
        log.info(
            _ACCEPTED_WAITS if waits else _ACCEPTED,
            id=prompt_id,
            bytes=size,
            status=202,
            seconds=seconds,
        )

    def asked(self, ended: AskEnded) -> None:
        """A call to the model has ended."""
        if ended.answer is not None:
            log.info(
                "answered: id={id} asks={asks} request_id={request_id}{by}",
                id=ended.id,
                asks=ended.ask.total,
                request_id=ended.answer.request_id or UNKNOWN,
                by=_by(ended),
            )
        elif ended.state is State.SUBMITTED:
            log.info(
                "submitted: id={id} asks={asks} submitted={submitted}{by}",
                id=ended.id,
                asks=ended.ask.total,
                submitted=ended.submitted,
                by=_by(ended),
            )
        elif ended.error is not None or ended.state is not None:
            _tell_failure(ended, ended.error.request_id if ended.error else None)

    def sent(self, ended: DeliveryEnded) -> None:
        """A call to a receiver of events has ended."""
        if ended.is_dead_letter:
            _tell_dead_letter(ended)
        elif ended.state is State.DELIVERED:
            log.info(
                "delivered: id={id} deliveries={deliveries} request_id={request_id}",
                id=ended.id,
                deliveries=ended.delivery.attempt,
                request_id=ended.delivery.request_id or UNKNOWN,
            )
        else:
            _tell_failure(ended, ended.delivery.request_id)

    def cancelled(self, *, prompt_id: str) -> None:
        """A prompt was cancelled."""
        log.info("cancelled: id={id}", id=prompt_id)


def _by(ended: AskEnded | DeliveryEnded) -> str:
    """Who was called, if there are several."""
    provider = ended.provider if isinstance(ended, AskEnded) else None
    return "" if provider is None else f" provider={provider}"


def _tell_failure(ended: AskEnded | DeliveryEnded, request_id: str | None) -> None:
    if ended.state is State.FAILED:
        log.error(
            _FAILED,
            id=ended.id,
            request_id=request_id or UNKNOWN,
            by=_by(ended),
            reason=ended.reason,
        )
        return
    polled_again = isinstance(ended, AskEnded) and ended.submitted is not None
    tell = log.debug if ended.held or polled_again else log.warn
    tell(
        _TRIED_AGAIN,
        id=ended.id,
        request_id=request_id or UNKNOWN,
        by=_by(ended),
        reason=ended.error.reason if ended.error else UNKNOWN,
        wait=ended.wait,
    )


def _tell_dead_letter(ended: DeliveryEnded) -> None:
    if ended.error is None:
        log.info("dead letter delivered: id={id}", id=ended.id)
    elif ended.reason is not None:
        log.error("dead letter not delivered: id={id} {reason}", id=ended.id, reason=ended.reason)
