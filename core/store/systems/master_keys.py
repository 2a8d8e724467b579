"""The master keys of this deployment: from the environment or a file; made in the data directory at first need."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, field
from pathlib import Path

from core import ids
from core.domain.systems.envelope import KEY_BYTES, BadKey, MasterKey, read_keys

VARIABLE = "DRIPSTONE_MASTER_KEY"
"""Base64 of 32 bytes; several separated by commas, the first seals."""

FILE_NAME = "master.key"


class NoMasterKeys(Exception):
    """There is no master key that can be used."""


@dataclass(slots=True)
class MasterKeys:
    """Master keys, read when they are needed; a file is read again when it has changed."""

    file: Path
    may_make: bool = True
    """A missing file is made: right where one process has the data directory to itself."""
    seals_already: bool = False
    """Something is sealed under keys that are not here: a new one would be the wrong one, and is not made."""
    _known: tuple[MasterKey, ...] = field(default=(), repr=False)
    _stamp: tuple[int, int] = (0, 0)

    @property
    def are_given(self) -> bool:
        """Tell whether somebody has given this process its keys: in the environment, or a file that is not its own."""
        return not self.may_make or bool(os.environ.get(VARIABLE))

    def all(self) -> tuple[MasterKey, ...]:
        """Return every key, the one that seals first.

        Raises NoMasterKeys.
        """
        given = os.environ.get(VARIABLE, "")
        try:
            if given:
                return _some(read_keys(given), f"${VARIABLE}")
            self._read()
        except BadKey as error:
            raise NoMasterKeys(f"A master key cannot be read: {error}.") from None
        except UnicodeDecodeError:  # which would tell a byte of what may be a key
            raise NoMasterKeys(f"{self.file} is no text: a master key is {KEY_BYTES} bytes in base64.") from None
        except OSError as error:
            raise NoMasterKeys(f"{self.file} cannot be read or made: {error.strerror}.") from None
        return self._known

    def rotate(self) -> MasterKey:
        """Put a new key before those in the file, and return it.

        Raises NoMasterKeys where the keys are in the environment.
        """
        if os.environ.get(VARIABLE):
            raise NoMasterKeys(f"The keys are in ${VARIABLE}: put a new one before them there.")
        keys = self.all()
        new = MasterKey(ids.new_secret_bytes(KEY_BYTES))
        self._write([new, *keys])
        return new

    def keep_first(self) -> None:
        """Leave only the key that seals in the file."""
        self._write([self.all()[0]])

    def _read(self) -> None:
        if not self.file.exists():
            if not self.may_make or self.seals_already:
                raise NoMasterKeys(f"There is no {self.file}. Put a master key there, or set ${VARIABLE}.")
            with contextlib.suppress(FileExistsError):
                self._make()
        state = self.file.stat()
        stamp = (state.st_mtime_ns, state.st_ino)
        if stamp != self._stamp or not self._known:
            self._known = _some(read_keys(self.file.read_text()), str(self.file))
            self._stamp = stamp

    def _make(self) -> None:
        self.file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        text = MasterKey(ids.new_secret_bytes(KEY_BYTES)).text + "\n"
        beside = self.file.with_name(f"{self.file.name}.{ids.new_secret_bytes(6).hex()}")
        try:
            _store(beside, text, os.O_EXCL)
            os.link(beside, self.file)  # in one step, and never over one that another process has made
        except FileExistsError:
            raise
        except OSError:  # a filesystem without hard links
            _store(self.file, text, os.O_EXCL)
        finally:
            beside.unlink(missing_ok=True)
        _keep_names(self.file.parent)

    def _write(self, keys: list[MasterKey]) -> None:
        """Replace the file in one step: a process that reads meanwhile sees the old one or the new one."""
        beside = self.file.with_suffix(".new")
        _store(beside, "".join(f"{key.text}\n" for key in keys), os.O_TRUNC)
        beside.replace(self.file)
        _keep_names(self.file.parent)


def _store(path: Path, text: str, how: int) -> None:
    """Write a file that is on the disk afterwards: what is sealed under a lost key is lost."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | how, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _keep_names(directory: Path) -> None:
    """Have the disk know the names in a directory too."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # some network filesystems cannot, and need not
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _some(keys: tuple[MasterKey, ...], where: str) -> tuple[MasterKey, ...]:
    if not keys:
        raise NoMasterKeys(f"There is no master key in {where}.")
    return keys
