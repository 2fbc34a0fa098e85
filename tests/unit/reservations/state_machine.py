"""The state machine's rules: what customers, operators, workers, machines and chance do, in any order."""

from collections import Counter
from contextlib import suppress
from datetime import datetime, timedelta
from itertools import count
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from accounts.models import User, Workspace
from compute import actions as machine_actions
from compute.capacity import NoCapacity
from compute.load_steps import wrong_steps
from compute.models import Gateway, Node
from compute.spec import LABEL_GENERATION, LABEL_KEY, LABEL_RESERVATION, Presence
from reservations import actions, extending, lost, relocation, restarting, shortening
from reservations.models import Reservation, WorkspaceVolume
from reservations.states import LIVE
from tests.factories import make_booking, make_service, make_size, profile
from tests.unit.reservations import state_promises as promises
from tests.unit.reservations.state_waiting import Waits
from tests.unit.reservations.state_work import Workers
from tests.unit.reservations.state_world import IMAGE, PAST_CLAIM, Door, Script, Unsaved, World

HALF_HOUR = timedelta(minutes=30)
MOST = 3  # reservations at once: what goes wrong between many goes wrong between three
SECONDS = [1, 4, 12, 45, PAST_CLAIM.total_seconds(), 700, 1800, 3700]
INSIDE = ["other worker", "overtaken", "delete", "stop", "resume", "extend", "watch", "probe", "volumes"]
INSIDE += ["ends", "drain", "move", "restart", "take", "shorten"]
DEEDS = st.one_of(
    st.just(("crash",)),
    st.just(("crash",)),
    st.sampled_from([("no answer",), ("refuse",), ("cut off",)]),
    st.tuples(st.sampled_from(["hang", "hang and no answer"]), st.sampled_from([6, 40, PAST_CLAIM.total_seconds()])),
    st.tuples(st.just("inside"), st.sampled_from(INSIDE)),
)
MOMENTS = st.one_of(st.integers(1, 6), st.integers(7, 30))  # a start has about thirty, a quiet look four
SCRIPTS = st.dictionaries(MOMENTS, DEEDS, min_size=1, max_size=2)
WHICH = st.integers(0, MOST - 1)
NODES = st.sampled_from(["a", "b", "c"])
tally: Counter[str] = Counter()  # what was done over all examples


class Fleet:
    """The rows that every example begins with; they are the only ones that are really saved."""

    door: Door
    user: User
    workspace: Workspace
    lent: dict[str, promises.Held]
    names: dict[int, str]


