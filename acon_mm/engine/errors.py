"""The one exception class that tools print as a sentence instead of a traceback."""


class UserError(ValueError):
    """Say what an argument, a config key or a file has to be for a run to start.

    The message is one sentence that names the argument, the value it got and what would work.
    Every other exception is a bug and keeps its traceback.
    """
