"""The admin's pages for people."""

from django.contrib import admin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.http import HttpRequest

from accounts.models import ApiToken, AuditEntry, Membership, User, Workspace


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
    list_display = ["hint", "user", "name", "created_at", "expires_at", "last_used_at", "revoked_at"]
    list_filter = ["created_at", "expires_at", "revoked_at"]
    list_select_related = ["user"]
    search_fields = ["user__username", "name", "hint"]
    readonly_fields = ["user", "hint", "created_at", "last_used_at"]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False  # the secret can only be shown by the command that makes it


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
