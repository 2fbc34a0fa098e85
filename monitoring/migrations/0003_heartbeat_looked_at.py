from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('monitoring', '0002_delivery_message'),
    ]

    operations = [
        migrations.AddField(
            model_name='heartbeat',
            name='looked_at',
            field=models.DateTimeField(blank=True, help_text='when it looked for what is wrong last', null=True),
        ),
    ]
