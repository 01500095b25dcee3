"""A disk that can be full: a small one of its own where it can be mounted, else a limit."""

import os
import resource
import shutil
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path

SIZE = 16 * 2**20
BLOCK = 65536


class SmallDisk:
    """A tmpfs beside the temporary files, filled with a ballast."""

    fault = None
    """Why it can't be filled."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="chaos-"))
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(self.path)],
            check=False,
            capture_output=True,
        )
        if mounted.returncode:
            self.path.rmdir()
            raise PermissionError(mounted.stderr)

    def fill(self, _pid: int, left: int) -> None:
        """Leave so many bytes free."""
        with (self.path / "ballast").open("wb", buffering=0) as ballast, suppress(OSError):
            while ballast.write(bytes(BLOCK)):
                pass
        with suppress(OSError):
            os.truncate(self.path / "ballast", (self.path / "ballast").stat().st_size - left)

    def mend(self, _pid: int | None) -> None:
        """Make room again."""
        (self.path / "ballast").unlink(missing_ok=True)

    def remove(self) -> None:
        """Unmount it."""
        if self.path.exists():
            subprocess.run(["umount", "--lazy", str(self.path)], check=True)
            self.path.rmdir()

    @classmethod
    def if_possible(cls) -> "SmallDisk | None":
        """One, if this user may mount one."""
        if os.geteuid() or not shutil.which("mount"):
            return None
        try:
            return cls()
        except OSError:
            return None


class LimitedFiles:
    """Files that may not grow: to the daemon it is as if the disk were full (`EFBIG`)."""

    fault = None if hasattr(resource, "prlimit") else "only Linux limits another process"

    def __init__(self, path: Path) -> None:
        self.path = path

    def fill(self, pid: int, left: int) -> None:
        """Let a process write no file beyond the write-ahead log's end and so many bytes."""
        log = self.path / "journal.sqlite-wal"
        size = log.stat().st_size + left if left and log.exists() else 0
        self._limit(pid, size)

    def mend(self, pid: int | None) -> None:
        """Let it write again."""
        if pid is not None:
            self._limit(pid, resource.RLIM_INFINITY)

    def _limit(self, pid: int, size: int) -> None:
        with suppress(ProcessLookupError, PermissionError, ValueError):
            hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)[1]
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, hard))

    def remove(self) -> None:
        """Nothing is left."""
