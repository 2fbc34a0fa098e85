"""The admin's pages for people."""

import allauth.mfa.admin
import allauth.usersessions.admin  # noqa: F401  # both are imported so that they have registered, and do not later
from allauth.mfa.models import Authenticator
from allauth.usersessions.models import UserSession
from django.contrib import admin, messages
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone

from accounts import actions
from accounts.models import ApiToken, AuditEntry, Membership, User, Workspace

# Allauth's own pages would let staff write a factor into another's account, and forget a session without ending it.
admin.site.unregister([Authenticator, UserSession])


@admin.register(User)
class UserAdmin(DjangoUserAdmin[User]):
    list_display = ["username", "email", "is_active", "is_staff", "last_login", "date_joined"]
    list_filter = ["is_active", "is_staff", "is_superuser", "date_joined"]
    search_fields = ["username", "email", "first_name", "last_name"]
    ordering = ["username"]
    fieldsets = (*(DjangoUserAdmin.fieldsets or ()), ("Berth", {"fields": ["time_zone"]}))


class MembershipInline(admin.TabularInline[Membership, Workspace]):
    model = Membership
    extra = 0
    autocomplete_fields = ["user"]


@admin.register(Workspace)
class WorkspaceAdmin(admin.ModelAdmin[Workspace]):
    list_display = [
        "name",
        "personal_of",
        "max_reservations",
        "max_cores",
        "max_ram_mib",
        "max_hours",
        "created_at",
    ]
    list_filter = ["created_at"]
    list_select_related = ["personal_of"]
    search_fields = ["name", "personal_of__username", "memberships__user__username"]
    autocomplete_fields = ["personal_of"]
    inlines = [MembershipInline]


@admin.register(Membership)
class MembershipAdmin(admin.ModelAdmin[Membership]):
    list_display = ["workspace", "user", "role"]
    list_filter = ["role"]
    list_select_related = ["workspace", "user"]
    search_fields = ["workspace__name", "user__username"]
    autocomplete_fields = ["workspace", "user"]


@admin.register(ApiToken)
class ApiTokenAdmin(admin.ModelAdmin[ApiToken]):
    list_display = ["hint", "user", "name", "scopes", "created_at", "expires_at", "last_used_at", "revoked_at"]
    list_filter = ["created_at", "expires_at", "revoked_at"]
    list_select_related = ["user"]
    search_fields = ["user__username", "name", "hint"]
    readonly_fields = ["user", "hint", "scopes", "created_at", "expires_at", "last_used_at", "revoked_at"]
    actions = ["revoke"]

    @admin.action(description="Revoke them", permissions=["view"])
    def revoke(self, request: HttpRequest, queryset: QuerySet[ApiToken]) -> None:
        if not request.user.is_superuser:
            messages.error(request, "Only an admin can revoke somebody's token.")
            return
        for token in queryset:
            actions.revoke_token(token=token, now=timezone.now(), by=request.user)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False  # its owner makes it: the secret is shown once

    def has_change_permission(self, request: HttpRequest, obj: ApiToken | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: ApiToken | None = None) -> bool:
        return False  # a revoked one stays, so that one sees what there was


@admin.register(AuditEntry)
class AuditEntryAdmin(admin.ModelAdmin[AuditEntry]):
    list_display = ["at", "actor_name", "action", "target"]
    list_filter = ["action", "at"]
    search_fields = ["actor_name", "action", "target"]
    date_hierarchy = "at"

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: AuditEntry | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: AuditEntry | None = None) -> bool:
        return False
