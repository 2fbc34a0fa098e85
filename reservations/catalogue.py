"""What Berth ships: sizes, storage profiles and services. `manage.py seed_catalogue` writes it; admins change it after.

Images carry upstream's names; the environment, ports and folders are those that each upstream image documents.
"""

from decimal import Decimal
from typing import Any

# Official images begin as root, give their folders to a user of their own and become that user in their entrypoint.
BECOME_ANOTHER_USER = ["CHOWN", "SETUID", "SETGID", "DAC_OVERRIDE", "FOWNER"]
TMP = "/tmp"  # noqa: S108 - of the container, in memory

TIME_ZONE: dict[str, Any] = {
    "type": "string",
    "title": "Time zone",
    "description": "As in Europe/Paris; empty: UTC.",
    "maxLength": 60,
    "pattern": r"^[A-Za-z][A-Za-z0-9_+/-]*$",
}


def _options(**properties: dict[str, Any]) -> dict[str, Any]:
    """A schema of what customers may set; each is an environment variable that the upstream image documents."""
    return {"type": "object", "properties": properties}


SIZES: list[dict[str, Any]] = [
    {"slug": "tiny", "name": "Tiny", "cores": Decimal("0.25"), "ram_mib": 256},
    {"slug": "small", "name": "Small", "cores": Decimal("0.5"), "ram_mib": 512},
    {"slug": "medium", "name": "Medium", "cores": Decimal(1), "ram_mib": 1024},
    {"slug": "large", "name": "Large", "cores": Decimal(2), "ram_mib": 2048},
    {"slug": "huge", "name": "Huge", "cores": Decimal(4), "ram_mib": 4096},
]

PROFILES: list[dict[str, Any]] = [
    {
        "code": "C1",
        "name": "Local",
        "description": "On the node's own disk: the fastest. Removed with the reservation, and lost if the node dies.",
        "default_gb": 1,
        "max_gb": 20,
    },
    {
        "code": "C2",
        "name": "Remote",
        "description": "On a storage server, so it can follow to another node. Removed with the reservation. Each write"
        " crosses the network: databases and git repositories are slower here.",
        "default_gb": 1,
        "max_gb": 20,
    },
    {
        "code": "C3",
        "name": "Kept",
        "description": "On a storage server and yours to keep: attach it to your next reservation of the same service."
        " One reservation at a time. Databases and git repositories are slower here; keep a dump of what matters.",
        "default_gb": 1,
        "max_gb": 20,
    },
]

