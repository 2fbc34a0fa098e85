"""A served period that is closed is not changed either: it is what the bills are made from."""

from django.db import migrations

CREATE = (
    'CREATE TRIGGER append_only_closed BEFORE UPDATE ON reservations_usageperiod'
    ' FOR EACH ROW WHEN (NOT upper_inf(OLD.during)) EXECUTE FUNCTION berth_append_only()'
)
DROP = 'DROP TRIGGER append_only_closed ON reservations_usageperiod'


class Migration(migrations.Migration):

    dependencies = [
        ('reservations', '0003_event_append_only'),
    ]

    operations = [migrations.RunSQL(CREATE, DROP)]
