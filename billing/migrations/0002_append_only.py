"""What was entered, issued or paid is never changed; and a rate or discount that has begun is only ever ended.

What an invoice's document remembers of mailing may change, its PDF is written once.
"""

from django.db import migrations

ONLY_ADDED = ['ledgerentry', 'dailycost', 'invoice', 'invoiceline', 'settlement']
GUARD_PRICES = """
CREATE FUNCTION berth_price_only_ends() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF lower(OLD.during) <= clock_timestamp() THEN
        IF TG_OP = 'DELETE' THEN
            IF current_setting('berth.testing', true) = 'on' THEN
                RETURN OLD;
            END IF;
        ELSIF to_jsonb(OLD) - 'during' = to_jsonb(NEW) - 'during' AND lower(OLD.during) = lower(NEW.during)
              AND (upper_inf(OLD.during) OR upper(OLD.during) > clock_timestamp())
              AND upper(NEW.during) >= clock_timestamp() - interval '1 minute' THEN
            RETURN NEW;
        END IF;
        RAISE EXCEPTION '% holds already: % is refused', TG_TABLE_NAME, TG_OP
            USING ERRCODE = 'restrict_violation', CONSTRAINT = TG_TABLE_NAME || '_only_ends', TABLE = TG_TABLE_NAME;
    END IF;
    IF TG_OP = 'DELETE' THEN
        RETURN OLD;
    END IF;
    RETURN NEW;
END
$$
"""
GUARD_PDF = """
CREATE FUNCTION berth_document_written_once() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' OR NEW.invoice_id <> OLD.invoice_id
       OR (OLD.pdf IS NOT NULL AND (NEW.pdf IS DISTINCT FROM OLD.pdf OR NEW.sha256 <> OLD.sha256)) THEN
        RAISE EXCEPTION '% is only ever added to: % is refused', TG_TABLE_NAME, TG_OP
            USING ERRCODE = 'restrict_violation', CONSTRAINT = TG_TABLE_NAME || '_append_only', TABLE = TG_TABLE_NAME;
    END IF;
    RETURN NEW;
END
$$
"""


def append_only(table: str, but: str = '') -> list[str]:
    argument = f"'{but}'" if but else ''
    return [
        f'CREATE TRIGGER append_only_rows BEFORE UPDATE OR DELETE ON {table}'
        f' FOR EACH ROW EXECUTE FUNCTION berth_append_only({argument})',
        f'CREATE TRIGGER append_only_table BEFORE TRUNCATE ON {table}'
        ' FOR EACH STATEMENT EXECUTE FUNCTION berth_append_only()',
    ]


def not_any_more(table: str) -> list[str]:
    return [f'DROP TRIGGER append_only_rows ON {table}', f'DROP TRIGGER append_only_table ON {table}']


class Migration(migrations.Migration):

    dependencies = [
        ('accounts', '0003_append_only'),
        ('billing', '0001_initial'),
    ]

    operations = [
        *(migrations.RunSQL(append_only(f'billing_{name}'), not_any_more(f'billing_{name}')) for name in ONLY_ADDED),
        # An account that is deleted leaves the payments that it recorded.
        migrations.RunSQL(append_only('billing_payment', 'recorded_by_id'), not_any_more('billing_payment')),
        migrations.RunSQL(GUARD_PRICES, 'DROP FUNCTION berth_price_only_ends()'),
        *(
            migrations.RunSQL(
                f'CREATE TRIGGER only_ends BEFORE UPDATE OR DELETE ON billing_{name}'
                ' FOR EACH ROW EXECUTE FUNCTION berth_price_only_ends()',
                f'DROP TRIGGER only_ends ON billing_{name}',
            )
            for name in ['rate', 'discount']
        ),
        migrations.RunSQL(GUARD_PDF, 'DROP FUNCTION berth_document_written_once()'),
        migrations.RunSQL(
            'CREATE TRIGGER written_once BEFORE UPDATE OR DELETE ON billing_invoicedocument'
            ' FOR EACH ROW EXECUTE FUNCTION berth_document_written_once()',
            'DROP TRIGGER written_once ON billing_invoicedocument',
        ),
    ]
