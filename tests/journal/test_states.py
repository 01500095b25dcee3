"""The table of a prompt's states."""

from twisted.trial.unittest import SynchronousTestCase

from chatgpt_source.journal.states import TRANSITIONS, WAITING, Event, after
from chatgpt_source.prompt import State


class StateTests(SynchronousTestCase):
    def test_every_state_has_a_row(self) -> None:
        self.assertEqual(set(TRANSITIONS), set(State))

    def test_every_event_happens_somewhere(self) -> None:
        self.assertEqual({event for row in TRANSITIONS.values() for event in row}, set(Event))

    def test_every_state_can_be_reached(self) -> None:
        reached = {State.ACCEPTED}
        for _ in State:
            reached |= {state for each in reached for state in TRANSITIONS[each].values()}
        self.assertEqual(reached, set(State))

    def test_what_leads_where(self) -> None:
        self.assertIs(after(State.ACCEPTED, Event.ANSWERED), State.ANSWERED)
        self.assertIs(after(State.ANSWERED, Event.DELIVERED), State.DELIVERED)
        self.assertIs(after(State.FAILED, Event.ASKED_AGAIN), State.ACCEPTED)
        self.assertIs(after(State.FAILED, Event.DELIVERED_AGAIN), State.ANSWERED)
        for state in WAITING:
            self.assertIs(after(state, Event.FAILED), State.FAILED)

    def test_what_can_not_happen(self) -> None:
        for state, event in (
            (State.ACCEPTED, Event.DELIVERED),
            (State.DELIVERED, Event.FAILED),
            (State.FAILED, Event.ANSWERED),
        ):
            self.assertRaises(KeyError, after, state, event)

    def test_what_waits_is_what_can_still_fail(self) -> None:
        self.assertEqual(WAITING, (State.ACCEPTED, State.SUBMITTED, State.ANSWERED))
