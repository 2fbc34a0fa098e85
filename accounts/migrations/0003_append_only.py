"""The audit log is only ever added to, whoever asks the database."""

from django.db import migrations

# Refuses UPDATE, DELETE and TRUNCATE. With a column's name as its argument the trigger lets one update pass: the one
# that only empties this column, as deleting an account does. An exception's constraint is named for the table.
# The tests must empty tables, and say so in a setting of their session. This is no lock: whoever may set it as the
# tables' owner may as well drop the trigger. What holds against that is a role that owns nothing (docs/operators.md).
FUNCTION = """
CREATE FUNCTION berth_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'TRUNCATE' AND current_setting('berth.testing', true) = 'on' THEN
        RETURN NULL;
    END IF;
    IF TG_OP = 'UPDATE' AND TG_NARGS = 1 THEN
        IF to_jsonb(NEW) ->> TG_ARGV[0] IS NULL
           AND to_jsonb(OLD) - TG_ARGV[0] = to_jsonb(NEW) - TG_ARGV[0] THEN
            RETURN NEW;
        END IF;
    END IF;
    RAISE EXCEPTION '% is only ever added to: % is refused', TG_TABLE_NAME, TG_OP
        USING ERRCODE = 'restrict_violation', CONSTRAINT = TG_TABLE_NAME || '_append_only', TABLE = TG_TABLE_NAME;
END
$$
"""


class Migration(migrations.Migration):

    dependencies = [
        ('accounts', '0002_apitoken_scopes'),
    ]

    operations = [
        migrations.RunSQL(FUNCTION, 'DROP FUNCTION berth_append_only()'),
        migrations.RunSQL(
            [
                'CREATE TRIGGER append_only_rows BEFORE UPDATE OR DELETE ON accounts_auditentry'
                " FOR EACH ROW EXECUTE FUNCTION berth_append_only('actor_id')",
                'CREATE TRIGGER append_only_table BEFORE TRUNCATE ON accounts_auditentry'
                ' FOR EACH STATEMENT EXECUTE FUNCTION berth_append_only()',
            ],
            [
                'DROP TRIGGER append_only_rows ON accounts_auditentry',
                'DROP TRIGGER append_only_table ON accounts_auditentry',
            ],
        ),
    ]