class Schedules(Waits, RuleBasedStateMachine):
    """Customers book on three nodes behind two gateways, and everything fails at every moment."""

    def __init__(self) -> None:
        super().__init__()
        self.tally = tally
        tally["schedules"] += 1
        self.unsaved = Unsaved()
        self.unsaved.begin()
        self.world = Fleet.door.world = World(inside=self.inside)
        self.workers = Workers(self.world, tally)
        self.ids: list[int] = []
        self.kept: set[str] = set()
        self.foreign: set[tuple[str, str]] = set()
        self.were_off: set[str] = set()
        self.nobodys: dict[tuple[str, str], datetime] = {}
        self.names = count(1)
        self.looked_at: int | None = None
        for node in Node.objects.select_related("gateway"):
            self.world.engine(node)
            self.world.gateway(node.gateway)

    # ---- customers ----------------------------------------------------------------------------------------

    @initialize(storage=st.sampled_from(["none", "C1", "C2", "C3"]), script=SCRIPTS)
    def first(self, storage: str, script: Script) -> None:
        self.place(storage, "small", 0)
        self.look_at_one(0, script)

    @precondition(lambda self: len(self.ids) < MOST)
    @rule(
        storage=st.sampled_from(["none", "C1", "C2", "C3", "again"]),
        size=st.sampled_from(["small", "big"]),
        minutes=st.sampled_from([0, 0, 1, 61]),
    )
    def book(self, storage: str, size: str, minutes: int) -> None:
        self.place(storage, size, minutes)

    def place(self, storage: str, size: str, minutes: int) -> None:
        volume = WorkspaceVolume.objects.present().first() if storage == "again" else None
        booking = make_booking(
            service=make_service("plain" if storage == "none" else "data"),
            size=make_size(size),
            storage=profile({"none": "C1", "again": "C3"}.get(storage, storage)),
            volume=volume,
            start=self.world.clock.now + timedelta(minutes=minutes) if minutes else None,
        )
        with suppress(NoCapacity, actions.VolumeTaken, actions.OverQuota, actions.InvalidBooking):
            made = actions.book(booking=booking, workspace=Fleet.workspace, by=Fleet.user, now=self.world.clock.now)
            self.ids.append(made[0].pk)

    @rule(which=WHICH, script=SCRIPTS)
    def delete(self, which: int, script: Script) -> None:
        if reservation := self.chosen(which):
            actions.end(reservation=reservation, text="Deleted.", by="customer", now=self.world.clock.now)
            self.look_at_one(which, script)

    @rule(which=WHICH, wish=st.sampled_from(["stop", "run"]), script=SCRIPTS)
    def wish(self, which: int, wish: str, script: Script) -> None:
        if reservation := self.chosen(which):
            now = self.world.clock.now
            actions.wish(reservation=reservation, wish=Reservation.Wish(wish), by=Fleet.user, now=now)
            self.look_at_one(which, script)

    @rule(which=WHICH)
    def extend(self, which: int) -> None:
        if reservation := self.chosen(which):
            with suppress(NoCapacity, extending.CannotExtend, actions.OverQuota, actions.InvalidBooking):
                extending.extend(reservation=reservation, length=HALF_HOUR, by=Fleet.user, now=self.world.clock.now)

    @rule(which=WHICH)
    def shorten(self, which: int) -> None:
        if reservation := self.chosen(which):
            with suppress(shortening.CannotShorten, actions.InvalidBooking):
                shortening.shorten(reservation=reservation, length=HALF_HOUR, by=Fleet.user, now=self.world.clock.now)
                tally["shortened"] += 1

    @precondition(lambda self: WorkspaceVolume.objects.present().exists())
    @rule()
    def delete_volume(self) -> None:
        volume = WorkspaceVolume.objects.present().first()
        if volume:
            with suppress(actions.VolumeInUse):
                actions.delete_volume(volume=volume, by=Fleet.user, now=self.world.clock.now)
                self.kept.discard(volume.volume.machine_name)

    def customer(self) -> tuple[User, Workspace]:
        return Fleet.user, Fleet.workspace

    def chosen(self, which: int) -> Reservation | None:
        return Reservation.objects.get(pk=self.ids[which % len(self.ids)]) if self.ids else None

    # ---- workers ------------------------------------------------------------------------------------------

    @rule(which=WHICH, script=SCRIPTS)
    def look_at_one(self, which: int, script: Script) -> None:
        if self.ids:
            self.looked_at = self.ids[which % len(self.ids)]
            if self.workers.reconcile(self.looked_at, script):
                now = self.world.clock.now
                self.report(promises.waiting(promises.Rows.read(), self.looked_at, now))

    @rule()
    def workers_look(self) -> None:
        self.workers.due({})

    @rule(script=SCRIPTS)
    def look_at_what_is_due(self, script: Script) -> None:
        self.workers.due(script)

    @rule(script=SCRIPTS, what=st.sampled_from(["watch", "probe", "gateways", "volumes"]))
    def round(self, script: Script, what: str) -> None:
        self.workers.round(what, script)

    @rule(rounds=st.integers(1, 9))
    def everything_runs(self, rounds: int) -> None:
        for _ in range(rounds):
            self.workers.tick(5)

    @rule()
    def workers_start_again(self) -> None:
        self.workers.start_again()

    def inside(self, what: str) -> None:
        """Something that happens while a worker waits for a machine."""
        tally["inside"] += 1
        reservation = Reservation.objects.filter(pk=self.looked_at).first() if self.looked_at else None
        if what == "overtaken":
            self.world.pass_time(PAST_CLAIM.total_seconds())
        if what in {"other worker", "overtaken"} and self.looked_at:
            self.workers.reconcile(self.looked_at, {}, name="w2")
        elif what == "delete" and reservation:
            actions.end(reservation=reservation, text="Deleted.", by="customer", now=self.world.clock.now)
        elif what in {"stop", "resume"} and reservation:
            wish = Reservation.Wish.STOP if what == "stop" else Reservation.Wish.RUN
            actions.wish(reservation=reservation, wish=wish, by=Fleet.user, now=self.world.clock.now)
        elif what in {"watch", "probe", "volumes"}:
            self.workers.round(what, {}, name="w2")
        elif what == "ends":
            self.ends(0, oom=False)
        elif what == "drain":
            self.operator("a", "draining")
        elif what == "extend":
            self.extend(0)
        elif what == "take":
            self.answer("take")
        elif what == "shorten":
            self.shorten(0)
        elif what == "move" and reservation:
            self.relocate(reservation, None, True)
        elif what == "restart" and reservation:
            self.ask_for_restart(reservation)

    # ---- operators ----------------------------------------------------------------------------------------

    @rule(node=NODES, state=st.sampled_from(["active", "cordoned", "draining"]))
    def operator(self, node: str, state: str) -> None:
        machine_actions.set_node_state(node=Node.objects.get(name=node), state=Node.State(state), by="operator")

    @rule(which=WHICH, to=st.one_of(st.none(), NODES), lose=st.booleans(), script=SCRIPTS)
    def move(self, which: int, to: str | None, lose: bool, script: Script) -> None:
        if reservation := self.chosen(which):
            self.relocate(reservation, to, lose)
            self.look_at_one(which, script)

    def relocate(self, reservation: Reservation, to: str | None, lose: bool) -> None:
        node = Node.objects.get(name=to) if to else None
        with suppress(relocation.CannotMove):
            relocation.relocate(
                reservation=reservation, to=node, lose_local_data=lose, by="operator", now=self.world.clock.now
            )
            tally["moved"] += 1

    @rule(which=WHICH, script=SCRIPTS)
    def restart(self, which: int, script: Script) -> None:
        if reservation := self.chosen(which):
            self.ask_for_restart(reservation)
            self.look_at_one(which, script)

    def ask_for_restart(self, reservation: Reservation) -> None:
        with suppress(restarting.CannotRestart):
            restarting.restart(reservation=reservation, by="operator", reason="It hangs.", now=self.world.clock.now)
            tally["restarts asked for"] += 1

    @rule(node=NODES)
    def declare_lost(self, node: str) -> None:
        """Somebody who knows: the node is really off, and will come back as a new machine, if ever."""
        if node in self.world.switched_off and not self.world.at_work:
            tally["declared lost"] += 1
            with suppress(lost.Busy):
                lost.declare_lost(node=Node.objects.get(name=node), by="operator", now=self.world.clock.now)
            self.world.come_back(node, wiped=True)

    # ---- machines and chance ------------------------------------------------------------------------------

    @rule(seconds=st.sampled_from(SECONDS))
    def time_passes(self, seconds: float) -> None:
        self.world.pass_time(seconds)

    @rule(node=NODES, how=st.sampled_from(["cut off", "switched off"]))
    def node_fails(self, node: str, how: str) -> None:
        if how == "cut off":
            self.world.cut(node)
        else:
            self.world.switch_off(node)
            self.were_off.add(node)

    @rule(node=NODES, wiped=st.booleans())
    def node_returns(self, node: str, wiped: bool) -> None:
        self.world.come_back(node, wiped=wiped)
        self.foreign = {(where, name) for where, name in self.foreign if name in self.world.engines[where].containers}
        self.nobodys = {
            (n, name): t for (n, name), t in self.nobodys.items() if name in self.world.engines[n].containers
        }

    @rule(silent=st.booleans(), which=st.sampled_from(["gateway", "storage", "registry", "service", "image"]))
    def other_machine(self, silent: bool, which: str) -> None:
        if which == "gateway":
            self.world.gateways["gate"].trouble.silent = silent
        elif which == "storage":
            self.world.volumes.storage.silent = silent
        elif which == "registry":
            self.world.registry_silent = silent
        elif which == "service":
            self.world.speechless = silent
        elif silent:
            self.world.registry.clear()
        else:
            self.world.registry.add(IMAGE)

    @rule()
    def gateway_is_flushed(self) -> None:
        for gateway in self.world.gateways.values():
            gateway.flush()

    @rule(which=WHICH, oom=st.booleans())
    def ends(self, which: int, oom: bool) -> None:
        """A container ends by itself."""
        running = [
            (engine, name)
            for engine in self.world.engines.values()
            for name, container in engine.containers.items()
            if container.presence == Presence.RUNNING and name not in {made for _, made in self.foreign}
        ]
        if running:
            engine, name = running[which % len(running)]
            engine.end_by_itself(name, 137, out_of_memory=oom)
            self.world.note_what_runs()

    @rule(node=NODES, which=WHICH)
    def stranger_takes_a_port(self, node: str, which: int) -> None:
        reservation = self.chosen(which)
        if reservation:
            row = Node.objects.get(name=node)
            ports = [endpoint.forward.node_port for endpoint in reservation.endpoints.select_related("forward")]
            self.world.engines[node].strangers_ports |= {(row.address, port) for port in ports}

    @rule(node=NODES, whose=st.sampled_from(["foreign", "orphan", "future"]))
    def stranger_appears(self, node: str, whose: str) -> None:
        """Foreign, of a generation that is over, or of one that no row knows (its rows are of an older backup)."""
        engine, row = self.world.engines[node], self.chosen(0)
        if whose == "foreign" or row is None:
            name = f"stranger-{next(self.names)}"
            engine.put_stranger(name)
            self.foreign.add((node, name))
            return
        generation = 0 if whose == "orphan" else 9000
        name = f"berth-{row.pk}-{generation}-main"
        if name in engine.containers:
            return  # an engine has one of a name, and that has been seen for a while already
        labels = {LABEL_RESERVATION: str(row.pk), LABEL_GENERATION: str(generation), LABEL_KEY: str(row.key)}
        engine.put_stranger(name, labels)
        self.nobodys[node, name] = self.world.clock.now

    # ---- the promises -------------------------------------------------------------------------------------

    @invariant()
    def always(self) -> None:
        tally["steps"] += 1
        self.world.note_what_runs()
        rows = promises.Rows.read()
        gone = {"removing", "removed"}  # by their owner: delete_volume takes them out, and nothing else does
        self.kept |= {f"vol-{v.id}" for v in rows.volumes if v.kept and v.formatted_at and v.state not in gone}
        self.report(promises.broken(self.world, rows, Fleet.lent, self.kept))
        for node, name in self.foreign:
            container = self.world.engines[node].containers.get(name)
            assert container, f"9: {name} was removed"
            # A node that is switched off ends them, and so does nobody else.
            assert container.presence == Presence.RUNNING or node in self.were_off, f"9: {name} was stopped"
        for (node, name), since in list(self.nobodys.items()):
            if name not in self.world.engines[node].containers:
                del self.nobodys[node, name]
                young = self.world.clock.now - since < timedelta(seconds=60)
                assert not young, f"1: {name} was removed too early"
                assert promises.FUTURE not in name, f"1: {name} was removed, and was nobody's to remove"

    def report(self, found: Any) -> None:
        sentences = list(found)
        assert not sentences, "\n".join(sentences)

    def teardown(self) -> None:
        try:
            self.heal()
            self.workers.settle()
            self.always()
            self.report(promises.unsettled(self.world, promises.Rows.read(), self.world.clock.now))
            self.finish()
        finally:
            self.unsaved.undo()

    def heal(self) -> None:
        """Every machine answers again, every operator is content, and no stranger is in the way."""
        world = self.world
        for name in world.engines:
            world.come_back(name)
            world.engines[name].strangers_ports.clear()
        for gateway in world.gateways.values():
            gateway.trouble.silent = False
        world.volumes.storage.silent = world.registry_silent = world.speechless = False
        world.registry.add(IMAGE)
        Node.objects.update(state=Node.State.ACTIVE)
        self.workers.start_again()

    def finish(self) -> None:
        """Every window is over."""
        ends = Reservation.objects.filter(state__in=LIVE).order_by("-end").values_list("end", flat=True)
        if last := ends.first():
            self.world.pass_time(max((last - self.world.clock.now).total_seconds(), 0))
            self.workers.settle()
            self.always()
            rows = promises.Rows.read()
            self.report(promises.unsettled(self.world, rows, self.world.clock.now))
            self.report(promises.left_over(rows))
        self.report(wrong_steps(self.world.clock.now))
        assert Gateway.objects.exists()
