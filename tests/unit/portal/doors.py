"""Four people in front of every address: its owner, another tenant, nobody in particular, and staff."""

import json
import re
import time
from dataclasses import dataclass, field
from typing import Any

from allauth.account.forms import default_token_generator
from allauth.account.models import EmailAddress, EmailConfirmationHMAC
from allauth.account.utils import user_pk_to_url_str
from allauth.mfa.models import Authenticator
from allauth.mfa.recovery_codes.internal.auth import RecoveryCodes
from django.apps import apps
from django.contrib.contenttypes.models import ContentType
from django.core.cache import cache
from django.test import Client
from django.utils import timezone

from accounts import choosing, inviting
from accounts.models import ApiToken, Invitation, Membership, Notice, Notification, Role, SshKey, User, Workspace
from accounts.notifying import News, tell
from billing.models import Invoice, InvoiceDocument
from compute.models import Node, ObservedContainer, Volume
from monitoring.models import Delivery, Incident
from portal.routes import Route
from reservations import calendar_feed, offering, waiting
from reservations.models import Container, Reservation, WaitingEntry, WorkspaceVolume
from reservations.tasks import SWEPT_AT
from tests.factories import (
    make_booking,
    make_reservation,
    make_storage,
    make_team,
    make_token,
    make_user,
    workspace_of,
)
from tests.unit.billing.bills import make_invoice

CANARY = "canary"  # in the name of everything that the owner has
BOOKING = {"service": "nginx", "size": "small", "duration": "60", "storage": "C1"}
INVITED = "the-secret-of-an-invitation"
# What is sent to an address, where nothing would not do.
FORMS: dict[str, dict[str, str]] = {
    "reservations/new/": BOOKING,
    "reservations/quote/": BOOKING,
    "reservations/waiting/join/": BOOKING,
    "reservations/week/": BOOKING,
    "reservations/<int:pk>/rename/": {"name": f"{CANARY} renamed"},
    "reservations/<int:pk>/extend/": {"minutes": "15"},
    "reservations/<int:pk>/shorten/": {"minutes": "15"},
    "monitor/nodes/<str:name>/drain/": {"confirm": "yes"},
    "monitor/containers/<int:pk>/restart/": {"reason": "x"},
    "monitor/containers/<int:pk>/end/": {"reason": "x"},
    "monitor/drift/mend/": {"all": "1"},
    "billing/account/": {"part": "recipient", "recipient": CANARY},
}
BODIES: dict[str, dict[str, Any]] = {
    "api/v1/reservations": {"service": "nginx", "hours": 1},
    "api/v1/reservations/<int:pk>": {"name": "canary renamed"},
    "api/v1/reservations/<int:pk>/extend": {"hours": 1},
    "api/v1/reservations/<int:pk>/endpoints/<str:name>/allowed-sources": {"allowed_sources": []},
    "api/v1/waiting": {"service": "nginx", "hours": 1},
    "api/v1/waiting/<int:pk>/decline": {"stay": True},
    "api/v1/reservations/batch": {"service": "nginx", "hours": 1, "copies": 2},
    "api/v1/reservations/<int:pk>/shorten": {"hours": 0.25},
    "api/v1/quotes": {"service": "nginx", "hours": 1},
}


def log_in(client: Client, person: User) -> None:
    """As the log-in page does: with a note of how and when, and with the second factor of those who have one."""
    client.force_login(person, backend="django.contrib.auth.backends.ModelBackend")
    proofs = [{"method": "password", "at": time.time()}]
    for factor in Authenticator.objects.filter(user=person):
        proofs.append({"method": "mfa", "type": factor.type, "id": factor.pk, "at": time.time()})
    proofs[-1]["reauthenticated"] = True  # just now: no page asks for the password again
    session = client.session
    session["account_authentication_methods"] = proofs
    session["account_authentication_methods_user"] = str(person.pk)
    session.save()


# Pages about a factor that one has; for whoever has none they do not exist.
OF_A_FACTOR = {"accounts/mfa/totp/deactivate/", "accounts/mfa/recovery-codes/", "accounts/mfa/recovery-codes/download/"}


def make_factor(person: User) -> None:
    """A second factor, as staff must have."""
    Authenticator.objects.get_or_create(user=person, type=Authenticator.Type.TOTP, defaults={"data": {"secret": "x"}})


