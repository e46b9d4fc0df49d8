"""File systems of the servers' own."""

import os
import time

from network import command


class NoDisk(Exception):
    """A file system of its own can't be had here."""


def _wanted(*words):
    try:
        done = command(*words, check=False)
    except FileNotFoundError as error:
        raise NoDisk(str(error)) from None
    if done.returncode != 0:
        raise NoDisk(done.stdout.strip())


class Disk:
    """A file system in a folder."""

    def __init__(self, folder):
        self.folder = folder

    def close(self):
        """It is there no longer."""
        command("umount", "-l", self.folder, check=False)


class Memory(Disk):
    """A file system in memory, of so many MiB."""

    def __init__(self, folder, size):
        super().__init__(folder)
        _wanted("mount", "-t", "tmpfs", "-o", f"size={size}m", "tmpfs", folder)


class Image(Disk):
    """A file system in a file, of so many MiB: the file has what was written to the disk, and not what the kernel still
    means to write."""

    def __init__(self, folder, size):
        super().__init__(folder)
        self.file = f"{folder}.disk"
        with open(self.file, "wb") as file:
            file.truncate(size << 20)
        # No blocks are kept for root, who would never see a full disk otherwise.
        _wanted("mkfs.ext4", "-q", "-m", "0", self.file)
        self._mount()

    def _mount(self):
        _wanted("mount", "-o", "loop", self.file, self.folder)

    def remember(self):
        """Keeps what is on the disk now."""
        command("cp", "--sparse=always", self.file, f"{self.file}.then")

    def lose(self):
        """Only what was kept is left. Nobody may use the file system meanwhile."""
        for _ in range(50):
            if command("umount", self.folder, check=False).returncode == 0:
                break
            time.sleep(0.1)
        else:
            raise RuntimeError(f"{self.folder} is in use")
        os.replace(f"{self.file}.then", self.file)
        self._mount()
