"""How numbers, durations and reasons are worded."""

from twisted.trial.unittest import SynchronousTestCase

from chatgpt_source.words import age, count, sentence


class WordsTests(SynchronousTestCase):
    def test_age(self) -> None:
        told = {
            -5: "0 s",
            0.9: "0 s",
            1: "1 s",
            59.9: "59 s",
            60: "1 min",
            3599: "59 min",
            3600: "1 h",
            7500: "2 h 5 min",
            86400: "1 d",
            90000 + 3600: "1 d 2 h",
        }
        self.assertEqual({seconds: age(seconds) for seconds in told}, told)

    def test_count(self) -> None:
        self.assertEqual(count(1234567), "1,234,567")
        self.assertEqual([count(n, "ask") for n in (0, 1, 2)], ["0 asks", "1 ask", "2 asks"])
        self.assertEqual(count(2, "delivery", "deliveries"), "2 deliveries")

    def test_sentence(self) -> None:
        self.assertEqual([sentence("it is"), sentence("")], ["It is", ""])
