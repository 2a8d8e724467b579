"""Stands for `dripstone` in tests: asks the warm process of `tests/warm.py` for a fork and ends as that ends.

Runs with the standard library alone: `forked.py FOLDER OWNER ROOT ARGUMENT…`.
"""

import contextlib
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import time


def _connected(folder: str, owner: str, root: str) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    with contextlib.suppress(OSError):
        connection.connect(f"{folder}/socket")
        return connection
    os.makedirs(folder, mode=0o700, exist_ok=True)
    with open(f"{folder}/lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not os.path.exists(f"{folder}/socket"):
            _start(folder, owner, root)
    connection.connect(f"{folder}/socket")
    return connection


def _start(folder: str, owner: str, root: str) -> None:
    with open(f"{folder}/log", "w") as log:
        warm = subprocess.Popen(
            [sys.executable, "-m", "tests.warm", folder, owner],
            cwd=root,
            env={**os.environ, "PYTHONPATH": f"{root}{os.pathsep}{root}/proto/gen"},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    while not os.path.exists(f"{folder}/socket"):
        if warm.poll() is not None:
            with open(f"{folder}/log") as log:
                sys.exit(f"the warm process did not start:\n{log.read()}")
        time.sleep(0.02)


def main() -> None:
    """Ask, hand on signals, end alike."""
    folder, owner, root, *arguments = sys.argv[1:]
    held: list[int] = []
    child = 0

    def hand_on(number: int, _frame: object) -> None:
        number = signal.SIGKILL if number == signal.SIGUSR1 else number
        if child:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, number)
        else:
            held.append(number)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
        signal.signal(number, hand_on)
    connection = _connected(folder, owner, root)
    order = {"arguments": arguments, "folder": os.getcwd(), "environment": dict(os.environ)}
    head = json.dumps(order).encode() + b"\n"
    sent = socket.send_fds(connection, [head], [0, 1, 2])
    connection.sendall(head[sent:])
    told = connection.makefile()
    child = int(told.readline())
    for number in held:
        hand_on(number, None)
    code = int(told.readline() or 1)
    if code < 0:
        signal.signal(-code, signal.SIG_DFL) if -code != signal.SIGKILL else None
        os.kill(os.getpid(), -code)
    os._exit(code)


main()
