"""Numbers that a newer database gave, of which an older backup does not know: no new row may get them."""

from django.db import connection, models


def skip(model: type[models.Model], number: int) -> bool:
    """The next rows of `model` get ids above `number`; whether that was not so already."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT setval(ids, %s)
            FROM (SELECT pg_get_serial_sequence(%s, 'id')::regclass AS ids) AS sequence
            WHERE %s > coalesce(pg_sequence_last_value(ids), 0)
            """,
            [number, model._meta.db_table, number],
        )
        return cursor.fetchone() is not None
