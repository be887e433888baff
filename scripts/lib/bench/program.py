"""What the bench needs to know of a program that distributes files."""

import re
import subprocess


class Program:
    """One run of one program. All of its services run before the clock does; `ask` starts the clock
    of a leecher, as a person would who types a command."""

    name = "program"

    # What `payload_sent` is taken from.
    payload_from = "interface"

    # Whether there is something to be compared with what was given away.
    has_content = True

    # Whether it takes peers at 127.0.0.1.
    takes_loopback = True

    @classmethod
    def missing(cls):
        """Why it cannot be run here, or nothing."""
        return None

    @classmethod
    def version_command(cls):
        raise NotImplementedError

    @classmethod
    def version(cls):
        """The number that the program says of itself."""
        if cls.missing():
            return None
        said = subprocess.run(cls.version_command(), capture_output=True, text=True)
        number = re.search(r"\d+(\.\d+)+", said.stdout + said.stderr)
        return number and number[0]

    def __init__(self, lab, source):
        self.lab, self.source = lab, source

    def prepare(self):
        """Trackers and the like."""

    def seed(self, peer):
        """Returns when the peer can give the file."""
        raise NotImplementedError

    def stand_by(self, peer):
        """Starts what runs at a leecher before somebody asks for the file."""

    def ask(self, peer):
        raise NotImplementedError

    def is_done(self, peer):
        """Whether the program says that it has the whole file."""
        raise NotImplementedError

    def received(self, peer):
        """The file, as it came."""
        raise NotImplementedError

    def bytes_had(self, peer):
        raise NotImplementedError

    def payload_sent(self, peer):
        """Bytes of the file that it has sent, when the program tells."""
        return None

    def paths(self, peer):
        """How others are reached, when there is more than one way and the program tells."""
        return {}

    def leave(self, peer):
        """The peer goes away, in good order."""
        for process in peer.processes:
            process.end()
