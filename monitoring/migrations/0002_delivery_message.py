from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('monitoring', '0001_initial'),
    ]

    operations = [
        migrations.AddField(
            model_name='delivery',
            name='message',
            field=models.CharField(blank=True, help_text='that it is sent with; those of one go together', max_length=32),
        ),
        migrations.AlterField(
            model_name='delivery',
            name='recipient',
            field=models.CharField(help_text="address, or the webhook's host", max_length=320),
        ),
    ]
