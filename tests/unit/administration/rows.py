"""Some rows of every model that the admin shows, as many as are asked for."""

from datetime import timedelta
from decimal import Decimal
from itertools import count

from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from allauth.socialaccount.models import SocialAccount
from allauth.usersessions.models import UserSession
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.auth.models import Group
from django.contrib.contenttypes.models import ContentType
from django.contrib.sessions.backends.db import SessionStore
from django.utils import timezone

from accounts.models import Invitation, Notice, NotificationChoice, SshKey, User, Workspace
from accounts.notifying import News, tell
from billing import payments
from billing.accounts import account_of
from billing.models import BudgetNotice, DailyCost, Discount, InvoiceDocument, InvoiceSeries, LedgerAudit, Rate
from compute.models import Allocation, Gateway, Node, ObservedContainer, SamplingMark, StorageServer, Volume
from monitoring.models import Delivery, DriftLook, Heartbeat, Incident
from reservations.models import (
    Container,
    IdempotencyKey,
    Orphan,
    Reservation,
    ServiceVersion,
    Size,
    StorageProfile,
    UsagePeriod,
    WaitingEntry,
    WorkspaceVolume,
)
from tests.factories import (
    HOUR,
    make_node,
    make_profiles,
    make_reservation,
    make_service,
    make_token,
    make_user,
    workspace_of,
)
from tests.unit.billing.bills import make_charge, make_invoice
from tests.unit.billing.test_payments import grant, pay

_numbers = count(1)
SECRETS = {"totp": "JBSWY3DPEHPK3PXPSECRET", "answer": "the-answer-holds-a-password"}


def make_rows(how_many: int) -> None:
    """So many more of every model, except of those of which there can be one or three."""
    make_profiles()
    for _ in range(how_many):
        number = next(_numbers)
        user = make_user(f"person{number}")
        node = _machines(number)
        reservation = _booked(user, node, number)
        _of_a_person(user, number)
        _money(workspace_of(user), reservation, number)
        _monitored(node, user, number)


def _machines(number: int) -> Node:
    gate = Gateway.objects.create(
        name=f"gate{number}", public_address=f"198.18.0.{number}", private_subnet="10.0.0.0/8"
    )
    return make_node(f"machine{number}", gateway=gate, ram_mib=65_536, cores=64)


def _booked(user: User, node: Node, number: int) -> Reservation:
    now = timezone.now()
    size = Size.objects.create(slug=f"size{number}", name=f"Size {number}", cores=1, ram_mib=64 + number)
    service = make_service(f"service{number}", default_size=size)
    ServiceVersion.objects.create(service=service, name="2", image="library/nginx:2")
    reservation = make_reservation(user, now=now, name=f"work {number}", service=service, size=size)
    if not reservation.containers.exists():
        held = Allocation.objects.create(node=node, ram_mib=1, cores=1, during=(now, now + HOUR))
        Container.objects.create(reservation=reservation, generation=1, node=node, allocation=held)
    UsagePeriod.objects.create(reservation=reservation, generation=1, cores=1, during=(now, now + HOUR))
    Orphan.objects.create(node=node, name=f"berth-{number}-1-main")
    IdempotencyKey.objects.create(
        user=user, key=f"key {number}", fingerprint="0" * 64, reservation=reservation, answer={"x": SECRETS["answer"]}
    )
    WaitingEntry.objects.create(
        workspace=workspace_of(user),
        created_by=user,
        service=service,
        ram_mib=64,
        cores=1,
        storage="C1",
        length=HOUR,
        created_at=now,
        place_at=now,
    )
    server = StorageServer.objects.create(name=f"store{number}", address="10.99.0.250")
    image = Volume.objects.create(size_gb=1, kept=True, server=server)
    WorkspaceVolume.objects.create(workspace=workspace_of(user), name="kept", volume=image, service=service)
    return reservation


def _of_a_person(user: User, number: int) -> None:
    make_token(user)
    tell([News(user.pk, Notice.ENDED, f"ended:{number}", "It has ended", "", "/reservations/")], now=timezone.now())
    NotificationChoice.objects.create(user=user, kind=Notice.STARTED, by_mail=False)
    SshKey.objects.create(user=user, name="laptop", public_key="ssh-ed25519 AAAA", fingerprint=f"SHA256:{number}")
    SocialAccount.objects.create(user=user, provider="https://login.example.org", uid=str(number))
    now = timezone.now()
    Invitation.objects.create(
        workspace=workspace_of(user),
        email=f"guest{number}@example.org",
        digest=f"{number:064}",
        invited_by=user,
        created_at=now,
        expires_at=now + HOUR,
    )
    EmailAddress.objects.create(user=user, email=user.email, primary=True, verified=True)
    Authenticator.objects.create(user=user, type="totp", data={"secret": SECRETS["totp"]})
    session = SessionStore()
    session.create()
    UserSession.objects.create(user=user, ip="192.0.2.1", user_agent="Firefox", session_key=session.session_key)
    Group.objects.create(name=f"group {number}")
    LogEntry.objects.create(
        user=user,
        content_type=ContentType.objects.get_for_model(User),
        object_id=str(user.pk),
        object_repr=str(user),
        action_flag=CHANGE,
    )


def _money(workspace: Workspace, reservation: Reservation, number: int) -> None:
    now = timezone.now()
    charge = make_charge(workspace, "10.00", now)
    payments.correct(entry=charge, amount=Decimal(1), reason="x", by="test", now=now)
    invoice = make_invoice(workspace, None, now)
    pay(invoice, "2.00", received_on=now.date(), now=now, reference=f"bank {number}")
    grant(workspace, "1.00", now=now)
    InvoiceDocument.objects.get_or_create(invoice=invoice)
    InvoiceSeries.objects.create(year=1900 + number)
    DailyCost.objects.create(
        entry=charge, workspace=workspace, service=reservation.service, day=now.date(), amount=charge.amount
    )
    account = account_of(workspace.pk)
    BudgetNotice.objects.create(
        account=account, month=now.date().replace(day=1), percent=80, budget=10, spent=9, noted_at=now
    )
    Rate.objects.create(workspace=workspace, currency="USD", during=(now + HOUR, None), per_core_hour=1)
    Discount.objects.create(workspace=workspace, during=(now + HOUR, None), percent=5, reason="x")
    LedgerAudit.objects.get_or_create(
        id=1, defaults={"at": now, "seconds": 1, "reservations": 1, "entries": 1, "invoices": 1, "found": 0}
    )


def _monitored(node: Node, user: User, number: int) -> None:
    now = timezone.now()
    ObservedContainer.objects.create(
        node=node,
        name=f"berth-{number}-1-main",
        engine_id=f"{number:064}",
        state="running",
        first_seen_at=now,
        changed_at=now,
    )
    incident = Incident.objects.create(
        kind="node_down",
        subject=f"node:{node.pk}",
        name=node.name,
        severity="critical",
        sentence="It does not answer.",
        path=f"/monitor/nodes/{node.name}/",
        first_seen_at=now,
        last_seen_at=now,
        acknowledged_by=user,
    )
    Delivery.objects.create(
        incident=incident, about="opened", channel="mail", recipient="ops@example.org", created_at=now
    )
    SamplingMark.objects.get_or_create(name="round", defaults={"at": now})
    Heartbeat.objects.create(name=f"worker@{number}", kind="worker", started_at=now, at=now)
    DriftLook.objects.create(asked_at=now - timedelta(days=number), asked_by="root", finished_at=now)


ONE_OR_THREE = {LedgerAudit, SamplingMark, StorageProfile}
