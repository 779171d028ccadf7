"""The log, which must not break a call: its handlers and filters are the program's own, and may raise."""

from __future__ import annotations

from tokenguard.process.interrupts import interrupt

WARNING, ERROR = 30, 40
"""As `logging` has them, which is loaded when there is something to say."""


class Log:
    """A logger of which a call does not notice when it fails. What a signal handler raises in it is raised."""

    def __init__(self, name: str) -> None:
        self._name = name

    def warning(self, message: str, *values: object, exc_info: BaseException | bool | None = None) -> None:
        """Say something that somebody should look at."""
        self._say(WARNING, message, values, exc_info)

    def error(self, message: str, *values: object, exc_info: BaseException | bool | None = None) -> None:
        """Say that something does not work."""
        self._say(ERROR, message, values, exc_info)

    def _say(self, level: int, message: str, values: tuple[object, ...], exc_info: BaseException | bool | None) -> None:
        try:
            import logging

            logging.getLogger(self._name).log(level, message, *values, exc_info=exc_info, stacklevel=3)
        except Exception as error:
            if (raised := interrupt(error)) is not None:
                raise raised from None
