"""Log-in by user name or e-mail address."""

from typing import Any

from allauth.account.auth_backends import AuthenticationBackend
from django.http import HttpRequest

from accounts.models import User


class EvenBackend(AuthenticationBackend):  # type: ignore[misc]  # allauth has no types
    """As allauth's, but a wrong password costs one hash, whoever it is for.

    Allauth looks an address up twice, as an address and as a name that might be one. The second hash told by the time
    it took that there is such an account.
    """

    def authenticate(self, request: HttpRequest | None, **credentials: Any) -> User | None:
        self._tried: set[int] = set()
        found: User | None = super().authenticate(request, **credentials)
        return found

    def _check_password(self, user: User | None, password: str) -> User | None:
        if user is None or user.pk in self._tried:
            return None
        self._tried.add(user.pk)
        found: User | None = super()._check_password(user, password)
        return found
