"""Files that are none, never end, or grow without end: one line each, and never a hang."""

import os

from tests.certificates import Authority
from tests.e2e.processes import LOG_TO_STDOUT, Daemon, DaemonCase, together

GOOD = "target: http://localhost:1\ntoken: t\n"
BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12)
)
PATIENCE = 15


class FileTests(DaemonCase):
    def fifo(self):
        path = self.file("")
        path.unlink()
        os.mkfifo(path)
        return path

    def sparse(self):
        path = self.file(GOOD)
        os.truncate(path, 2**40)
        return path

    def tls(self, **files):
        private, chain = Authority(self.file("").parent).issue("server")
        given = "".join(f":{name}={path}" for name, path in files.items())
        return f"listen: 'ssl:18443:privateKey={private}:certKey={chain}{given}'\n"

    async def refused(self, config, *words, **environ):
        daemon = Daemon(self, config, **environ)
        for arguments in (("chatgpt-source",), ("chatgpt-source", "--check")):
            process = daemon.launch(
                "--nodaemon",
                "--pidfile=",
                f"--rundir={daemon.dir}",
                LOG_TO_STDOUT,
                arguments=arguments,
            )
            self.assertEqual(await process.end(PATIENCE), 1, process.text)
            self.assertEqual(len(process.text.splitlines()), 1, process.text)
            for word in words:
                self.assertIn(word, process.text)
            self.assertNotIn("Traceback", process.text)

    async def test_configs(self):
        fifo, sparse = self.fifo(), self.sparse()
        await together(
            self.refused(GOOD, "config file", "a pipe", CONNECTOR_CONFIG=str(fifo)),
            self.refused(GOOD, "config file", "bytes", CONNECTOR_CONFIG=str(sparse)),
            self.refused(GOOD, "config file", "a device", CONNECTOR_CONFIG="/dev/zero"),
            self.refused(GOOD + f"body:\n  {BOMB.replace(chr(10), chr(10) + '  ')}", "alias"),
            self.refused(GOOD + "body: {a: &a [*a]}\n", "within itself"),
            self.refused(GOOD + f"timezone: {'a/' * 1000}b\n", "`timezone`"),
        )

    async def test_a_long_list_is_not_read_to_its_end(self):
        config = GOOD + f"body: {{a: [{'a,' * 500_000}]}}\n"
        daemon = Daemon(self, config, forked=False)  # else it is no child of ours
        started = os.times().children_user
        process = daemon.launch(arguments=("chatgpt-source", "--check"))
        self.assertEqual(await process.end(PATIENCE), 1, process.text)
        self.assertIn("values", process.text)
        self.assertLess(os.times().children_user - started, 5)  # whatever else the machine does

    async def test_secrets_and_certificates(self):
        fifo = self.fifo()
        target = "target: http://localhost:1\n"
        tls = f"listen: 'ssl:18443:privateKey={fifo}'\n"
        await together(
            self.refused(f"{target}token_file: {fifo}\n", "`token_file`", "a pipe"),
            self.refused(f"{target}token: {{file: {fifo}}}\n", "`token`", "a pipe"),
            self.refused(f"{target}token_file: /dev/zero\n", "`token_file`", "a device"),
            self.refused(f"{GOOD}ca_file: {fifo}\n", "`ca_file`", "a pipe"),
            self.refused(f"{GOOD}{tls}", "`listen`", "privateKey", "a pipe"),
            self.refused(f"{GOOD}{self.tls(dhParameters=fifo)}", "`listen`", "a pipe"),
            self.refused(f"{GOOD}{self.tls(dhParameters=self.file(''))}", "`listen`", "DH"),
        )

    async def test_journals(self):
        config = self.config()
        await together(
            *(
                self.refused({**config, "journal": str(path)}, "journal", word)
                for path, word in (
                    (self.fifo(), "a pipe"),
                    ("/dev/null", "a device"),
                    ("/dev/full", "a device"),
                    ("/dev/zero", "a device"),
                )
            )
        )
