"""A secret is shown to nobody, and follows its file."""

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from chatgpt_source.config.secret import MOST_BYTES, Secret, SecretUnusable


def word(text: str) -> str:
    if " " in text.strip():
        raise SecretUnusable("one word")
    return text.strip()


class SecretTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.file = Path(self.mktemp()).absolute()

    def put(self, text: str | bytes) -> None:
        """Replace the file, as a mounted Secret's is."""
        new = self.file.with_suffix(".new")
        new.write_bytes(text if isinstance(text, bytes) else text.encode())
        new.replace(self.file)

    def test_not_shown(self) -> None:
        for secret in (Secret("MARKED"), [Secret("MARKED")]):
            self.assertNotIn("MARKED", f"{secret!r} {secret}")

    def test_equality(self) -> None:
        self.assertEqual(Secret("a"), Secret("a"))
        self.assertEqual(hash(Secret("a")), hash(Secret("a")))
        self.assertNotEqual(Secret("a"), Secret("b"))
        self.assertNotEqual(Secret("a"), Secret("a", self.file))
        self.assertNotEqual(Secret("a"), "a")

    def test_follows_its_file(self) -> None:
        self.put("first\n")
        secret = Secret.of_file(self.file, word)
        self.assertEqual(secret.read(), "first")
        self.put("second")
        self.assertEqual(secret.read(), "second")

    def test_follows_a_file_that_changes_while_it_is_read(self) -> None:
        self.put("first")

        def check(text: str) -> str:
            if text == "first":
                self.put("second")
            return text

        self.assertEqual(Secret.of_file(self.file, check).read(), "second")

    def test_follows_links(self) -> None:
        """Kubernetes swaps a link to the folder that all files of a Secret are in."""
        folder = self.file.parent / "mounted"
        for name in ("1", "2"):
            (folder / name).mkdir(parents=True)
            (folder / name / "token").write_text(name)
        (folder / "..data").symlink_to("1")
        (folder / "token").symlink_to("..data/token")
        secret = Secret.of_file(folder / "token", word)
        self.assertEqual(secret.read(), "1")
        (folder / "..new").symlink_to("2")
        (folder / "..new").replace(folder / "..data")
        self.assertEqual(secret.read(), "2")

    def test_stays_as_it_is_while_the_file_is_of_no_use(self) -> None:
        self.put("first")
        secret = Secret.of_file(self.file, word)
        for spoil in (lambda: self.put("MARK ED"), self.file.unlink, lambda: self.put(b"\xff")):
            spoil()
            self.assertEqual(secret.read(), "first")
        self.put("second")
        self.assertEqual(secret.read(), "second")

    def test_unusable(self) -> None:
        def why() -> str:
            error = self.assertRaises(SecretUnusable, Secret.of_file, self.file, word)
            self.assertIn(str(self.file), str(error))
            self.assertNotIn("MARK", str(error))
            return str(error)

        self.assertIn("No such file", why())
        self.put("MARK ED")
        self.assertIn("does not hold one word", why())
        self.put(b"MARK\xff")
        self.assertIn("UTF-8", why())
        self.put("x" * (MOST_BYTES + 1))
        self.assertIn("more than", why())
        self.file.unlink()
        self.file.mkdir()
        self.assertIn("directory", why())
