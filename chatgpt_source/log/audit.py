"""One line in the log for each thing that an operator does."""

from chatgpt_source.log import get_logger

log = get_logger(__name__)


def audit(who: str, did: str) -> None:
    """Log what an operator did.

    Args:
        who: The operator's name, or words for it; no credential.
        did: What was done, with ids and reasons of ours alone.
    """
    log.info("operator {who} {did}", who=who, did=did)
