"""Command line of the lab; see `python -m lab --help`."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
from pathlib import Path
from typing import NoReturn

from . import images, probe
from .lab import Lab
from .packages import PATH, require_programs
from .process import LabError
from .state import cache_dir, default_state_dir

_DESCRIPTION = """\
A data centre on this one machine, as network namespaces: a gateway, two compute nodes with a real Docker Engine each,
a storage server, a private image registry, an outside client, and a stand-in for a public image registry.
The machine itself plays the management node. Needs root; changes nothing of the machine's own firewall or services.
"""


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    # A login without /sbin on its path is common, and the tools live there.
    os.environ["PATH"] = f"{os.environ.get('PATH', '')}:{PATH}"
    try:
        return int(options.run(options))
    except PermissionError as error:
        print(f"lab: {error}; the lab's commands are for root", file=sys.stderr)
        return 1
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("lab: interrupted; the same command again goes on from here", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m lab", description=_DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--state-dir",
        type=Path,
        default=None,
        help=f"where labs keep their state and disks (default: BERTH_LAB_DIR or {default_state_dir()})",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    up = commands.add_parser("up", help="bring a lab up, or mend what is down of it")
    _name(up)
    up.add_argument("--owner", metavar="USER", help="system user who may read lab.json and the keys in portal/")
    up.add_argument(
        "--upstream",
        metavar="HOST[:PORT]",
        help="use this image registry; build no images and start no stand-in for one",
    )
    up.set_defaults(run=_up)

    down = commands.add_parser("down", help="remove a lab with all its data")
    _name(down)
    down.set_defaults(run=_down)

    status = commands.add_parser("status", help="show what runs; exit code 1 when something does not")
    _name(status)
    status.add_argument("--json", action="store_true", help="for programs")
    status.set_defaults(run=_status)

    execute = commands.add_parser("exec", help="run a command on a machine: exec NAME MACHINE -- COMMAND")
    _name(execute)
    execute.add_argument("machine", help="gateway, node1, node2, storage, registry, outside, upstream or switch")
    execute.add_argument("argv", nargs=argparse.REMAINDER, metavar="-- COMMAND", help="default: a shell")
    execute.set_defaults(run=_exec)

    escape = commands.add_parser(
        "probe", help="try to get out of containers of the lab's portal; exit code 1 on success"
    )
    _name(escape)
    escape.add_argument("--stack", help="name of the portal's stack (default: the lab's name)")
    escape.add_argument("--json", action="store_true", help="for programs")
    escape.set_defaults(run=_probe)

    build = commands.add_parser("images", help=f"build the images into the cache ({cache_dir()})")
    build.add_argument("--rebuild", action="store_true", help="even if the cache has them, for newer packages")
    build.set_defaults(run=_images)
    return parser


def _name(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", help="name of the lab, such as demo")


def _lab(options: argparse.Namespace) -> Lab:
    return Lab(options.name, options.state_dir)


def _say(line: str) -> None:
    print(line, flush=True)


def _up(options: argparse.Namespace) -> int:
    _lab(options).up(owner=options.owner, upstream=options.upstream, echo=_say)
    return 0


def _down(options: argparse.Namespace) -> int:
    _lab(options).down(echo=_say)
    return 0


def _status(options: argparse.Namespace) -> int:
    status = _lab(options).status()
    if options.json:
        print(json.dumps(dataclasses.asdict(status) | {"ok": status.ok}, indent=2))
    elif not status.exists:
        print(f"there is no lab {status.name}")
    else:
        print(f"{'machine':<10} {'address':<15} {'state':<9} daemons")
        for machine in status.machines:
            state = "off" if not machine.running else "up" if machine.connected else "cut off"
            words = [f"{name} {'answers' if ok else 'DOWN'}" for name, ok in machine.daemons.items()]
            print(f"{machine.name:<10} {machine.address:<15} {state:<9} {', '.join(words)}".rstrip())
    return 0 if status.ok else 1


def _exec(options: argparse.Namespace) -> NoReturn:
    argv = options.argv[1:] if options.argv[:1] == ["--"] else options.argv
    _lab(options).machine(options.machine).exec(argv or ["/bin/sh"])


def _probe(options: argparse.Namespace) -> int:
    results = probe.run(options.name, options.stack or options.name, lambda line: None if options.json else _say(line))
    print(probe.as_json(results) if options.json else "\n".join(probe.table(results)))
    return 0 if all(result.right for result in results) else 1


def _images(options: argparse.Namespace) -> int:
    require_programs()
    images.ensure(cache_dir(), _say, rebuild=options.rebuild)
    return 0


if __name__ == "__main__":
    sys.exit(main())