SERVICES: list[dict[str, Any]] = [
    {
        "slug": "nginx",
        "name": "nginx",
        "description": "A web server for your pages, with a folder of its own.",
        "icon": "world-www",
        "image": "library/nginx:1.27",
        "ports": [{"name": "web", "kind": "http", "port": 80}],
        "connect": ["curl http://{host}:{port}/"],
        "mount_path": "/usr/share/nginx/html",
        "capabilities": ["CHOWN", "SETUID", "SETGID", "DAC_OVERRIDE", "NET_BIND_SERVICE", "KILL"],
        "read_only": True,
        "scratch": ["/run", TMP, "/var/cache/nginx", "/var/lib/nginx", "/var/log/nginx"],
        "internet": False,
        "options": _options(TZ=TIME_ZONE),
        "default_size": "tiny",
        "position": 10,
    },
    {
        "slug": "redis",
        "name": "Redis",
        "description": "An in-memory store that keeps an append-only file, with a password.",
        "icon": "stack-2",
        "image": "library/redis:7.4",
        "ports": [{"name": "redis", "kind": "tcp", "port": 6379}],
        "command": ["redis-server", "--requirepass", "{password}", "--appendonly", "yes", "--dir", "/data"],
        "credentials": {"password": "random:24"},
        "connect": ["redis-cli -h {host} -p {port} -a {password}"],
        "mount_path": "/data",
        "capabilities": BECOME_ANOTHER_USER,
        "read_only": True,
        "scratch": [TMP],
        "internet": False,
        "options": _options(TZ=TIME_ZONE),
        "default_size": "tiny",
        "position": 20,
    },
    {
        "slug": "mysql",
        "name": "MySQL",
        "description": "A relational database with an account and a database of your own.",
        "icon": "database",
        "image": "library/mysql:8.4",
        "ports": [{"name": "mysql", "kind": "tcp", "port": 3306}],
        "environment": {
            "MYSQL_ROOT_PASSWORD": "{root_password}",
            "MYSQL_DATABASE": "{database}",
            "MYSQL_USER": "{user}",
            "MYSQL_PASSWORD": "{password}",
        },
        "credentials": {
            "user": "berth",
            "password": "random:24",
            "database": "berth",
            "root_password": "random:24",
        },
        "connect": ["mysql -h {host} -P {port} -u {user} -p{password} {database}"],
        "mount_path": "/var/lib/mysql",
        "capabilities": BECOME_ANOTHER_USER,
        # /tmp takes what a large ALTER or sort spills, which memory is too small for.
        "writes_mib": 2048,
        "internet": False,
        "min_ram_mib": 512,
        "options": _options(
            TZ=TIME_ZONE,
            MYSQL_INITDB_SKIP_TZINFO={
                "type": "boolean",
                "title": "Skip the table of time zones",
                "description": "The first start is quicker; CONVERT_TZ knows no names of zones then.",
            },
        ),
        "default_size": "medium",
        "position": 30,
    },
    {
        "slug": "mongodb",
        "name": "MongoDB",
        "description": "A document database with a root account.",
        "icon": "leaf",
        "image": "library/mongo:7.0",
        "ports": [{"name": "mongo", "kind": "tcp", "port": 27017}],
        "environment": {"MONGO_INITDB_ROOT_USERNAME": "{user}", "MONGO_INITDB_ROOT_PASSWORD": "{password}"},
        "credentials": {"user": "berth", "password": "random:24"},
        "connect": ["mongosh mongodb://{user}:{password}@{host}:{port}/?authSource=admin"],
        "mount_path": "/data/db",
        "capabilities": BECOME_ANOTHER_USER,
        "read_only": True,
        "scratch": [TMP, "/data/configdb", "/home/mongodb"],
        "internet": False,
        "min_ram_mib": 512,
        "options": _options(
            TZ=TIME_ZONE,
            MONGO_INITDB_DATABASE={
                "type": "string",
                "title": "Database",
                "description": "Letters, digits and _: the database that scripts of the first start use.",
                "maxLength": 60,
                "pattern": r"^[A-Za-z][A-Za-z0-9_]*$",
            },
        ),
        "default_size": "medium",
        "position": 40,
    },
    {
        "slug": "jenkins",
        "name": "Jenkins",
        "description": "A build server for your pipelines, with an admin account.",
        "icon": "settings-automation",
        "image": "jenkins/jenkins:lts",
        "ports": [{"name": "web", "kind": "http", "port": 8080}],
        "environment": {
            "JAVA_OPTS": "-Djenkins.install.runSetupWizard=false -XX:MaxRAMPercentage=60",
            "JENKINS_OPTS": "--argumentsRealm.passwd.{user}={password} --argumentsRealm.roles.{user}=admin",
        },
        "credentials": {"user": "admin", "password": "random:24"},
        "connect": ["curl -u {user}:{password} http://{host}:{port}/api/json"],
        "mount_path": "/var/jenkins_home",
        "capabilities": BECOME_ANOTHER_USER,  # the image begins as its own user: for the first fill of an empty volume
        "writes_mib": 2048,
        "internet": True,  # plug-ins, and what pipelines fetch
        "pids": 1024,
        "min_ram_mib": 1024,
        "options": _options(TZ=TIME_ZONE),
        "default_size": "large",
        "position": 50,
    },
    {
        "slug": "shell",
        "name": "Shell",
        "description": "A Linux workstation that you reach by SSH, with a home of its own.",
        "icon": "terminal-2",
        "image": "linuxserver/openssh-server:latest",
        "ports": [{"name": "ssh", "kind": "ssh", "port": 2222}],
        "environment": {
            "USER_NAME": "{user}",
            "USER_PASSWORD": "{password}",
            "PASSWORD_ACCESS": "true",
            "PUBLIC_KEY": "{ssh_keys}",
        },
        "credentials": {"user": "berth", "password": "random:24"},
        "connect": ["ssh -p {port} {user}@{host}"],
        "mount_path": "/config",
        # sshd locks its unprivileged half into an empty folder, notes log-ins and ends sessions of another user.
        "capabilities": [*BECOME_ANOTHER_USER, "KILL", "SYS_CHROOT", "AUDIT_WRITE"],
        "writes_mib": 1024,
        "internet": True,
        "options": _options(
            TZ=TIME_ZONE,
            SUDO_ACCESS={
                "type": "boolean",
                "title": "May become root with sudo",
                "description": "With the password of the reservation.",
            },
        ),
        "default_size": "small",
        "position": 60,
    },
]

# Other images of a service that customers can choose.
VERSIONS: list[dict[str, Any]] = [
    {"service": "nginx", "name": "1.26", "image": "library/nginx:1.26", "position": 10},
    {"service": "redis", "name": "7.2", "image": "library/redis:7.2", "position": 10},
    {"service": "mysql", "name": "8.0", "image": "library/mysql:8.0", "position": 10},
    {"service": "mongodb", "name": "6.0", "image": "library/mongo:6.0", "position": 10},
]

# What an older catalogue shipped as the shell's environment; seed_catalogue adds the keys where it still stands.
SHELL_WITHOUT_KEYS = {"USER_NAME": "{user}", "USER_PASSWORD": "{password}", "PASSWORD_ACCESS": "true"}

# What holds a container in, of the fields above; seed_catalogue brings rows up to date that still have what was shipped
# before, in the order of ROOM_FIELDS. What an admin has changed stays.
ROOM_FIELDS = ("capabilities", "read_only", "scratch", "writes_mib", "internet")
_FIRST = ["CHOWN", "SETUID", "SETGID", "DAC_OVERRIDE", "FOWNER", "NET_BIND_SERVICE", "KILL"]
SHIPPED_BEFORE: list[tuple[Any, ...]] = [
    (_FIRST, False, [], 1024, True),
    ([*_FIRST, "SYS_CHROOT", "AUDIT_WRITE"], False, [], 1024, True),
]
