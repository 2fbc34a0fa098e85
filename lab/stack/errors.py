"""What a person reads when the stack cannot do what was asked."""

from lab.process import LabError


class StackError(LabError):
    """One clear sentence, printed without a traceback."""
