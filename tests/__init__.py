"""The tests."""

import os
import signal

for _number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
    if signal.getsignal(_number) is signal.SIG_IGN:  # by `nohup`, or a shell's &
        # Still of no effect on us, but no program that we start inherits it.
        signal.signal(_number, lambda *_: None)

for _name in list(os.environ):
    if _name.lower().endswith("_proxy"):  # what we call is on this machine
        del os.environ[_name]
