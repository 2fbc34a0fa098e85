"""The steps of changing the portal's SSH key on every machine, in an order that never locks it out. No Django."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from compute import keys
from compute.keys import ByHand, KeyFiles, Machine
from compute.shell import CommandFailed, NoAnswer, SshOptions

Say = Callable[[str], None]


class NotYet(Exception):
    """Some machines are not ready; nothing was lost, and running it again goes on. The message says which and why."""

    def __init__(self, where: str, problems: Sequence[str]) -> None:
        super().__init__("\n".join([where, *problems]))


@dataclass(frozen=True, slots=True)
class Rotation:
    """One change of the key. `options` has the key in use, whichever that is at the time."""

    files: KeyFiles
    machines: Sequence[Machine]
    options: SshOptions
    say: Say

    def run(self, *, keep_old: bool = False) -> None:
        """Hand the new key out, try it everywhere, switch, take the old one away. Raises NotYet."""
        if not self.files.switched:
            self._hand_out()
            self.files.switch()
            self.say(f"The new key is in use: {self.files.key}. The old one is {self.files.going}.")
        if keep_old:
            self.say("The machines still let the old key in; run this again without --keep-old to end that.")
            return
        self._take_away()
        self.files.forget_old()
        self.say("The old key opens nothing any more, and is deleted.")

    def plan(self) -> None:
        """What `run` would do, and whether the key in use opens every machine. Changes nothing."""
        if self.files.switched:
            self.say(f"An earlier run has switched: the old key {self.files.going} would be taken away from")
        else:
            self.say(
                f"A new key for {self.files.key} would be made, let in beside the old one, tried and put in use on"
            )
        for machine in self.machines:
            try:
                opened = keys.opens(machine, self.files.key, self.options)
                answer = "answers" if opened else "REFUSES the key in use"
            except NoAnswer as problem:
                answer = f"DOES NOT ANSWER: {problem}"
            self.say(f"  {machine.name} ({machine.target}{', sftp only' if machine.sftp_only else ''}): {answer}")

    def _hand_out(self) -> None:
        self.files.make()
        new, old = keys.public(self.files.coming), keys.public(self.files.key)

        def step(machine: Machine) -> None:
            if not keys.opens(machine, self.files.coming, self.options):
                keys.hand_out(machine, new, old, self.options)
                if not keys.opens(machine, self.files.coming, self.options):
                    raise ByHand(f"it refuses the new key although it was put there; let it in:\n{new}")
            self.say(f"{machine.name}: lets the new key in")

        self._each(step, "The old key stays in use, since the new one does not open every machine:")

    def _take_away(self) -> None:
        old = keys.public(self.files.going)

        def step(machine: Machine) -> None:
            if keys.opens(machine, self.files.going, self.options):
                keys.take_away(machine, old, self.options)
                if keys.opens(machine, self.files.going, self.options):
                    raise ByHand(f"it still lets the old key in; remove it:\n{old}")
            self.say(f"{machine.name}: lets the old key in no longer")

        self._each(step, "The new key is in use, but the old one is still let in:")

    def _each(self, step: Callable[[Machine], None], otherwise: str) -> None:
        problems = []
        for machine in self.machines:
            try:
                step(machine)
            except (ByHand, NoAnswer, CommandFailed) as problem:
                problems.append(f"{machine.name}: {problem}")
        if problems:
            raise NotYet(otherwise, problems)
