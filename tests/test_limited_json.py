"""JSON of peers, read in bounded time."""

import contextlib
import json
from time import process_time
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from chatgpt_source.limited_json import MOST_MARKS, TooIntricate, check, is_deeper, read

SIZE = 2 * 2**20
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


class ReadTests(SynchronousTestCase):
    @settings(deadline=None)
    @given(VALUES)
    def test_as_json_does(self, value: Any) -> None:
        for text in (json.dumps(value), json.dumps(value, ensure_ascii=False)):
            self.assertEqual(read(text), json.loads(text))

    def test_strings_may_hold_anything(self) -> None:
        for piece in (",:[{", '\\"', "\\", '\\\\",', '\\",\\\\'):
            text = json.dumps({"content": piece * (MOST_MARKS // 2)})
            self.assertEqual(read(text), json.loads(text))

    def test_no_json(self) -> None:
        for text in ("", "[", '{"a"}', "," * 2 * MOST_MARKS, '"' * 5 * MOST_MARKS, "[" * 10**5):
            self.assertRaises((ValueError, RecursionError), read, text)

    def test_whole_numbers(self) -> None:
        for number in (0, -7, 2**63 - 1, -(2**63), 10**18):
            self.assertIs(type(read(str(number))), int)
            self.assertEqual(read(str(number)), number)
        for digits in ("1" + "0" * 30, "9" * 10**6, "-" + "9" * 10**6):
            self.assertIs(type(read(digits)), float)

    def test_too_many_members(self) -> None:
        for element in ("[]", "{}", "0", '""', '{"":0}', '"a,b"'):
            elements = [element] * (SIZE // (len(element) + 1))
            self.assertRaises(TooIntricate, read, "[" + ",".join(elements) + "]")
        keys = ",".join(f'"{number:x}":0' for number in range(SIZE // 10))
        self.assertRaises(TooIntricate, read, "{" + keys + "}")

    def test_a_bound_of_ones_own(self) -> None:
        check('["a,b", 1]', 3)
        check('[",,,,", 1]', 2)
        self.assertRaises(TooIntricate, check, '["a,b", 1]', 1)

    def test_depth(self) -> None:
        for value, depth in ((1, 0), ([], 1), ({"a": [1]}, 2), ([{}, [[{}]], {}], 4)):
            self.assertFalse(is_deeper(value, depth))
            if depth:
                self.assertTrue(is_deeper(value, depth - 1))

    def test_in_bounded_time(self) -> None:
        """What is not refused takes some milliseconds, what is refused does, too."""
        texts = [
            "[" + ",".join([element] * (MOST_MARKS // 4)) + "]"
            for element in ("[[]]", '{"":{}}', "9" * 60, "1e9", '"' + "\\n" * 25 + '"')
        ]
        texts += [
            '"' + piece * (SIZE // len(piece)) + '"' for piece in ("a", "\\n", "\\u4e2d", ",")
        ]
        texts += ["[" * SIZE, ",:" * (SIZE // 2), '",' * (SIZE // 2), '\\"' * (SIZE // 2)]
        for text in texts:
            started = process_time()
            with contextlib.suppress(ValueError, RecursionError):
                read(text)
            self.assertLess(process_time() - started, 1.0, text[:20])
