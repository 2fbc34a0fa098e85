"""compute.volumes in memory: the disks of all nodes and one storage server."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from compute.shell import CommandFailed, Host
from compute.spec import RemoteStore, VolumeSpec
from compute.volume_scripts import MOUNTED_AT
from compute.volumes import Condition, ForeignImage, StorageSilent
from tests.fakes.trouble import Trouble


@dataclass
class Disk:
    """What one node has mounted, and the images on its own disk with the ids of their file systems."""

    mounted: set[str] = field(default_factory=set)
    images: dict[str, str] = field(default_factory=dict)


@dataclass
class FakeVolumes:
    """Keeps the promises of compute.volumes; `trouble_of` tells of a node (by its SSH target) how it is."""

    trouble_of: Callable[[str], Trouble]
    storage: Trouble = field(default_factory=lambda: Trouble("store"))
    disks: dict[str, Disk] = field(default_factory=dict)
    remote: dict[str, str] = field(default_factory=dict)
    made: list[str] = field(default_factory=list)  # each time an image was made

    def disk(self, target: str) -> Disk:
        return self.disks.setdefault(target, Disk())

    # ---- compute.volumes ----------------------------------------------------------------------------------

    def attach(self, node: Host, volume: VolumeSpec) -> str:
        with self.trouble_of(node.target).during("attach"):
            disk = self.disk(node.target)
            if volume.remote and self.storage.silent:
                raise StorageSilent(f"the storage server of {volume.name} does not answer")
            images = self.remote if volume.remote else disk.images
            if volume.name not in disk.mounted:
                if volume.name not in images:
                    self._make(volume, images)
                if volume.uuid and images[volume.name] != volume.uuid:
                    raise ForeignImage(node.target, ["sh"], 76, f"the image of {volume.name} is another one")
                if volume.remote and any(volume.name in other.mounted for other in self.disks.values()):
                    raise CommandFailed(node.target, ["sh"], 32, f"{volume.name} is in use elsewhere (MMP)")
                disk.mounted.add(volume.name)
        return f"{MOUNTED_AT}/{volume.name}/data"

    def _make(self, volume: VolumeSpec, images: dict[str, str]) -> None:
        if not volume.fresh:
            raise CommandFailed("node", ["sh"], 1, f"the image of {volume.name} is missing")
        images[volume.name] = volume.uuid
        self.made.append(volume.name)

    def detach(self, node: Host, volume: VolumeSpec) -> None:
        self.unmount(node, volume.name)

    def unmount(self, node: Host, name: str) -> None:
        with self.trouble_of(node.target).during("detach"):
            self.disk(node.target).mounted.discard(name)

    def remove_local(self, node: Host, volume: VolumeSpec) -> None:
        with self.trouble_of(node.target).during("remove_local"):
            disk = self.disk(node.target)
            disk.mounted.discard(volume.name)
            if not volume.uuid or disk.images.get(volume.name) == volume.uuid:
                disk.images.pop(volume.name, None)

    def check(self, node: Host, attached: Sequence[VolumeSpec]) -> dict[str, Condition]:
        with self.trouble_of(node.target).during("check", changes=False):
            mounted = self.disk(node.target).mounted
            return {v.name: Condition.WELL if v.name in mounted else Condition.GONE for v in attached}

    def storage_answers(self, node: Host, volume: VolumeSpec) -> bool:
        with self.trouble_of(node.target).during("storage_answers", changes=False):
            return volume.remote is None or not self.storage.silent

    def remove_remote(self, portal: Host, store: RemoteStore, name: str, uuid: str = "") -> None:
        with self.storage.during("remove_remote"):
            if not uuid or self.remote.get(name) == uuid:
                self.remote.pop(name, None)

    def list_remote(self, portal: Host, store: RemoteStore) -> set[str]:
        with self.storage.during("list_remote", changes=False):
            return set(self.remote)

    def list_mounted(self, node: Host) -> set[str]:
        return self.list_both(node)[0]

    def list_local(self, node: Host) -> set[str]:
        return self.list_both(node)[1]

    def list_both(self, node: Host) -> tuple[set[str], set[str]]:
        with self.trouble_of(node.target).during("list_both", changes=False):
            disk = self.disk(node.target)
            return {f"volumes/{name}" for name in disk.mounted}, set(disk.images)
