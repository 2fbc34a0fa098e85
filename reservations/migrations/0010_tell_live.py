"""What changes on a reservation that a page shows is told to who listens (portal/live), when it is committed."""

from django.db import migrations

SHOWN = ('state', 'wish', 'reason', 'progress', 'name', 'start', '"end"', 'generation', 'running_since')
OLD, NEW = (', '.join(f'{row}.{column}' for column in SHOWN) for row in ('OLD', 'NEW'))
CREATE = [
    """
    CREATE FUNCTION berth_tell_live() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        PERFORM pg_notify('berth_live', json_build_object(
            'reservation', NEW.id, 'workspace', NEW.workspace_id, 'state', NEW.state)::text);
        RETURN NULL;
    END $$
    """,
    'CREATE TRIGGER tell_live_of_new AFTER INSERT ON reservations_reservation'
    ' FOR EACH ROW EXECUTE FUNCTION berth_tell_live()',
    'CREATE TRIGGER tell_live_of_change AFTER UPDATE ON reservations_reservation'
    f' FOR EACH ROW WHEN (({OLD}) IS DISTINCT FROM ({NEW})) EXECUTE FUNCTION berth_tell_live()',
]
DROP = [
    'DROP TRIGGER tell_live_of_change ON reservations_reservation',
    'DROP TRIGGER tell_live_of_new ON reservations_reservation',
    'DROP FUNCTION berth_tell_live()',
]


class Migration(migrations.Migration):

    dependencies = [
        ('reservations', '0009_portal_of_customers'),
    ]

    operations = [migrations.RunSQL(CREATE, DROP)]
