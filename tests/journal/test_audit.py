"""What commands have done is logged once."""

from twisted.logger import capturedLogs, formatEvent

from chatgpt_source.journal import AuditEntry
from chatgpt_source.journal.audit import LOOK_EVERY, AuditWatch
from tests.journal.common import JournalTestCase


class AuditWatchTests(JournalTestCase):
    def test_by_one_daemon(self) -> None:
        watches = [AuditWatch(self.clock, self.journal) for _ in range(2)]
        for each in watches:
            each.start()
            self.addCleanup(each.stop)
        self.successResultOf(self.journal.audit(AuditEntry("alice", "purged p1")))
        with capturedLogs() as logged:
            self.clock.pump([LOOK_EVERY] * 3)
        self.assertEqual([formatEvent(each) for each in logged], ["operator alice purged p1"])

    def test_no_more_once_it_is_stopped(self) -> None:
        watch = AuditWatch(self.clock, self.journal)
        watch.start()
        watch.stop()
        self.successResultOf(self.journal.audit(AuditEntry("alice", "purged p1")))
        self.clock.pump([LOOK_EVERY] * 3)
        self.assertTrue(self.successResultOf(self.journal.has_audit_entries()))
