"""What a disk may hold when the power fails.

What was synced is there. Of what was written into a file since its last sync, any part may be there. Of the new names
since the last sync of the directory, too: the system writes all of this when it likes, in any order.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import TypeVar

from tests.records.strace import (
    Change,
    Create,
    Mark,
    NameChange,
    Operation,
    Rename,
    Sync,
    SyncDirectory,
    Truncate,
    Unlink,
    Write,
)

T = TypeVar("T")
SECTOR_BYTES = 512
SHARED_MEMORY = ".records.db-shm"
"""SQLite writes it through memory, never syncs it, and must not trust it."""


@dataclass(slots=True)
class File:
    """A file: what is on the disk for certain, and the changes since."""

    synced: bytearray = field(default_factory=bytearray)
    changes: list[Change] = field(default_factory=list)


class Disk:
    """A directory on a disk.

    Args:
        files: what is in it, with their names, in the order of their numbers.
    """

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = {number: File(bytearray(content)) for number, content in enumerate(files.values())}
        self.synced_names = {name: number for number, name in enumerate(files)}
        self.name_changes: list[NameChange] = []

    def apply(self, operation: Operation) -> None:
        """Carry out an operation of a program."""
        match operation:
            case Write() | Truncate():
                self.files[operation.file].changes.append(operation)
            case Create() | Rename() | Unlink():
                if isinstance(operation, Create):
                    self.files[operation.file] = File()
                self.name_changes.append(operation)
            case Sync():
                file = self.files[operation.file]
                _change(file.synced, file.changes)
                file.changes.clear()
            case SyncDirectory():
                _rename(self.synced_names, self.name_changes)
                self.name_changes.clear()
            case Mark():
                pass

    def cut_power(self, directory: Path, loss: "Loss", name_loss: "NameLoss") -> None:
        """Write what the disk holds after a power cut into an empty directory.

        Args:
            directory: gets the files.
            loss: what is lost of the changes of each file.
            name_loss: what is lost of the changes of names.
        """
        names = dict(self.synced_names)
        _rename(names, name_loss(self.name_changes))
        for name, number in names.items():
            path = directory / name
            path.write_bytes(loss(name, self.files[number]))
            path.chmod(0o600)


Loss = Callable[[str, File], bytes]
"""Returns what is in a file, of this name, after a power cut."""
NameLoss = Callable[[list[NameChange]], list[NameChange]]
"""Returns which of these changes of names are on the disk after a power cut."""


def nothing_unsynced(_: str, file: File) -> bytes:
    """Lose everything that was not synced."""
    return bytes(file.synced)


def no_names(_: list[NameChange]) -> list[NameChange]:
    """Lose all changes of names that were not synced."""
    return []


def random_loss(chance: Random) -> Loss:
    """Lose another part of each file, in another way."""

    def lose(name: str, file: File) -> bytes:
        if name == SHARED_MEMORY:
            return chance.randbytes(32_768)
        return chance.choice(_FILE_LOSSES)(chance, file)

    return lose


def random_name_loss(chance: Random) -> NameLoss:
    """Lose no changes of names, all, the last ones, or any."""
    return lambda changes: chance.choice(_NAME_LOSSES)(chance, changes)


def _all(_: Random, changes: list[T]) -> list[T]:
    return changes


def _none(_: Random, changes: list[T]) -> list[T]:
    return []


def _prefix(chance: Random, changes: list[T]) -> list[T]:
    return changes[: chance.randint(0, len(changes))]


def _all_but_the_last(_: Random, changes: list[T]) -> list[T]:
    return changes[:-1]


def _some(chance: Random, changes: list[T]) -> list[T]:
    return [change for change in changes if chance.random() < 0.5]


def _nuls(_: Random, file: File) -> bytes:
    """Keep the size, and lose the content: the file got its space, and nothing was written there yet."""
    content = bytes(file.synced)
    return content.ljust(len(_changed(file, file.changes)), b"\0")


def _torn(chance: Random, file: File) -> bytes:
    """Keep any sectors of what was written."""
    after = _changed(file, file.changes)
    before = bytes(file.synced).ljust(len(after), b"\0")
    sectors = range(0, len(after), SECTOR_BYTES)
    return b"".join(chance.choice((before, after))[begin : begin + SECTOR_BYTES] for begin in sectors)


def _keeping(choose: Callable[[Random, list[Change]], list[Change]]) -> Callable[[Random, File], bytes]:
    return lambda chance, file: _changed(file, choose(chance, file.changes))


_FILE_LOSSES = (*map(_keeping, (_all, _none, _all_but_the_last, _prefix, _some)), _nuls, _torn)
_NAME_LOSSES: tuple[Callable[[Random, list[NameChange]], list[NameChange]], ...] = (_all, _none, _prefix, _some)


def _changed(file: File, changes: list[Change]) -> bytes:
    content = bytearray(file.synced)
    _change(content, changes)
    return bytes(content)


def _change(content: bytearray, changes: list[Change]) -> None:
    for change in changes:
        size = change.size if isinstance(change, Truncate) else change.offset
        if len(content) < size:
            content.extend(bytes(size - len(content)))
        if isinstance(change, Truncate):
            del content[size:]
        else:
            content[size : size + len(change.content)] = change.content


def _rename(names: dict[str, int], changes: list[NameChange]) -> None:
    """Carry out changes of names, where those before them are missing as far as that is possible."""
    for change in changes:
        match change:
            case Create(file, name):
                names[name] = file
            case Rename(old, new):
                if old in names:
                    names[new] = names.pop(old)
            case Unlink(name):
                names.pop(name, None)
