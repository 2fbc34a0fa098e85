"""Django's way of sending mail by SMTP, with an end: a server that drips its answers holds nobody for ever.

Each answer of a server may take EMAIL_TIMEOUT for every byte. So the whole of a connection has a limit too, after
which it is cut; who sends then sees a server that hung up.
"""

import smtplib
import socket
import threading
from contextlib import suppress
from typing import Any

from django.core.mail.backends.smtp import EmailBackend as DjangoBackend

LONGEST_S = 60.0


class _Ending(smtplib.SMTP):
    """One connection that is cut when its time is over."""

    _timer: threading.Timer | None = None

    def connect(self, *args: Any, **kwargs: Any) -> tuple[int, bytes]:
        self._timer = threading.Timer(LONGEST_S, self._cut)
        self._timer.daemon = True
        self._timer.start()
        return super().connect(*args, **kwargs)

    def _cut(self) -> None:
        if sock := self.sock:
            with suppress(OSError):
                # Not as an SSLSocket does it, which would take its own state away from the thread that reads.
                socket.socket.shutdown(sock, socket.SHUT_RDWR)

    def close(self) -> None:
        if self._timer:
            self._timer.cancel()
        super().close()


class _EndingWithTls(_Ending, smtplib.SMTP_SSL):
    """The same for smtps://."""


class EmailBackend(DjangoBackend):
    @property
    def connection_class(self) -> type[smtplib.SMTP]:
        return _EndingWithTls if self.use_ssl else _Ending
