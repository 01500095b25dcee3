"""All that an engine of the journal promises."""

from tests.contracts.answers import AnswersContract
from tests.contracts.attempts import AttemptsContract
from tests.contracts.history import HistoryContract
from tests.contracts.journal import JournalContract
from tests.contracts.operators import OperatorsContract


class EngineContract(
    JournalContract, AnswersContract, AttemptsContract, HistoryContract, OperatorsContract
):
    """The contracts of the journal, for one engine."""
