"""The images on the lab's nodes."""

from lab import Lab
from tests.integration.desk import Desk


def forget_image(lab: Lab, service: str) -> None:
    """No node has it any more: the next start has to pull it."""
    script = f"docker images --format '{{{{.Repository}}}} {{{{.ID}}}}' | awk '/{service}/ {{print $2}}' | sort -u"
    for node in lab.info.nodes:
        lab.exec(node.name, ["sh", "-c", f"{script} | xargs -r docker rmi -f"])
        assert not lab.exec(node.name, ["sh", "-c", script]).stdout


def bring_image(desk: Desk, service: str) -> None:
    """Every node has it: wherever it starts, nobody asks the registry."""
    [[image, digest]] = desk.sql("SELECT image, digest FROM reservations_service WHERE slug = %s", service)
    reference = f"{desk.stack.env['BERTH_REGISTRY']}/{image.rsplit(':', 1)[0]}@{digest}"
    for node in desk.lab.info.nodes:
        desk.lab.exec(node.name, ["docker", "pull", "--quiet", reference], timeout=60)
