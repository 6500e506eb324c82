"""Stands for a process that `tests.starter` forks: passes on its streams, its signals and its exit.

It is run as a script, without site packages, and imports almost nothing: starting fast is what it is for.
"""

import marshal
import os
import signal
import socket
import sys

FORWARDED = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)
STREAMS = (0, 1, 2)
NUMBER_BYTES = 4


def main(address: str, arguments: list[str]) -> None:
    """Ask for a process, and end as it ends. If this is killed, so is the process."""
    signal.pthread_sigmask(signal.SIG_BLOCK, FORWARDED)  # until there is a process that gets them
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(address)
    request = marshal.dumps((arguments, dict(os.environ), os.getcwd()))  # noqa: PTH109 - pathlib is slow to import
    socket.send_fds(connection, [len(request).to_bytes(NUMBER_BYTES, "little")], STREAMS)
    connection.sendall(request)
    process_id = _number(connection)
    for number in FORWARDED:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda number, _: os.kill(process_id, number))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, FORWARDED)
    for stream in STREAMS:
        os.close(stream)  # or who reads the output would wait for this process too
    code = os.waitstatus_to_exitcode(_number(connection))
    if code < 0:
        if -code != signal.SIGKILL:
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


def _number(connection: socket.socket) -> int:
    return int.from_bytes(connection.recv(NUMBER_BYTES, socket.MSG_WAITALL), "little")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
