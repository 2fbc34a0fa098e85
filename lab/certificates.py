"""A certificate authority for one lab, made with the openssl program: the engines' certificates and the portal's."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from .process import run

_DAYS = "3650"


def make_authority(directory: Path) -> None:
    """ca.pem and ca-key.pem in `directory`; kept when they are there."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    if (directory / "ca.pem").exists():
        return
    _openssl(
        *(
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            _DAYS,
        ),
        *(
            "-subj",
            "/CN=berth lab authority",
            "-keyout",
            directory / "ca-key.pem",
            "-out",
            directory / "ca.pem.new",
        ),
        *("-addext", "keyUsage=critical,keyCertSign,cRLSign"),
    )
    (directory / "ca-key.pem").chmod(0o600)
    # Last, so that a half-made authority is made again.
    (directory / "ca.pem.new").rename(directory / "ca.pem")


def issue(authority: Path, directory: Path, *, name: str, purpose: str, address: str | None = None) -> None:
    """ca.pem, cert.pem and key.pem in `directory`, for `purpose` serverAuth or clientAuth; made anew each time."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    request, extensions = directory / "request.pem", directory / "extensions"
    lines = [f"extendedKeyUsage={purpose}", "basicConstraints=critical,CA:FALSE"]
    if address is not None:
        lines.append(f"subjectAltName=IP:{address},IP:127.0.0.1,DNS:{name}")
    extensions.write_text("\n".join(lines) + "\n")
    _openssl(
        *("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
        *("-subj", f"/CN={name}", "-keyout", directory / "key.pem", "-out", request),
    )
    (directory / "key.pem").chmod(0o600)
    _openssl(
        *(
            "x509",
            "-req",
            "-days",
            _DAYS,
            "-in",
            request,
            "-extfile",
            extensions,
            "-out",
            directory / "cert.pem",
        ),
        *("-CA", authority / "ca.pem", "-CAkey", authority / "ca-key.pem"),
        # Random, not counted in a file: several certificates are made at once.
        *("-set_serial", f"0x{os.urandom(16).hex()}"),
    )
    shutil.copyfile(authority / "ca.pem", directory / "ca.pem")
    request.unlink()
    extensions.unlink()


def _openssl(*arguments: str | Path) -> None:
    run(["openssl", *map(str, arguments)], timeout=60)
