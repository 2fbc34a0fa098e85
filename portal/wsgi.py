"""What gunicorn runs."""

import os

from portal.env import load_env_file

load_env_file()
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "portal.settings")

from django.core.wsgi import get_wsgi_application  # noqa: E402 - the environment comes first

application = get_wsgi_application()
