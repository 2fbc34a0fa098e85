"""The images on the lab's nodes."""

from lab import Lab


def forget_image(lab: Lab, service: str) -> None:
    """No node has it any more: the next start has to pull it."""
    script = f"docker images --format '{{{{.Repository}}}} {{{{.ID}}}}' | awk '/{service}/ {{print $2}}' | sort -u"
    for node in lab.info.nodes:
        lab.exec(node.name, ["sh", "-c", f"{script} | xargs -r docker rmi -f"])
        assert not lab.exec(node.name, ["sh", "-c", script]).stdout