@dataclass
class Ground:
    """What the owner has, and who else there is."""

    owner: User
    other: User
    staff: User
    reservation: Reservation
    volume: WorkspaceVolume
    tokens: dict[str, str] = field(default_factory=dict)

    def person(self, who: str) -> User | None:
        return {"owner": self.owner, "other": self.other, "staff": self.staff}.get(who)

    def browser(self, who: str, **options: Any) -> Client:
        """Logged in just now, as this person."""
        client = Client(raise_request_exception=False, **options)
        if person := self.person(who):
            log_in(client, person)
        return client

    def visit(self, route: Route, method: str, who: str, **options: Any) -> Any:
        """The answer to this person: with a session on pages, with a token at the API."""
        path, person = address(route, self), self.person(who)
        if person and route.path in OF_A_FACTOR:
            make_factor(person)
            RecoveryCodes.activate(person)
        if not route.is_api:
            client, form = self.browser(who), FORMS.get(route.path, {})
            if route.path == "workspaces/switch/":
                form = {"workspace": str(_team(self).pk)}
            return client.generic(method, path, **options) if method not in BOTH else _send(client, method, path, form)
        headers = {}
        if person:
            token = self.tokens.setdefault(who, make_token(person))
            headers["Authorization"] = f"Bearer {token}"
        body = json.dumps(BODIES.get(route.path)) if method in {"POST", "PUT", "PATCH"} else ""
        return Client(raise_request_exception=False).generic(method, path, body, "application/json", headers=headers)


BOTH = {"GET", "POST"}


def _send(client: Client, method: str, path: str, form: dict[str, str]) -> Any:
    return client.post(path, form) if method == "POST" else client.get(path)


def text_of(answer: Any) -> str:
    """The body, of one that is sent in pieces, too; what is no text is guessed."""
    body = b"".join(answer.streaming_content) if answer.streaming else answer.content
    return bytes(body).decode(errors="replace")


def make_ground(owner: User, other: User, staff: User) -> Ground:
    """The owner has a reservation and a kept volume that nobody uses; a worker has just swept."""
    cache.set(SWEPT_AT, timezone.now())
    image = Volume.objects.create(size_gb=1, kept=True, server=make_storage())
    volume = WorkspaceVolume.objects.create(workspace=workspace_of(owner), name=f"{CANARY} volume", volume=image)
    reservation = make_reservation(owner, now=timezone.now(), name=f"{CANARY} reservation")
    return Ground(owner, other, staff, reservation, volume)


def address(route: Route, ground: Ground) -> str:
    """The route's address with what the owner has in the place of its parameters."""
    if route.path.startswith("admin/"):
        return "/" + re.sub(r"<[^>]+>", lambda found: _in_admin(route.path, str(found.group())), route.path)
    values = {
        "<int:pk>": _number(route, ground) if "<int:pk>" in route.path else "",
        "<path:number>": _invoice(ground).number if "<path:number>" in route.path else "",
        "<str:name>": "web" if "reservations/" in route.path else _node_of(ground).name,
        "<str:token>": choosing.token(ground.owner, "ended"),
        "<slug:slug>": ground.reservation.service.slug,
        "<uidb36>": user_pk_to_url_str(ground.owner),
        "<key>": default_token_generator.make_token(ground.owner),
        **_of_the_team(route, ground),
        "<str:secret>": _calendar_of(ground.other) if "<str:secret>" in route.path else "",
    }
    if route.path.startswith("accounts/confirm-email/"):
        of_owner = {"user": ground.owner, "email": ground.owner.email}
        mail = EmailAddress.objects.update_or_create(**of_owner, defaults={"verified": False})[0]
        values["<key>"] = EmailConfirmationHMAC(mail).key
    path = route.path
    for name, value in values.items():
        path = path.replace(name, value)
    assert "<" not in path, f"say in {__name__} what belongs into /{path}"
    return f"/{path}"


def _number(route: Route, ground: Ground) -> str:
    """Of what the owner has, of the kind that the address is about."""
    if "/webauthn/keys/" in route.path:
        data = {"name": f"{CANARY} key", "credential": {}}
        key, _ = Authenticator.objects.get_or_create(user=ground.owner, type="webauthn", defaults={"data": data})
        return str(key.pk)
    if "/accounts/keys/" in f"/{route.path}":
        defaults = {"name": f"{CANARY} key", "public_key": "ssh-ed25519 AAAA"}
        key_row, _ = SshKey.objects.get_or_create(user=ground.owner, fingerprint="SHA256:x", defaults=defaults)
        return str(key_row.pk)
    if "/tokens/" in route.path:
        make_token(ground.owner)
        return str(ApiToken.objects.filter(user=ground.owner, revoked_at=None)[0].pk)
    if "workspaces/invitations/" in route.path:
        return str(_invitation(_team(ground, "another"), ground.owner.email).pk)
    if "workspaces/<int" in route.path:
        return str(_team(ground).pk)
    if "notifications/" in route.path:
        tell([News(ground.owner.pk, Notice.STARTED, "k", f"{CANARY} runs", "", "/reservations/")], now=timezone.now())
        return str(Notification.objects.get(user=ground.owner, key="k").pk)
    if "waiting/" in route.path:
        return str(_offered(ground).pk)
    if "volumes/" in route.path:
        return str(ground.volume.pk)
    if "incidents/" in route.path:
        return str((_delivery() if "deliveries/" in route.path else _delivery().incident).pk)
    if "containers/" in route.path:
        return str(_observed(ground).pk)
    if "invoices/" in route.path:
        return str(_invoice(ground).pk)
    about = ("reservations/", "receipts/")
    assert any(part in route.path for part in about), f"say in {__name__} which number belongs into /{route.path}"
    return str(ground.reservation.pk)


