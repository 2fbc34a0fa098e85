"""The admin's pages for people: accounts, workspaces, what they log in with, and what was done by whom."""

from typing import Any

import allauth.account.admin
import allauth.mfa.admin
import allauth.socialaccount.admin
import allauth.usersessions.admin  # noqa: F401  # all are imported so that they have registered, and do not later
from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from allauth.socialaccount.models import SocialAccount, SocialApp, SocialToken
from allauth.usersessions.models import UserSession
from django.contrib import admin, messages
from django.contrib.admin.models import LogEntry
from django.contrib.auth.admin import GroupAdmin as DjangoGroupAdmin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import Group
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils import timezone
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm

from accounts import actions
from accounts.models import (
    ApiToken,
    AuditEntry,
    Invitation,
    Membership,
    Notification,
    NotificationChoice,
    SshKey,
    User,
    Workspace,
)
from administration.base import MOST_NAMED, BerthAdmin, Inline, Link, ReadOnlyAdmin

# Allauth's own pages would let staff write a factor into another's account, and forget a session without ending it.
# Of single sign-on there is one provider, in the settings, and no token is kept.
admin.site.unregister([Authenticator, UserSession, EmailAddress, Group, SocialAccount, SocialApp, SocialToken])


@admin.register(User)
class UserAdmin(DjangoUserAdmin[User], BerthAdmin):
    form, add_form, change_password_form = UserChangeForm, UserCreationForm, AdminPasswordChangeForm
    list_display = ["username", "email", "is_active", "is_staff", "last_login", "date_joined"]
    list_filter = ["is_active", "is_staff", "is_superuser", "groups", "date_joined"]
    search_fields = ["username", "email", "first_name", "last_name"]
    date_hierarchy = "date_joined"
    ordering = ["username"]
    filter_horizontal = []
    readonly_fields = ["last_login", "date_joined", "see_also"]
    fieldsets = (*(DjangoUserAdmin.fieldsets or ()), ("Berth", {"fields": ["time_zone", "date_language", "see_also"]}))
    actions = ["reset_second_factors"]
    instead_of_deleting = (
        "Switch it off instead: take away “Active”. manage.py close_account deletes it, but its books."
    )

    def links(self, row: User) -> list[Link]:
        def of(model: str, field: str) -> str:
            return f"{reverse(f'admin:{model}_changelist')}?{field}={row.pk}"

        return [
            ("Reservations", of("reservations_reservation", "created_by__id__exact")),
            ("Workspaces", of("accounts_membership", "user__id__exact")),
            ("Sessions", of("usersessions_usersession", "user__id__exact")),
            ("What they did", of("accounts_auditentry", "actor__id__exact")),
        ]

    def has_change_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        """A deleted account's row is for the books alone: nobody makes somebody of it again."""
        return super().has_change_permission(request, obj) and (obj is None or obj.closed_at is None)

    def has_delete_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        """Nor is the row deleted that bills and the audit log name."""
        return super().has_delete_permission(request, obj) and (obj is None or obj.closed_at is None)

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> tuple[Any, Any, Any, list[Any]]:
        """Whoever did anything is named by the books, also without a workspace of their own."""
        rows, counts, kept, needed_by = super().get_deleted_objects(objs, request)
        deeds = AuditEntry.objects.filter(actor__in=[row.pk for row in objs])
        return rows, counts, kept, [*needed_by, *(str(deed) for deed in deeds[:MOST_NAMED])]

    def get_autocomplete_fields(self, request: HttpRequest) -> list[str]:
        return ["groups", "user_permissions"]

    def user_change_password(self, request: HttpRequest, id: str, form_url: str = "") -> HttpResponse:  # noqa: A002
        with transaction.atomic():  # the password and its audit row, or neither
            return super().user_change_password(request, id, form_url)

    @admin.action(description="Reset the second factors of who is locked out", permissions=["change"])
    def reset_second_factors(self, request: HttpRequest, queryset: QuerySet[User]) -> None:
        if not request.user.is_superuser:
            messages.error(request, "Only an admin can reset somebody's second factors.")
            return
        for user in queryset:
            factors, sessions = actions.reset_second_factors(user=user, by=request.user)
            messages.success(request, f"{user}: {factors} second factors removed, {sessions} sessions ended.")


