"""Why a broker does not start."""


class CannotRun(Exception):
    """The broker does not start; carries the exit code and the remedy."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code
