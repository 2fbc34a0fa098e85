"""`python -m lab.stack.commands JSON`: several of Django's commands in one process.

Each start of Django costs more than a second; the commands themselves mostly find that nothing is left to do.
"""

import json
import os
import sys

import django
from django.core.management import CommandError, call_command


def main() -> None:
    """Run each argv of the JSON list in turn. Ends with status 1 and one sentence at the first that fails."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "portal.settings")
    django.setup()
    for name, *arguments in json.loads(sys.argv[1]):
        try:
            call_command(name, *arguments)
        except CommandError as problem:
            sys.exit(f"{name}: {problem}")


if __name__ == "__main__":
    main()