@admin.register(Group)
class GroupAdmin(DjangoGroupAdmin, BerthAdmin):
    list_display = ["name"]
    search_fields = ["name"]
    filter_horizontal = []

    def get_autocomplete_fields(self, request: HttpRequest) -> list[str]:
        return ["permissions"]


class MembershipInline(Inline):
    model = Membership
    autocomplete_fields = ["user"]


@admin.register(Workspace)
class WorkspaceAdmin(BerthAdmin):
    list_display = [
        "name",
        "personal_of",
        "max_reservations",
        "max_cores",
        "max_ram_mib",
        "max_storage_gb",
        "max_hours",
        "created_at",
    ]
    list_filter = [("personal_of", admin.EmptyFieldListFilter), "created_at"]
    list_select_related = ["personal_of"]
    search_fields = ["name", "personal_of__username", "memberships__user__username"]
    readonly_fields = ["created_at", "see_also"]
    inlines = [MembershipInline]
    instead_of_deleting = "Set its quota to 0 instead, or let an owner close it."

    def links(self, row: Workspace) -> list[Link]:
        return [
            ("Reservations", f"{reverse('admin:reservations_reservation_changelist')}?workspace__id__exact={row.pk}"),
            (
                "Kept volumes",
                f"{reverse('admin:reservations_workspacevolume_changelist')}?workspace__id__exact={row.pk}",
            ),
            ("Ledger", f"{reverse('admin:billing_ledgerentry_changelist')}?workspace__id__exact={row.pk}"),
        ]


@admin.register(Membership)
class MembershipAdmin(BerthAdmin):
    list_display = ["workspace", "user", "role"]
    list_filter = ["role"]
    list_select_related = ["workspace", "user"]
    search_fields = ["workspace__name", "user__username"]


@admin.register(Invitation)
class InvitationAdmin(ReadOnlyAdmin):
    """Who was asked into a workspace. Its owners and managers ask; of the link's secret only a digest is kept."""

    list_display = ["email", "workspace", "role", "invited_by", "created_at", "expires_at", "accepted_at", "revoked_at"]
    list_filter = [
        ("accepted_at", admin.EmptyFieldListFilter),
        ("revoked_at", admin.EmptyFieldListFilter),
        "expires_at",
    ]
    list_select_related = ["workspace", "invited_by"]
    search_fields = ["email", "workspace__name"]
    ordering = ["-created_at"]
    exclude = ["digest"]

    def audit_targets(self, row: Invitation) -> list[str]:
        return [f"workspace:{row.workspace_id}"]


@admin.register(ApiToken)
class ApiTokenAdmin(ReadOnlyAdmin):
    """Its owner makes it, since the secret is shown once; a revoked one stays, so that one sees what there was."""

    list_display = ["hint", "user", "name", "scopes", "created_at", "expires_at", "last_used_at", "revoked_at"]
    list_filter = [("revoked_at", admin.EmptyFieldListFilter), "created_at", "expires_at"]
    list_select_related = ["user"]
    search_fields = ["user__username", "name", "hint"]
    exclude = ["digest"]
    actions = ["revoke"]

    @admin.action(description="Revoke them", permissions=["view"])
    def revoke(self, request: HttpRequest, queryset: QuerySet[ApiToken]) -> None:
        if not request.user.is_superuser:
            messages.error(request, "Only an admin can revoke somebody's token.")
            return
        for token in queryset:
            actions.revoke_token(token=token, now=timezone.now(), by=request.user)
            messages.success(request, f"{token} is revoked.")

    def audit_targets(self, row: ApiToken) -> list[str]:
        return [f"user:{row.user_id}"]


@admin.register(SshKey)
class SshKeyAdmin(ReadOnlyAdmin):
    """Its owner adds and removes it."""

    list_display = ["name", "user", "fingerprint", "created_at"]
    list_filter = ["created_at"]
    list_select_related = ["user"]
    search_fields = ["user__username", "name", "fingerprint"]

    def audit_targets(self, row: SshKey) -> list[str]:
        return [f"user:{row.user_id}"]


