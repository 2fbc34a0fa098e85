"""The history of reservations is only ever added to, and what was served is never unsaid."""

from django.db import migrations

CREATE = [
    'CREATE TRIGGER append_only_rows BEFORE UPDATE OR DELETE ON reservations_event'
    ' FOR EACH ROW EXECUTE FUNCTION berth_append_only()',
    'CREATE TRIGGER append_only_table BEFORE TRUNCATE ON reservations_event'
    ' FOR EACH STATEMENT EXECUTE FUNCTION berth_append_only()',
    # A period is closed by an update; an open one that turns out to have served nothing (it began after the booked
    # end) is dropped. What was closed stays.
    'CREATE TRIGGER append_only_rows BEFORE DELETE ON reservations_usageperiod'
    ' FOR EACH ROW WHEN (NOT upper_inf(OLD.during)) EXECUTE FUNCTION berth_append_only()',
    'CREATE TRIGGER append_only_table BEFORE TRUNCATE ON reservations_usageperiod'
    ' FOR EACH STATEMENT EXECUTE FUNCTION berth_append_only()',
]
DROP = [
    f'DROP TRIGGER append_only_{what} ON reservations_{table}'
    for table in ('event', 'usageperiod')
    for what in ('rows', 'table')
]


class Migration(migrations.Migration):

    dependencies = [
        ('reservations', '0002_faults'),
        ('accounts', '0003_append_only'),
    ]

    operations = [migrations.RunSQL(CREATE, DROP)]
