"""The tests."""

import signal

for _number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
    if signal.getsignal(_number) is signal.SIG_IGN:  # by `nohup`, or a shell's &
        # Still of no effect on us, but no program that we start inherits it.
        signal.signal(_number, lambda *_: None)
