"""What the last look at the books found."""

from django.db import models
from django.db.models import Q


class LedgerAudit(models.Model):
    """The last audit of all books; one row. `told` names the findings that the staff was mailed about."""

    id = models.PositiveSmallIntegerField(primary_key=True, default=1, editable=False)
    at = models.DateTimeField()
    seconds = models.FloatField()
    reservations = models.PositiveIntegerField()
    entries = models.PositiveIntegerField()
    invoices = models.PositiveIntegerField()
    found = models.PositiveIntegerField(help_text="how many differences")
    findings = models.JSONField(default=list, help_text="the first of them, as sentences")
    fingerprint = models.CharField(max_length=64, blank=True, help_text="of all of them; empty: there is none")
    told = models.CharField(max_length=64, blank=True)

    class Meta:
        constraints = [models.CheckConstraint(condition=Q(id=1), name="ledger_audit_is_one_row")]

    def __str__(self) -> str:
        return f"audit of {self.at:%Y-%m-%d %H:%M}: {self.found} differences"
