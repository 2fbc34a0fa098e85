import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):

    initial = True

    dependencies = [
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name='Heartbeat',
            fields=[
                ('name', models.CharField(help_text='worker@host, beat@host', max_length=120, primary_key=True, serialize=False)),
                ('kind', models.CharField(choices=[('worker', 'Worker'), ('beat', 'timetable')], max_length=10)),
                ('started_at', models.DateTimeField()),
                ('at', models.DateTimeField()),
            ],
            options={
                'ordering': ['kind', 'name'],
            },
        ),
        migrations.CreateModel(
            name='DriftLook',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('asked_at', models.DateTimeField()),
                ('asked_by', models.CharField(max_length=80)),
                ('started_at', models.DateTimeField(blank=True, null=True)),
                ('finished_at', models.DateTimeField(blank=True, null=True)),
                ('machines', models.PositiveIntegerField(default=0, help_text='to be looked at')),
                ('looked_at', models.PositiveIntegerField(default=0, help_text='machines so far')),
                ('found', models.JSONField(default=list)),
            ],
            options={
                'ordering': ['-asked_at'],
                'constraints': [models.UniqueConstraint(models.Value(1), condition=models.Q(('finished_at', None)), name='drift_look_one_at_a_time')],
            },
        ),
        migrations.CreateModel(
            name='Incident',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('kind', models.CharField(help_text='of monitoring.alerts.rules.RULES', max_length=40)),
                ('subject', models.CharField(help_text='as node:3, gateway:1, portal', max_length=120)),
                ('name', models.CharField(help_text='of the subject, for people', max_length=120)),
                ('severity', models.CharField(choices=[('critical', 'Critical'), ('warning', 'Warning'), ('info', 'Info')], max_length=10)),
                ('sentence', models.CharField(help_text='what is wrong, as it was seen last', max_length=400)),
                ('mend', models.CharField(blank=True, help_text='what to do about it', max_length=400)),
                ('path', models.CharField(blank=True, help_text='of the page that shows it', max_length=200)),
                ('first_seen_at', models.DateTimeField()),
                ('last_seen_at', models.DateTimeField()),
                ('opened_at', models.DateTimeField(blank=True, null=True)),
                ('closed_at', models.DateTimeField(blank=True, null=True)),
                ('acknowledged_at', models.DateTimeField(blank=True, null=True)),
                ('note', models.CharField(blank=True, help_text='of who acknowledged it', max_length=400)),
                ('acknowledged_by', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to=settings.AUTH_USER_MODEL)),
            ],
            options={
                'ordering': ['-first_seen_at', '-pk'],
            },
        ),
        migrations.CreateModel(
            name='Delivery',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('about', models.CharField(choices=[('opened', 'Opened'), ('closed', 'Closed')], max_length=10)),
                ('channel', models.CharField(choices=[('mail', 'Mail'), ('webhook', 'Webhook')], max_length=10)),
                ('recipient', models.CharField(help_text="address, or the webhook's name", max_length=320)),
                ('created_at', models.DateTimeField()),
                ('sent_at', models.DateTimeField(blank=True, null=True)),
                ('attempts', models.PositiveIntegerField(default=0)),
                ('try_at', models.DateTimeField(blank=True, help_text='when it is sent, or tried again; empty: sent', null=True)),
                ('problem', models.CharField(blank=True, max_length=300)),
                ('incident', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='deliveries', to='monitoring.incident')),
            ],
            options={
                'verbose_name_plural': 'deliveries',
                'ordering': ['pk'],
            },
        ),
        migrations.AddIndex(
            model_name='incident',
            index=models.Index(fields=['-opened_at'], name='incident_opened'),
        ),
        migrations.AddConstraint(
            model_name='incident',
            constraint=models.UniqueConstraint(condition=models.Q(('closed_at', None)), fields=('kind', 'subject'), name='incident_open_once'),
        ),
        migrations.AddIndex(
            model_name='delivery',
            index=models.Index(condition=models.Q(('try_at__isnull', False)), fields=['try_at'], name='delivery_due'),
        ),
        migrations.AddConstraint(
            model_name='delivery',
            constraint=models.UniqueConstraint(fields=('incident', 'about', 'channel', 'recipient'), name='delivery_once'),
        ),
    ]
