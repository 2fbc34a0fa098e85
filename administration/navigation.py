"""The sidebar and the start page: every model in the group where an admin looks for it."""

from dataclasses import dataclass
from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.urls import NoReverseMatch, reverse


@dataclass(frozen=True, slots=True)
class Entry:
    """A link to a model's list ("app.model") or to a page (the name of its address)."""

    to: str
    icon: str
    title: str = ""


@dataclass(frozen=True, slots=True)
class Group:
    title: str
    entries: tuple[Entry, ...]


GROUPS = (
    Group(
        "People",
        (
            Entry("accounts.user", "person"),
            Entry("accounts.workspace", "groups"),
            Entry("accounts.membership", "badge"),
            Entry("accounts.invitation", "forward_to_inbox"),
            Entry("auth.group", "shield_person"),
            Entry("account.emailaddress", "mail"),
            Entry("mfa.authenticator", "passkey"),
            Entry("socialaccount.socialaccount", "login"),
            Entry("usersessions.usersession", "devices"),
            Entry("accounts.apitoken", "key"),
            Entry("accounts.sshkey", "vpn_key"),
            Entry("accounts.auditentry", "policy"),
            Entry("accounts.notificationchoice", "tune"),
            Entry("accounts.notification", "notifications"),
            Entry("admin.logentry", "history"),
        ),
    ),
    Group(
        "Catalogue",
        (
            Entry("reservations.service", "deployed_code"),
            Entry("reservations.serviceversion", "style"),
            Entry("reservations.size", "straighten"),
            Entry("reservations.storageprofile", "database"),
        ),
    ),
    Group(
        "Reservations",
        (
            Entry("reservations.reservation", "event"),
            Entry("reservations.waitingentry", "hourglass_empty"),
            Entry("reservations.container", "package_2"),
            Entry("reservations.endpoint", "link"),
            Entry("reservations.event", "timeline"),
            Entry("reservations.usageperiod", "timer"),
            Entry("reservations.workspacevolume", "hard_drive"),
            Entry("reservations.orphan", "help"),
            Entry("reservations.idempotencykey", "fingerprint"),
        ),
    ),
    Group(
        "Machines",
        (
            Entry("compute.node", "dns"),
            Entry("compute.gateway", "router"),
            Entry("compute.storageserver", "storage"),
            Entry("compute.volume", "save"),
            Entry("compute.allocation", "pie_chart"),
            Entry("compute.loadstep", "stairs"),
            Entry("compute.forward", "swap_horiz"),
            Entry("compute.observedcontainer", "visibility"),
            Entry("compute.samplingmark", "bookmark"),
        ),
    ),
    Group(
        "Money",
        (
            Entry("billing.billingaccount", "account_balance_wallet"),
            Entry("billing.ledgerentry", "receipt_long"),
            Entry("billing.invoice", "request_quote"),
            Entry("billing.payment", "payments"),
            Entry("billing.rate", "sell"),
            Entry("billing.discount", "percent"),
            Entry("billing.dailycost", "calendar_month"),
            Entry("billing.invoiceline", "list"),
            Entry("billing.invoicedocument", "picture_as_pdf"),
            Entry("billing.settlement", "handshake"),
            Entry("billing.invoiceseries", "tag"),
            Entry("billing.budgetnotice", "notifications"),
            Entry("billing.ledgeraudit", "fact_check"),
        ),
    ),
    Group(
        "Monitoring",
        (
            Entry("monitor:index", "monitoring", "Fleet"),
            Entry("monitor:containers", "package_2", "Containers now"),
            Entry("monitor:capacity", "bar_chart", "Capacity"),
            Entry("monitor:what-if", "help_center", "What if a node dies?"),
            Entry("monitor:drift", "rule", "Drift"),
            Entry("monitor:events", "manage_search", "Events and audit"),
            Entry("monitor:incidents", "warning", "Incidents now"),
            Entry("monitor:reports", "summarize", "Health report"),
            Entry("monitor:money", "savings", "Money"),
            Entry("monitoring.incident", "history"),
            Entry("monitoring.delivery", "outgoing_mail"),
            Entry("monitoring.heartbeat", "ecg_heart"),
            Entry("monitoring.driftlook", "troubleshoot"),
        ),
    ),
)


def groups(request: HttpRequest) -> list[dict[str, Any]]:
    """The groups with the links that this person may follow, as unfold's sidebar reads them."""
    known = {model._meta.label_lower: page for model, page in admin.site._registry.items()}
    found = []
    for group in GROUPS:
        items = [item for entry in group.entries if (item := _item(entry, known, request))]
        if items:
            found.append({"title": group.title, "separator": True, "collapsible": True, "items": items})
    return found


def group_of(label: str) -> str:
    """The title of the group that has the model ("app.model")."""
    return next((group.title for group in GROUPS for entry in group.entries if entry.to == label), "Administration")


def _item(entry: Entry, known: dict[str, Any], request: HttpRequest) -> dict[str, Any] | None:
    if ":" in entry.to:
        try:
            return {"title": entry.title, "icon": entry.icon, "link": reverse(entry.to)}
        except NoReverseMatch:
            return None  # a page that this version does not have
    page = known.get(entry.to)
    if page is None or not page.has_view_permission(request):
        return None
    title = page.opts.verbose_name_plural
    link = reverse(f"admin:{page.opts.app_label}_{page.opts.model_name}_changelist")
    return {"title": title[:1].upper() + title[1:], "icon": entry.icon, "link": link}
