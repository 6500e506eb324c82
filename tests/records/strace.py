"""What a program does to the files of one directory, in its order, from a log of `strace`."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.processes import Environment

TIMEOUT_SECONDS = 120
_READ = (
    *("openat", "close", "lseek", "write", "pwrite64", "writev", "ftruncate"),
    *("fsync", "fdatasync", "rename", "unlink"),
)
_OTHERS = (
    *("pwritev", "pwritev2", "sendfile", "copy_file_range", "fallocate", "truncate", "sync_file_range"),
    *("renameat", "renameat2", "unlinkat", "link", "linkat", "symlink", "symlinkat", "dup", "dup2", "dup3"),
)
"""Calls that would change something, too, and that the program does not make in the directory."""
_LINE = re.compile(r"(?P<thread>\d+) +(?:<\.\.\. \w+ resumed>(?P<rest>.*)|(?P<call>\w+)\((?P<begin>.*))")
_RESULT = re.compile(r"(?P<arguments>.*)\) += (?P<result>-?\d+)")
_UNFINISHED = " <unfinished ...>"

needs_strace = pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")


@dataclass(frozen=True, slots=True)
class Write:
    """Bytes are written into a file."""

    file: int
    offset: int
    content: bytes


@dataclass(frozen=True, slots=True)
class Truncate:
    """A file gets another size."""

    file: int
    size: int


@dataclass(frozen=True, slots=True)
class Sync:
    """All that was written into a file is on the disk."""

    file: int


@dataclass(frozen=True, slots=True)
class Create:
    """A new file gets a name."""

    file: int
    name: str


@dataclass(frozen=True, slots=True)
class Rename:
    """A file gets another name."""

    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Unlink:
    """A name is removed."""

    name: str


@dataclass(frozen=True, slots=True)
class SyncDirectory:
    """All names of the directory are on the disk."""


@dataclass(frozen=True, slots=True)
class Mark:
    """The program wrote a line into its file of marks."""

    text: str


Change = Write | Truncate
NameChange = Create | Rename | Unlink
Operation = Change | NameChange | Sync | SyncDirectory | Mark


def run_traced(log: Path, command: Sequence[str], env: Environment) -> None:
    """Run a program to its end, and log its calls.

    Args:
        log: gets the log.
        command: what to run.
        env: its environment.
    """
    calls = ",".join(_READ + _OTHERS)
    strace = ("strace", "-f", "-qq", "-y", "-xx", "-s", "100000000", "-o", str(log), "-e", f"trace={calls}")
    ended = subprocess.run(
        [*strace, *command], env=env, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False
    )
    assert ended.returncode == 0, ended.stderr


@dataclass(slots=True)
class _Open:
    file: int | None  # None for the directory itself
    offset: int = 0
    appends: bool = False


class TraceReader:
    """Reads the logs of programs that ran one after the other on the same directory.

    Args:
        directory: whose files are of interest; not what is in directories below it.
        marks: the file that the programs append lines to, to say how far they are.
        names: of the files that were there before, with their numbers.
    """

    def __init__(self, directory: Path, marks: Path, names: Iterable[str] = ()) -> None:
        self._directory = directory
        self._marks = marks
        self.file_names: list[str] = list(names)
        """The name with which each file was created, by its number."""
        self._names = {name: number for number, name in enumerate(self.file_names)}
        self._sizes: dict[int, int] = {}
        self._opened: dict[int, _Open] = {}

    def read(self, log: Path) -> Iterator[Operation]:
        """Go through the operations of one program."""
        self._opened = {}
        begun: dict[str, tuple[str, str]] = {}
        with log.open() as lines:
            for line in lines:
                if (match := _LINE.match(line)) is None:
                    continue  # a signal, or the end of a thread
                if match["call"] is None:
                    call, begin = begun.pop(match["thread"])
                    text = begin + match["rest"]
                else:
                    call, text = match["call"], match["begin"]
                if text.endswith(_UNFINISHED):
                    begun[match["thread"]] = call, text.removesuffix(_UNFINISHED)
                    if call == "close":  # another thread gets the number before this call returns
                        self._opened.pop(_number(text), None)
                elif (ended := _RESULT.match(text)) is not None and int(ended["result"]) >= 0:
                    yield from self._operations(call, ended["arguments"].split(", "), int(ended["result"]))

    def _operations(self, call: str, arguments: list[str], result: int) -> Iterator[Operation]:
        match call:
            case "openat":
                yield from self._open(result, _path(arguments[1]), set(arguments[2].split("|")))
            case "rename":
                old, new = map(self._name, map(_path, arguments))
                if old is not None and new is not None:
                    self._names[new] = self._names.pop(old)
                    yield Rename(old, new)
                else:
                    assert old is new is None, "a file was moved out of the directory, or into it"
            case "unlink":
                if (name := self._name(_path(arguments[0]))) is not None:
                    del self._names[name]
                    yield Unlink(name)
            case _ if call in _READ:
                yield from self._on_descriptor(call, arguments, result)
            case _:
                assert not any(self._is_ours(argument) for argument in arguments), f"{call} is not understood"

    def _open(self, descriptor: int, path: Path, flags: set[str]) -> Iterator[Operation]:
        self._opened.pop(descriptor, None)
        if path == self._directory:
            self._opened[descriptor] = _Open(None)
        elif path == self._marks:
            self._opened[descriptor] = _Open(-1)
        elif (name := self._name(path)) is not None and (name in self._names or "O_CREAT" in flags):
            if name not in self._names:
                self._names[name] = len(self.file_names)
                self.file_names.append(name)
                yield Create(self._names[name], name)
            file = self._names[name]
            self._opened[descriptor] = _Open(file, appends="O_APPEND" in flags)
            if "O_TRUNC" in flags:
                yield self._truncate(file, 0)

    def _on_descriptor(self, call: str, arguments: list[str], result: int) -> Iterator[Operation]:
        number = _number(arguments[0])
        opened = self._opened.get(number)
        if opened is None:
            return
        file = opened.file
        match call:
            case "close":
                del self._opened[number]
            case "fsync" | "fdatasync":
                yield SyncDirectory() if file is None else Sync(file)
            case _ if file is None:
                pass
            case "lseek":
                opened.offset = result
            case "ftruncate":
                yield self._truncate(file, int(arguments[1]))
            case _:
                content = b"".join(map(_bytes, re.findall(r'"([^"]*)"', ", ".join(arguments[1:]))))[:result]
                assert len(content) == result, "the log does not have all that was written"
                if file == -1:
                    yield from (Mark(line) for line in content.decode().splitlines())
                else:
                    yield self._write(opened, file, content, int(arguments[3]) if call == "pwrite64" else None)

    def _write(self, opened: _Open, file: int, content: bytes, offset: int | None) -> Write:
        if offset is None:
            offset = self._sizes.get(file, 0) if opened.appends else opened.offset
            opened.offset = offset + len(content)
        self._sizes[file] = max(self._sizes.get(file, 0), offset + len(content))
        return Write(file, offset, content)

    def _truncate(self, file: int, size: int) -> Truncate:
        self._sizes[file] = size
        return Truncate(file, size)

    def _name(self, path: Path) -> str | None:
        return path.name if path.parent == self._directory else None

    def _is_ours(self, argument: str) -> bool:
        paths = (Path(os.fsdecode(_bytes(found))) for found in re.findall(r'[<"]((?:\\x..)+)[>"]', argument))
        return any(self._name(path) is not None for path in paths)


def _number(text: str) -> int:
    """Read a descriptor, as in `3<path>`."""
    return int(text.partition("<")[0])


def _path(argument: str) -> Path:
    return Path(os.fsdecode(_bytes(argument.strip('"'))))


def _bytes(text: str) -> bytes:
    return bytes.fromhex(text.replace("\\x", ""))
