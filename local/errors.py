"""What can go wrong on a developer's machine."""


class LocalError(Exception):
    """The local stack cannot go on. The message says in plain words what is wrong and what to do about it."""
