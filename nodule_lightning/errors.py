"""The one exception that a user is meant to read."""


class InputError(ValueError):
    """Say in one line what is wrong with a file or a value, and how to cure it.

    Raised at the borders only (files, command line, constructors). The commands print the message without a
    traceback and end with exit code 2.
    """
