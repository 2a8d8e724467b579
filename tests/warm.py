"""The command line in processes that are forked from a warm one: real processes, without a second of imports each.

`command()` is what tests put where a user writes `dripstone`. It names a small program (`tests/forked.py`) that asks
the warm process for a fork, lends it its own input, output, folder and environment, hands on the signals it gets and
ends as the fork ends. The first that asks starts the warm process; it ends with the tests. What a process does before
`main` is shown by the few tests that start one from nothing.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import pkgutil
import select
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import core
from core.__main__ import main

DIE_AT_ONCE = signal.SIGUSR1
"""What tells the program to end its fork by SIGKILL, and to end only when that is over."""

_HEADER = 1 << 20
_LOOK_SECONDS = 0.5


def command() -> list[str]:
    """Return what stands for `dripstone` in a list of arguments."""
    # Workers of one run share the warm process; it ends with whoever started them.
    owner = os.getppid() if "PYTEST_XDIST_WORKER" in os.environ else os.getpid()
    folder = Path(tempfile.gettempdir()) / f"dripstone-warm-{os.getuid()}-{owner}"
    root = Path(__file__).parents[1]
    return [sys.executable, "-I", "-S", str(root / "tests" / "forked.py"), str(folder), str(owner), str(root)]


def shell() -> str:
    """Return a definition of `dripstone` for a shell."""
    return f'dripstone() {{ {" ".join(f"{word!r}" for word in command())} "$@"; }}\n'


def _serve(folder: Path, owner: int) -> None:
    """Fork whenever somebody asks, until the tests are over."""
    _import_everything()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(folder / "starting"))
        listening.listen(64)
        (folder / "starting").rename(folder / "socket")  # who sees it is served
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        while _is_there(owner):
            if select.select([listening], [], [], _LOOK_SECONDS)[0]:
                asking, _ = listening.accept()
                if not os.fork():
                    listening.close()
                    _attend(asking)
                asking.close()
    shutil.rmtree(folder, ignore_errors=True)


def _import_everything() -> None:
    for module in pkgutil.walk_packages(core.__path__, "core."):
        if ".migrations" not in module.name and not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    assert threading.active_count() == 1, "a fork would leave them behind"
    gc.collect()
    gc.freeze()


def _is_there(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def _attend(asking: socket.socket) -> None:
    """Fork once more for what is asked, tell its id and how it ended; end it when nobody asks any more."""
    head, lent, _, _ = socket.recv_fds(asking, _HEADER, 3)
    while not head.endswith(b"\n"):
        if not (more := asking.recv(_HEADER)):
            os._exit(0)  # who asked is gone
        head += more
    order: dict[str, Any] = json.loads(head)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    if not (child := os.fork()):
        asking.close()
        _become(order, lent)
    for one in lent:
        os.close(one)
    ended, ending = os.pipe()
    os.set_blocking(ending, False)
    signal.set_wakeup_fd(ending)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    asking.sendall(f"{child}\n".encode())
    while not (done := os.waitpid(child, os.WNOHANG))[0]:
        ready, _, _ = select.select([asking, ended], [], [], _LOOK_SECONDS)
        if asking in ready and not asking.recv(16):
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            os._exit(0)
    asking.sendall(f"{os.waitstatus_to_exitcode(done[1])}\n".encode())
    os._exit(0)


def _become(order: dict[str, Any], lent: list[int]) -> None:
    """Be the command line, and never come back."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number, one in enumerate(lent):
        os.dup2(one, number)
        os.close(one)
    os.chdir(order["folder"])
    os.environ.clear()
    os.environ.update(order["environment"])
    time.tzset()
    sys.argv = ["dripstone", *order["arguments"]]
    code: Any = 1
    try:
        main(order["arguments"], prog_name="dripstone")
    except SystemExit as ended:
        code = ended.code
    except BaseException:
        sys.excepthook(*sys.exc_info())
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code if isinstance(code, int) else 0 if code is None else 1)


if __name__ == "__main__":
    _serve(Path(sys.argv[1]), int(sys.argv[2]))
