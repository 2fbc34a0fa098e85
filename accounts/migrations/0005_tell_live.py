"""News for somebody is told to their open pages (portal/live), when it is committed."""

from django.db import migrations

CREATE = [
    """
    CREATE FUNCTION berth_tell_live_of_news() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        PERFORM pg_notify('berth_live', json_build_object('user', NEW.user_id)::text);
        RETURN NULL;
    END $$
    """,
    'CREATE TRIGGER tell_live_of_news AFTER INSERT ON accounts_notification'
    ' FOR EACH ROW WHEN (NEW.in_app) EXECUTE FUNCTION berth_tell_live_of_news()',
]
DROP = [
    'DROP TRIGGER tell_live_of_news ON accounts_notification',
    'DROP FUNCTION berth_tell_live_of_news()',
]


class Migration(migrations.Migration):

    dependencies = [
        ('accounts', '0004_portal_of_customers'),
    ]

    operations = [migrations.RunSQL(CREATE, DROP)]
