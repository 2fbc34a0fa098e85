"""The rate is in the terms; and what is to be charged is found by an index."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('reservations', '0005_terms'),
    ]

    operations = [
        migrations.RemoveField(model_name='reservation', name='rate'),
        migrations.AddIndex(
            model_name='reservation',
            index=models.Index(condition=models.Q(('settled_at', None)), fields=['workspace', 'state'], name='reservation_unsettled'),
        ),
    ]