@admin.register(SocialAccount)
class SocialAccountAdmin(ReadOnlyAdmin):
    """Whom the provider of single sign-on opens which account for."""

    list_display = ["user", "provider", "uid", "last_login", "date_joined"]
    list_filter = ["date_joined", "last_login"]
    list_select_related = ["user"]
    search_fields = ["user__username", "uid"]

    def audit_targets(self, row: SocialAccount) -> list[str]:
        return [f"user:{row.user_id}"]


@admin.register(AuditEntry)
class AuditEntryAdmin(ReadOnlyAdmin):
    list_display = ["at", "actor_name", "action", "target", "data"]
    list_filter = ["at", "action"]
    search_fields = ["actor_name", "action", "target"]
    date_hierarchy = "at"
    ordering = ["-at"]


@admin.register(Notification)
class NotificationAdmin(ReadOnlyAdmin):
    """What somebody was told, and whether it was read and mailed."""

    list_display = ["created_at", "user", "kind", "title", "read_at", "mailed_at", "mail_attempts"]
    list_filter = ["kind", "created_at", "in_app", "by_mail"]
    list_select_related = ["user"]
    search_fields = ["user__username", "title", "key"]
    date_hierarchy = "created_at"
    ordering = ["-created_at", "-pk"]


@admin.register(NotificationChoice)
class NotificationChoiceAdmin(ReadOnlyAdmin):
    """What somebody chose to hear; who never chose has no row and hears everything."""

    list_display = ["user", "kind", "in_app", "by_mail"]
    list_filter = ["kind", "in_app", "by_mail"]
    list_select_related = ["user"]
    search_fields = ["user__username"]
    ordering = ["user__username", "kind"]


@admin.register(EmailAddress)
class EmailAddressAdmin(ReadOnlyAdmin):
    """Its owner changes it: a mail to it proves it."""

    list_display = ["email", "user", "primary", "verified"]
    list_filter = ["primary", "verified"]
    list_select_related = ["user"]
    search_fields = ["email", "user__username"]
    ordering = ["email"]


@admin.register(Authenticator)
class AuthenticatorAdmin(ReadOnlyAdmin):
    """That there is a second factor, never its secret. Who is locked out is helped on the page of the user."""

    list_display = ["user", "type", "created_at", "last_used_at"]
    list_filter = ["type", "created_at"]
    list_select_related = ["user"]
    search_fields = ["user__username", "user__email"]
    ordering = ["-created_at"]
    exclude = ["data"]


@admin.register(UserSession)
class UserSessionAdmin(ReadOnlyAdmin):
    """Where people are logged in. The key would be the session itself, so it is not shown."""

    list_display = ["user", "ip", "user_agent", "created_at", "last_seen_at"]
    list_filter = ["last_seen_at"]
    list_select_related = ["user"]
    search_fields = ["user__username", "=ip"]
    ordering = ["-last_seen_at"]
    exclude = ["session_key", "data"]
    actions = ["end"]

    @admin.action(description="End them: log the person out there", permissions=["view"])
    def end(self, request: HttpRequest, queryset: QuerySet[UserSession]) -> None:
        if not request.user.is_superuser:
            messages.error(request, "Only an admin can end somebody's session.")
            return
        for session in queryset.select_related("user"):
            actions.end_session(session=session, by=request.user)
            messages.success(request, f"A session of {session.user} is ended.")


@admin.register(LogEntry)
class LogEntryAdmin(ReadOnlyAdmin):
    """What was changed on these pages, as Django notes it. The audit log has it too, with everything else."""

    list_display = ["action_time", "user", "content_type", "object_repr", "action_flag", "change_message"]
    list_filter = ["action_time", "action_flag", "content_type"]
    list_select_related = ["user", "content_type"]
    search_fields = ["object_repr", "user__username", "=object_id"]
    date_hierarchy = "action_time"
