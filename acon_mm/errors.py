"""Errors that tools print as one sentence instead of a traceback."""


class UserError(ValueError):
    """Say what an argument, a config key or a file has to be for a run to start.

    The message is one sentence that names the argument, the value it got and what would work.
    Every other exception is a bug and keeps its traceback.
    """


class CheckpointRefusedError(UserError):
    """A checkpoint asks for a global outside the allow-list; nothing of it was run."""


class PretrainedMismatchError(UserError):
    """The checkpoint of an ``init_cfg`` belongs to another network; nothing of it was loaded."""
