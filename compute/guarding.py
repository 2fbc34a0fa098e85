"""Keeps every node's guard as it should be; writes down what is wrong with it, and until when its certificate holds."""

import ipaddress
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from django.conf import settings

from compute import certificates, drivers, guard
from compute.log_context import about_its_node
from compute.models import Node
from compute.shell import CommandFailed, NoAnswer

logger = logging.getLogger(__name__)
REINSTALL = "The workers put it there again within two minutes; manage.py add_node does it now."


@dataclass(frozen=True, slots=True)
class Trouble:
    """What is wrong with a node's guard, its clock or a certificate. `checked`: False if it did not answer."""

    where: str
    sentence: str
    mend: str
    checked: bool = True


def install(node: Node) -> None:
    """Put the guard on the node, or bring it up to date. Nothing where Berth has no SSH. Raises as guard.install."""
    host = drivers.host(node)
    if host:
        guard.install(host, blocked=blocked_networks(node))


def blocked_networks(node: Node) -> list[str]:
    """The operator's own network, as the node's gateway has it; all private ranges are blocked anyway."""
    try:
        return [str(ipaddress.IPv4Network(node.gateway.private_subnet))]
    except ValueError:  # a gateway without rules may have none
        return []


@about_its_node
def watch(node: Node, now: datetime) -> None:
    """Look at the node's guard and certificate, put back what is missing, and write down what is wrong.

    A node that does not answer keeps what was written last: that it is silent is said by its health.
    """
    seen: dict[str, object] = {}
    try:
        problem = _mended(node)
        seen = {"guard_checked_at": now, "guard_problem": problem[:300]}
        if problem and problem != node.guard_problem:
            logger.warning("the guard of node %s: %s", node.name, problem)
    except NoAnswer as silence:
        logger.info("the guard of node %s could not be asked: %s", node.name, silence)
    except CommandFailed as failed:
        seen = {"guard_checked_at": now, "guard_problem": f"its guard could not be put there: {failed}"[:300]}
        logger.warning("the guard of node %s: %s", node.name, failed)
    try:
        if expires_at := certificates.engine_expiry(node.engine_url, settings.BERTH_TLS_DIR):
            seen["tls_expires_at"] = expires_at
    except NoAnswer as silence:
        logger.info("node %s: %s", node.name, silence)
    if seen:
        Node.objects.filter(pk=node.pk).update(**seen)


def _mended(node: Node) -> str:
    """What is wrong with the guard after what could be mended was."""
    host = drivers.host(node)
    if host is None:
        return ""
    blocked = blocked_networks(node)
    report = guard.examine(host, blocked=blocked)
    if report.needs_install:
        logger.warning("node %s: %s; putting the guard there again", node.name, "; ".join(report.problems))
        guard.install(host, blocked=blocked)
        report = guard.examine(host, blocked=blocked)
    guard.tell_skew(host, report)
    return "; ".join(report.problems)


def troubles(now: datetime) -> Iterator[Trouble]:
    """What is wrong at this moment, asked of the nodes themselves."""
    if ends := certificates.warning(certificates.client_expiry(settings.BERTH_TLS_DIR), now):
        yield Trouble("portal", f"its client certificate for the engines {ends}", _RENEW)
    for node in Node.objects.present().select_related("gateway"):
        yield from _of_guard(node)
        try:
            expires_at = certificates.engine_expiry(node.engine_url, settings.BERTH_TLS_DIR)
        except NoAnswer as silence:
            yield Trouble(node.name, str(silence), "See that its engine answers.", checked=False)
            continue
        if ends := certificates.warning(expires_at, now):
            yield Trouble(node.name, f"its engine's certificate {ends}", f"manage.py renew_certificate {node.name}.")


_RENEW = "Issue a new one from your authority (docs/operators.md, Keys and certificates)."


def _of_guard(node: Node) -> Iterator[Trouble]:
    host = drivers.host(node)
    if host is None:
        if node.engine_url.startswith("tcp://"):
            yield Trouble(
                node.name,
                "it has no guard, since Berth has no SSH to it: nothing ends its containers when it is cut off",
                "manage.py add_node with --ssh.",
            )
        return
    try:
        report = guard.examine(host, blocked=blocked_networks(node))
    except (NoAnswer, CommandFailed) as problem:
        yield Trouble(node.name, f"its guard could not be asked: {problem}", "See that SSH answers.", checked=False)
        return
    for sentence in report.problems:
        mend = "See that its time is kept (chrony, ntpd)." if sentence.startswith("its clock") else REINSTALL
        yield Trouble(node.name, sentence, _PACKAGES if sentence.startswith("it has no ") else mend)


_PACKAGES = "manage.py add_node puts the guard there; programs come from the node's own packages."
