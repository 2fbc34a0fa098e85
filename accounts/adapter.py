"""How allauth makes our users."""

from typing import Any

from allauth.account.adapter import DefaultAccountAdapter
from django.db import transaction
from django.http import HttpRequest

from accounts.actions import open_personal_workspace
from accounts.models import User


class AccountAdapter(DefaultAccountAdapter):  # type: ignore[misc]  # allauth has no types
    def save_user(self, request: HttpRequest, user: User, form: Any, commit: bool = True) -> User:
        """A sign-up makes the user and the personal workspace together, and never an admin."""
        user.is_staff = user.is_superuser = False
        with transaction.atomic():
            user = super().save_user(request, user, form, commit)
            if commit:
                open_personal_workspace(user=user, by=user)
        return user
