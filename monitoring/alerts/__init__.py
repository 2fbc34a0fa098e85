"""Alerts: what is wrong is seen, told once, and told again when it is over (docs/monitoring.md)."""
