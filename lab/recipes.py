"""What the images consist of. They bear the names and keep the promises of upstream images, but come from Debian."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Recipe:
    """One image: Debian packages on the common base (or on nothing), files, a setup script run inside, a configuration.

    Files come from image_files/FILES. `setup` is run by /bin/sh with the image as its root.
    """

    repository: str
    tag: str
    files: str
    description: str
    also: tuple[str, ...] = ()  # further tags of the same image: older versions to choose
    packages: tuple[str, ...] = ()
    setup: str = ""
    from_scratch: bool = False
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    ports: tuple[int, ...] = ()
    volumes: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    directory: str = "/"
    stop_signal: str = "SIGTERM"


FILES = Path(__file__).with_name("image_files")
_STAND_IN = "from Debian's packages, a stand-in made by the Berth lab"

NGINX = Recipe(
    repository="library/nginx",
    tag="1.27",
    also=("1.26",),
    files="nginx",
    description=f"nginx {_STAND_IN}",
    packages=("nginx-light",),
    setup="rm -rf /var/www /etc/nginx/sites-* /etc/nginx/modules-enabled",
    command=("nginx", "-g", "daemon off;"),
    ports=(80,),
    stop_signal="SIGQUIT",
)
REDIS = Recipe(
    repository="library/redis",
    tag="7.4",
    also=("7.2",),
    files="redis",
    description=f"Redis {_STAND_IN}",
    packages=("redis-server",),
    setup="mkdir -p /data && chown redis:redis /data && rm -f /etc/redis/redis.conf",
    entrypoint=("/usr/local/bin/entrypoint",),
    command=("redis-server",),
    ports=(6379,),
    volumes=("/data",),
    directory="/data",
)
MYSQL = Recipe(
    repository="library/mysql",
    tag="8.4",
    files="mysql",
    description=f"MariaDB in place of MySQL, {_STAND_IN}",
    # The cores only: the full packages bring Perl, and scripts that a container does not need.
    packages=("mariadb-server-core", "mariadb-client-core", "procps"),
    setup="""
        useradd --system --home-dir /var/lib/mysql --no-create-home --shell /bin/false mysql
        mkdir -p /var/lib/mysql /run/mysqld /tmp/empty
        chown mysql:mysql /var/lib/mysql /run/mysqld /tmp/empty
        for name in mysqld:mariadbd mysql:mariadb mysqladmin:mariadb-admin mysqldump:mariadb-dump; do
            program=$(command -v "${name#*:}") || continue
            command -v "${name%:*}" >/dev/null || ln -s "$program" "/usr/local/bin/${name%:*}"
        done
        # An empty database made here and unpacked on the first start saves some seconds there.
        mariadb-install-db --user=mysql --datadir=/tmp/empty --skip-test-db \\
            --auth-root-authentication-method=normal >/dev/null
        tar -czf /usr/local/share/mysql-empty.tar.gz -C /tmp/empty .
        rm -rf /tmp/empty
    """,
    entrypoint=("/usr/local/bin/entrypoint",),
    command=("mysqld",),
    ports=(3306,),
    volumes=("/var/lib/mysql",),
)
SHELL = Recipe(
    repository="linuxserver/openssh-server",
    tag="latest",
    files="openssh-server",
    description=f"A shell behind sshd, {_STAND_IN}",
    packages=(
        "openssh-server",
        "openssh-client",
        "sudo",
        "vim-tiny",
        "curl",
        "ca-certificates",
        "less",
        "procps",
    ),
    setup="""
        rm -f /etc/ssh/ssh_host_* /etc/motd
        ln -sf vim.tiny /usr/bin/vim
        mkdir -p /config
    """,
    entrypoint=("/usr/local/bin/entrypoint",),
    ports=(2222,),
    volumes=("/config",),
    environment={"LANG": "C.UTF-8"},
)
PROBE = Recipe(
    repository="berth/probe",
    tag="1",
    files="probe",
    description=f"BusyBox with a small web server, {_STAND_IN}",
    from_scratch=True,
    command=("httpd", "-f", "-p", "80", "-h", "/www"),
    ports=(80,),
    # BusyBox's httpd, as the first process, does not hear SIGTERM.
    stop_signal="SIGKILL",
)

#: The slowest first, so that the others are built beside it.
RECIPES = (MYSQL, SHELL, NGINX, REDIS, PROBE)