def _of_the_team(route: Route, ground: Ground) -> dict[str, str]:
    """What stands for a shared workspace's members and invitations, on its pages."""
    if not route.path.startswith("workspaces/"):
        return {}
    team = _team(ground)
    return {
        "<int:user>": str(_member_of(team, ground).pk),
        "<int:invitation>": str(_invitation(team, "guest@example.org").pk),
        "<str:key>": INVITED,
    }


def _team(ground: Ground, name: str = "team") -> Workspace:
    """A shared workspace: the owner's, with a member, or another one, to which the owner is invited."""
    title = f"{CANARY} {name}"
    if found := Workspace.objects.filter(name=title).first():
        return found
    EmailAddress.objects.get_or_create(user=ground.owner, email=ground.owner.email, defaults={"verified": True})
    return make_team(title, owner=ground.owner if name == "team" else make_user())


def _member_of(team: Workspace, ground: Ground) -> User:
    """One who is not the owner; another one when that one was removed."""
    found = team.memberships.exclude(user=ground.owner).first()
    return found.user if found else Membership.objects.create(workspace=team, user=make_user()).user


def _invitation(team: Workspace, email: str) -> Invitation:
    now = timezone.now()
    of_team = {"workspace": team, "email": email, "accepted_at": None, "revoked_at": None}
    secret = INVITED if email == "guest@example.org" else email
    owner = team.memberships.filter(role=Role.OWNER).order_by("pk").first()
    values = {
        "digest": inviting.digest_of(secret),
        "invited_by": owner.user if owner else None,
        "created_at": now,
        "expires_at": now + inviting.GOOD_FOR,
    }
    return Invitation.objects.get_or_create(**of_team, defaults=values)[0]


def _offered(ground: Ground) -> WaitingEntry:
    """The owner's entry in the waiting list, which has an offer."""
    now = timezone.now()
    entry = WaitingEntry.objects.open().filter(created_by=ground.owner).first()
    if entry is None:
        wish = make_booking(name=f"{CANARY} wish")
        entry = waiting.join(booking=wish, workspace=workspace_of(ground.owner), by=ground.owner, now=now)
        offering.look_after(now)
    return entry


def _calendar_of(person: User) -> str:
    """What stands in the address of their calendar, which whoever knows it may read."""
    calendar_feed.open_(user=person)
    person.refresh_from_db()
    assert person.calendar_key
    return calendar_feed.secret_of(person.calendar_key)


def _node_of(ground: Ground) -> Node:
    """Where the owner's reservation is."""
    return Container.objects.select_related("node").get(reservation=ground.reservation).node


def _observed(ground: Ground) -> ObservedContainer:
    """The owner's container as its engine showed it; the node is one that cannot be asked."""
    node, now = _node_of(ground), timezone.now()
    Node.objects.filter(pk=node.pk).update(engine_url="tcp://127.0.0.1:9")
    name = Container.objects.get(reservation=ground.reservation).machine_name
    seen = {"name": name, "state": "running", "first_seen_at": now, "changed_at": now}
    of_owner = {"node": node, "engine_id": "f00", "reservation_id": ground.reservation.pk}
    return ObservedContainer.objects.get_or_create(**of_owner, defaults=seen)[0]


def _invoice(ground: Ground) -> Invoice:
    """The owner's one invoice."""
    workspace = workspace_of(ground.owner)
    invoice = Invoice.objects.filter(workspace=workspace).first() or make_invoice(workspace)
    InvoiceDocument.objects.get_or_create(invoice=invoice)
    return invoice


def _delivery() -> Delivery:
    """Of an incident that is open; nobody's but the staff's."""
    now = timezone.now()
    seen = {"name": "x", "severity": "info", "first_seen_at": now, "last_seen_at": now, "opened_at": now}
    incident, _ = Incident.objects.get_or_create(kind="brake", subject="portal", closed_at=None, defaults=seen)
    return Delivery.objects.get_or_create(incident=incident, defaults={"created_at": now, "channel": "mail"})[0]


def _in_admin(path: str, name: str) -> str:
    """A row of the model, or the number of none."""
    if name == "<app_label>":
        return "compute"
    if name == "<path:content_type_id>":
        return str(ContentType.objects.get_for_model(Reservation).pk)
    if name == "<url>":
        return "nothing"
    app, model = path.split("/")[1:3]
    row = None if app == "r" else apps.get_model(app, model)._default_manager.first()
    return str(row.pk if row else 999_999)
