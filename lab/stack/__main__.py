"""`python -m lab.stack`: the portal's processes on this machine."""

import argparse
import dataclasses
import json
import sys

from lab.process import LabError
from lab.stack.stack import Stack, Status, Wanted
from lab.stack.tree import ensure_account


def main() -> int:
    """Do what the command line says; problems are one sentence on stderr and status 1."""
    arguments = _parser().parse_args()
    try:
        return _do(arguments)
    except LabError as problem:
        print(f"stack: {problem}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stack: interrupted; the same command again goes on from here", file=sys.stderr)
        return 130


def _do(arguments: argparse.Namespace) -> int:
    if arguments.command == "account":
        ensure_account()
        return 0
    stack = Stack(arguments.name)
    if arguments.command == "up":
        lab = None if arguments.no_lab else arguments.lab or arguments.name
        wanted = Wanted(
            lab,
            arguments.port,
            only_databases=arguments.only == "databases",
            fail_points=arguments.fail_points,
            careless=arguments.careless,
        )
        stack.up(wanted)
    elif arguments.command == "down":
        stack.down(purge=arguments.purge)
    elif arguments.command == "status":
        status = stack.status()
        print(json.dumps(dataclasses.asdict(status), indent=2) if arguments.json else _sentence(status))
        return 0 if status.running else 1
    elif arguments.command == "greet":
        print(stack.greeting())
    elif arguments.command == "env":
        print(stack.layout.env_file)
    elif arguments.command == "run":
        stack.exec([word for index, word in enumerate(arguments.argv) if index or word != "--"])
    return 0


def _sentence(status: Status) -> str:
    if not status.running:
        return f"{status.name} is down"
    lines = [f"{status.name} runs at {status.url} from {status.repo}"]
    return "\n".join(lines + [f"  {name:<9}{state}" for name, state in status.programs.items()])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m lab.stack", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("account", help="make the unprivileged account that runs the portal")
    up = commands.add_parser("up", help="bring a stack up, or do what is missing")
    up.add_argument("name", help="demo, test, bench or another name")
    up.add_argument("--lab", help="the lab to use (default: the one of the same name)")
    up.add_argument("--no-lab", action="store_true", help="use this machine's own Docker Engine instead")
    up.add_argument("--port", type=int, help="serve on 127.0.0.1:PORT")
    up.add_argument("--fail-points", action="store_true", help="let tests kill the worker where they like")
    up.add_argument("--careless", action="store_true", help="write faster; a crash of this machine may lose the data")
    up.add_argument("--only", choices=["databases"], help="stop after PostgreSQL and Redis are up")
    down = commands.add_parser("down", help="stop everything of a stack; its data stays")
    down.add_argument("name")
    down.add_argument("--purge", action="store_true", help="remove its data too (logs stay)")
    status = commands.add_parser("status", help="say whether it runs; exit code 1 when it does not")
    status.add_argument("name")
    status.add_argument("--json", action="store_true", help="for programs")
    commands.add_parser("env", help="print where its environment file is").add_argument("name")
    commands.add_parser("greet", help="print address, admin and how to stop").add_argument("name")
    run = commands.add_parser("run", help="run a program inside: run NAME -- ARGV…")
    run.add_argument("name")
    run.add_argument("argv", nargs=argparse.REMAINDER)
    return parser


if __name__ == "__main__":
    sys.exit(main())
