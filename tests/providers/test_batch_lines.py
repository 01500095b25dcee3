"""Lines that come in any pieces."""

from twisted.trial.unittest import SynchronousTestCase

from chatgpt_source.providers.batch_lines import MOST_LINE, Lines


class LinesTests(SynchronousTestCase):
    def test_in_pieces_of_any_size(self) -> None:
        text = b"one\n\ntwo\nthree"
        for size in range(1, len(text) + 1):
            lines = Lines()
            pieces = [text[at : at + size] for at in range(0, len(text), size)]
            ended = [line for piece in pieces for line in lines.feed(piece)]
            self.assertEqual(ended, [b"one", b"", b"two"])
            self.assertEqual((lines.end(), lines.end()), (b"three", b""))

    def test_one_that_is_too_long_is_left_out_whole(self) -> None:
        lines = Lines()
        for piece in (b"x" * MOST_LINE, b"x", b"the rest"):
            self.assertEqual(list(lines.feed(piece)), [])
        self.assertEqual(list(lines.feed(b"of it\nnext\n")), [b"", b"next"])

    def test_one_that_is_just_as_long_as_it_may_be(self) -> None:
        self.assertEqual(list(Lines().feed(b"x" * MOST_LINE + b"\n")), [b"x" * MOST_LINE])
