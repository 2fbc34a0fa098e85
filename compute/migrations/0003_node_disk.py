from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('compute', '0002_faults'),
    ]

    operations = [
        migrations.AddField(
            model_name='node',
            name='disk_problem',
            field=models.CharField(blank=True, editable=False, help_text='its disk is nearly full: it gets nothing new', max_length=300),
        ),
    ]
