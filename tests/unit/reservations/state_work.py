"""What the workers of the state machine do: single looks, rounds of the timetable, and work until there is none."""

from collections import Counter
from datetime import timedelta

from compute import health
from compute import tasks as machine_tasks
from compute.models import Node
from reservations import claims, reconcile, tasks
from reservations.models import Orphan, Reservation
from tests.unit.reservations.state_promises import Rows, differs, rules_differ, volumes_differ
from tests.unit.reservations.state_world import Script, World

MOST_TICKS = 150


class Workers:
    """Two worker processes, w1 and w2; each look can be one that goes wrong by a script."""

    def __init__(self, world: World, tally: "Counter[str]") -> None:
        self.world = world
        self.tally = tally

    def reconcile(self, reservation_id: int, script: Script, *, name: str = "w1") -> bool:
        """One look; whether the worker lived to its end and nothing came in between."""
        with self.world.worker(name, script) as work:
            reconcile.reconcile(reservation_id, self.world.clock)
        self.tally["looks"] += 1
        self.tally["crashes"] += work.dead
        return not work.met

    def due(self, script: Script) -> int:
        """Look at everything that is due, as after a sweep; the first look goes by the script."""
        found = list(Reservation.objects.due(self.world.clock.now).values_list("pk", flat=True))
        for reservation_id in found:
            self.reconcile(reservation_id, script)
            script = {}
        return len(found)

    def round(self, what: str, script: Script, *, name: str = "w1", nodes: set[str] | None = None) -> None:
        """A round of the timetable; `nodes`: only of those, so that a quiet one costs no time."""
        rounds = {
            "watch": tasks.watch_nodes,
            "volumes": tasks.sweep_volumes,
            "probe": machine_tasks.probe,
            "gateways": machine_tasks.check_gateways,
        }
        if what == "gateways" and self.world.at_work:
            return  # the lock of a gateway is the session's: here all workers have the same one
        with self.world.worker(name, script) as work:
            self.world.quiet = set() if nodes is None else set(self.world.engines) - nodes
            rounds[what]()
        self.world.quiet = set()
        self.tally["rounds"] += 1
        self.tally["crashes"] += work.dead

    def start_again(self) -> None:
        for name in sorted(self.world.dead_workers):
            claims.work_as(name)
        claims._owner = ""
        self.world.dead_workers.clear()

    def tick(self, seconds: float) -> None:
        """The timetable for some seconds: probe, watch, sweep."""
        self.world.pass_time(seconds)
        reasons = self.reasons()
        self.round("probe", {}, nodes=reasons["probe"])
        self.round("watch", {}, nodes=reasons["watch"])
        self.due({})

    def settle(self) -> None:
        """Until nothing is due, moves, is out of service or differs; rounds without a reason are left out."""
        before: dict[str, set[str]] = {}
        for _ in range(MOST_TICKS):
            if self.due({}):
                continue
            reasons = self.reasons()
            orphans = Orphan.objects.filter(quarantined_at=None).exists()
            for what in ("probe", "watch", "volumes", "gateways"):
                if reasons[what] or orphans:
                    self.round(what, {}, nodes=None if orphans else reasons[what])
            if not any(reasons.values()) and not orphans and not self.something_moves():
                return
            if reasons == before:
                self.world.pass_time(61 if orphans else 5)
            before = reasons
        rows = Reservation.objects.live().values_list("pk", "state", "reason", "look_at")
        why = {name: differs(self.world, Rows.read(), name) for name in self.world.engines}
        raise AssertionError(f"it does not come to rest: {self.reasons()} {why} {list(rows)}")

    def something_moves(self) -> bool:
        soon = self.world.clock.now + timedelta(seconds=45)
        return Reservation.objects.live().filter(look_at__lte=soon).exists()

    def reasons(self) -> dict[str, set[str]]:
        """For each round the nodes or gateways where it would find something to do."""
        rows, world = Rows.read(), self.world
        ailing = Node.objects.exclude(health=Node.Health.OK, failures=0).values_list("name", flat=True)
        silent = {name for name, engine in world.engines.items() if engine.trouble.silent}
        # Who was seen once is probed again before that is too long ago, as by the timetable: else the brake would act.
        unseen = Node.objects.filter(last_seen_at__lt=world.clock.now - health.UNSEEN_AFTER / 2)
        return {
            "probe": silent | set(ailing) | set(unseen.values_list("name", flat=True)),
            # a node that comes back is in service again once a watch round found nothing old on it
            "watch": {name for name in world.engines if differs(world, rows, name)} | set(ailing),
            "volumes": {name for name in world.engines if any(volumes_differ(world, rows, name))},
            "gateways": {name for name in world.gateways if any(rules_differ(world, rows, name))},
        }
