"""A booking keeps all the terms of its quote, not only a rate; and whether all of its cost is in the ledger."""

import django.utils.timezone
from django.conf import settings
from django.db import migrations, models

KEEP_TERMS = """
UPDATE reservations_reservation SET terms = jsonb_build_object(
    'prices', jsonb_build_array(jsonb_build_object(
        'since', to_char("start" AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"+00:00"'),
        'per_core_hour', rate::text)),
    'rounding', 'hour', 'zone', 'UTC', 'currency', %s::text)
"""
NOTE_DELETED = """
UPDATE reservations_workspacevolume SET deleted_at = now()
FROM compute_volume WHERE compute_volume.id = volume_id AND compute_volume.state IN ('removing', 'removed')
"""


def keep_what_is_there(apps, schema_editor):
    with schema_editor.connection.cursor() as cursor:
        cursor.execute(KEEP_TERMS, [settings.BERTH_CURRENCY])
        cursor.execute(NOTE_DELETED)


class Migration(migrations.Migration):

    dependencies = [
        ('reservations', '0004_served_is_not_rewritten'),
        ('compute', '0003_node_disk'),
    ]

    operations = [
        migrations.AddField(
            model_name='reservation',
            name='terms',
            field=models.JSONField(default=dict, editable=False, help_text='that the quote was made with; billing reads them'),
        ),
        migrations.AddField(
            model_name='reservation',
            name='settled_at',
            field=models.DateTimeField(blank=True, editable=False, help_text='when all of its cost was in the ledger; billing writes it', null=True),
        ),
        migrations.AddField(
            model_name='workspacevolume',
            name='deleted_at',
            field=models.DateTimeField(blank=True, editable=False, help_text='by its owner', null=True),
        ),
        migrations.AlterField(
            model_name='workspacevolume',
            name='created_at',
            field=models.DateTimeField(default=django.utils.timezone.now, editable=False),
        ),
        migrations.RunPython(keep_what_is_there, migrations.RunPython.noop),
    ]
