"""The Prometheus text format, version 0.0.4 (prometheus.io/docs/instrumenting/exposition_formats). Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

Labels = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric with a value for each set of labels."""

    name: str
    help: str
    values: Mapping[Labels, float]
    kind: str = "gauge"


def exposition(metrics: Iterable[Metric]) -> str:
    return "".join(line + "\n" for metric in metrics for line in _lines(metric))


def _lines(metric: Metric) -> Iterable[str]:
    yield f"# HELP {metric.name} {metric.help}"
    yield f"# TYPE {metric.name} {metric.kind}"
    for labels, value in metric.values.items():
        inside = ",".join(f'{name}="{_escaped(text)}"' for name, text in labels)
        yield f"{metric.name}{{{inside}}} {value:.15g}" if inside else f"{metric.name} {value:.15g}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
