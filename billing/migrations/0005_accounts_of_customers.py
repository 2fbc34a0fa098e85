"""Whoever booked before there was billing gets an account, so that running reservations are invoiced like all others."""

from django.conf import settings
from django.db import migrations


def open_accounts(apps, schema_editor):
    Workspace = apps.get_model('accounts', 'Workspace')
    BillingAccount = apps.get_model('billing', 'BillingAccount')
    customers = Workspace.objects.filter(reservations__isnull=False, billing_account=None).distinct()
    BillingAccount.objects.bulk_create(
        [
            BillingAccount(workspace=row, currency=settings.BERTH_CURRENCY, credit_limit=settings.BERTH_CREDIT_LIMIT)
            for row in customers
        ],
        ignore_conflicts=True,
    )


class Migration(migrations.Migration):

    dependencies = [
        ('billing', '0004_ledger_audit'),
        ('reservations', '0006_rate_is_in_the_terms'),
    ]

    operations = [migrations.RunPython(open_accounts, migrations.RunPython.noop)]
