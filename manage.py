#!/usr/bin/env python3
"""Berth's commands: `manage.py help` lists them."""

import os
import sys

from portal.env import load_env_file


def main() -> None:
    load_env_file()
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "portal.settings")
    try:
        from django.core.management import execute_from_command_line
    except ImportError:
        sys.exit("Django is not installed for this Python: use .venv/bin/python manage.py (script/server makes it)")
    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
