"""Which headers make a trace (W3C Trace Context), and which do not."""

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from chatgpt_source.cloudevent import is_string
from chatgpt_source.prompt import Trace
from chatgpt_source.telemetry.tracing import MOST_STATE, read_trace

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


class ParentTests(SynchronousTestCase):
    def read(self, *parents: str) -> Trace | None:
        return read_trace([parent.encode() for parent in parents], [])

    def test_valid(self) -> None:
        for parent in (
            PARENT,
            PARENT[:-2] + "00",
            f" {PARENT} ",
            f"01{PARENT[2:]}",
            f"cc{PARENT[2:]}-what-the-future-brings",
        ):
            self.assertEqual(self.read(parent), Trace(parent.strip()))

    def test_invalid(self) -> None:
        trace_id, span_id = PARENT.split("-")[1:3]
        for parent in (
            "",
            "x",
            f"ff{PARENT[2:]}",
            PARENT.upper(),
            f"00-{'0' * 32}-{span_id}-01",
            f"00-{trace_id}-{'0' * 16}-01",
            f"00-{trace_id[1:]}-{span_id}-01",
            f"00-{trace_id}-{span_id}",
            f"{PARENT}-x",
            f"{PARENT}x",
            f"01{PARENT[2:]}.x",
            f"{PARENT},{PARENT}",
            f"01{PARENT[2:]}-{'x' * 1000}",
        ):
            self.assertIsNone(self.read(parent), parent)

    def test_one_or_none(self) -> None:
        self.assertIsNone(self.read())
        self.assertIsNone(self.read(PARENT, PARENT))

    @settings(deadline=None)
    @given(st.lists(st.binary(max_size=80), max_size=2), st.lists(st.binary(max_size=80)))
    def test_anything(self, parents: list[bytes], states: list[bytes]) -> None:
        read_trace(parents, states)
        trace = read_trace([PARENT.encode()], states)
        assert trace
        for value in trace.members().values():
            self.assertTrue(value.isascii())
            self.assertTrue(is_string(value))


class StateTests(SynchronousTestCase):
    def state(self, *states: str) -> str | None:
        trace = read_trace([PARENT.encode()], [state.encode() for state in states])
        assert trace
        self.assertEqual(trace.parent, PARENT)
        return trace.state

    def test_valid(self) -> None:
        for states, expected in (
            ((), None),
            (("",), None),
            (("congo=t61rcWkgMzE",), "congo=t61rcWkgMzE"),
            (("rojo=1,congo=2",), "rojo=1,congo=2"),
            (("rojo=1", "congo=2"), "rojo=1,congo=2"),
            ((" a=1 ,\t, b=2 ",), "a=1,b=2"),
            (("1a-*/_@b=x y",), "1a-*/_@b=x y"),
        ):
            self.assertEqual(self.state(*states), expected)

    def test_invalid_is_left_out(self) -> None:
        for state in ("x", "=1", "A=1", "a=", "a=1=2", "a=\u00e9", "a=1,b", "1a=x", "a=\x7f"):
            self.assertIsNone(self.state(state), state)
        self.assertIsNone(self.state(",".join(f"k{n}=1" for n in range(33))))

    def test_the_first_members_of_a_long_one(self) -> None:
        state = self.state(",".join(f"k{n}={'v' * 50}" for n in range(20)))
        assert state
        self.assertLessEqual(len(state), MOST_STATE)
        self.assertTrue(state.startswith("k0=v"))
        self.assertTrue(state.endswith("v"))

    def test_a_parent_that_is_none_has_no_state(self) -> None:
        self.assertIsNone(read_trace([b"x"], [b"a=1"]))

    def test_members(self) -> None:
        self.assertEqual(Trace(PARENT).members(), {"traceparent": PARENT})
        both = Trace(PARENT, "a=1")
        self.assertEqual(both.members(), {"traceparent": PARENT, "tracestate": "a=1"})
        self.assertNotIn("4bf9", repr(both))
