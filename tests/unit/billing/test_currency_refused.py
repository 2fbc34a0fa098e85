"""Currencies that do not count in hundredths stop the start: amounts are rounded to two decimals."""

import os
import subprocess
import sys

import pytest

from portal.env import ROOT


@pytest.mark.parametrize(("currency", "starts"), [("JPY", False), ("KWD", False), ("EUR", True)])
def test_a_currency_without_two_decimals_stops_the_start(currency: str, starts: bool) -> None:
    environment = {**os.environ, "BERTH_CURRENCY": currency}
    argv = [sys.executable, "-c", "import portal.settings"]

    ended = subprocess.run(argv, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)

    assert (ended.returncode == 0) is starts, ended.stderr
    assert ("must be a currency with two decimals" in ended.stderr) is not starts
