"""Charts: what is drawn is what was spent."""

from datetime import date, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing import charts
from billing.charts import HEIGHT, TOP

DAYS = [date(2026, 5, 1) + timedelta(days=n) for n in range(31)]
amounts = st.dictionaries(st.sampled_from(DAYS), st.decimals("-5", "100000", places=2), max_size=31)


@given(amounts, amounts)
def test_no_bar_leaves_the_chart(spent: dict[date, Decimal], to_come: dict[date, Decimal]) -> None:
    chart = charts.by_day(DAYS, spent, to_come)

    boxes = [box for day in chart.days for box in (day.spent_box, day.to_come_box) if box]
    assert all(float(box.y) >= TOP - 4 for box in boxes)  # what is as thin as a line may stand on the highest
    assert all(float(box.x) >= 0 and float(box.x) + float(box.width) <= 100 for box in boxes)
    assert [float(line.y) for line in chart.lines] == sorted((float(line.y) for line in chart.lines), reverse=True)


def test_a_bar_is_as_high_as_its_amount_on_the_scale() -> None:
    chart = charts.by_day(DAYS, {DAYS[0]: Decimal(24), DAYS[1]: Decimal(12)}, {DAYS[1]: Decimal(6)})

    first, second = chart.days[:2]
    assert [line.amount for line in chart.lines] == [0, 10, 20, 30]
    assert first.spent_box is not None
    assert second.spent_box is not None
    assert second.to_come_box is not None
    assert float(first.spent_box.height) == pytest.approx(HEIGHT * 24 / 30, abs=0.01)
    assert float(second.spent_box.height) == pytest.approx(HEIGHT * 12 / 30, abs=0.01)
    assert float(second.to_come_box.y) == pytest.approx(TOP + HEIGHT * (1 - 18 / 30), abs=0.02)


def test_a_month_without_anything_has_lines_and_no_bars() -> None:
    chart = charts.by_day(DAYS, {}, {})

    assert len(chart.days) == 31
    assert not any(day.spent_box or day.to_come_box for day in chart.days)
    assert chart.lines[-1].amount == 1


def test_what_was_given_back_has_no_bar_and_is_in_the_table() -> None:
    (day,) = charts.by_day(DAYS[:1], {DAYS[0]: Decimal(-3)}, {}).days

    assert (day.spent, day.spent_box) == (Decimal(-3), None)


def test_services_are_ordered_and_the_small_ones_are_one() -> None:
    chart = charts.by_service({f"s{n}": Decimal(n) for n in range(1, 10)})

    assert [row.name for row in chart.rows] == ["s9", "s8", "s7", "s6", "s5", "4 others"]
    assert sum(row.amount for row in chart.rows) == 45
    assert (chart.rows[0].bar.width, chart.rows[-1].bar.width) == ("90.00", "100.00")


@pytest.mark.parametrize(
    ("spent", "forecast", "percent", "level", "over"),
    [
        ("0", "0", 0, "", False),
        ("49.99", "60", 49, "", False),
        ("80", "100", 80, "is-high", False),
        ("99.99", "99.99", 99, "is-high", False),
        ("100", "100.99", 100, "is-full", False),
        ("120", "150", 120, "is-full", True),
    ],
)
def test_a_budget_is_full_when_all_of_it_is_spent(
    spent: str, forecast: str, percent: int, level: str, over: bool
) -> None:
    bar = charts.budget(Decimal(spent), Decimal(forecast), Decimal(100))

    assert (bar.spent_percent, bar.level, bar.will_be_over) == (percent, level, over)
    assert [mark.reached for mark in bar.marks] == [Decimal(spent) >= mark for mark in (50, 80, 100)]


def test_marks_move_when_the_forecast_is_over_the_budget() -> None:
    bar = charts.budget(Decimal(50), Decimal(200), Decimal(100))

    assert [mark.x for mark in bar.marks] == ["25.00", "40.00", "50.00"]
    assert bar.forecast is not None
    assert (bar.spent.width, bar.forecast.x, bar.forecast.width) == ("25.00", "25.00", "75.00")
