"""How to use the services that Berth ships, in plain words. `manage.py seed_catalogue` writes it; admins change it.

Paragraphs are separated by empty lines; a line that begins with four spaces is shown as it is typed.
"""

GUIDES: dict[str, str] = {
    "nginx": """\
Your pages lie in the folder of the volume. To begin with, the page that nginx brings is shown.

The service has no way in for uploads. Build an image of your own with your pages, or book a shell with a kept
volume to prepare them.

It speaks http without encryption: put nothing secret on it.""",
    "redis": """\
Every command needs the password: pass it to the client, or send AUTH first.

    redis-cli -h HOST -p PORT -a PASSWORD PING

What you write is appended to a file on the volume, so a restart loses nothing that was a second old. Redis keeps
all data in memory: choose a
size with about twice the RAM of your data.""",
    "mysql": """\
There is one database with one account, both named berth, and the password of the account. The root password is for
what the account may not do.

    mysql -h HOST -P PORT -u berth -pPASSWORD berth < dump.sql

The first start makes the database files, which takes longer than later ones. Keep a dump of what matters:

    mysqldump -h HOST -P PORT -u berth -pPASSWORD berth > dump.sql""",
    "mongodb": """\
Log in as berth with the password; the account is in the database admin, so clients need authSource=admin.

    mongosh "mongodb://berth:PASSWORD@HOST:PORT/?authSource=admin"

Keep a dump of what matters with mongodump.""",
    "jenkins": """\
Open the address in a browser. The first page asks for the administrator's password, which Jenkins writes into its
log at the first start:
it is on the reservation's page under Log.

Jobs run in the same container, with the RAM of its size: builds of Java projects want at least 2 GiB.""",
    "shell": """\
Log in by SSH. With a key in your account (Account, SSH keys) no password is needed; keys are taken over when the
shell starts.

    ssh -p PORT USER@HOST

Your home is on the volume; everything outside of it is as in the image again after each start. Copy files with scp
or rsync:

    rsync -e 'ssh -p PORT' -av work/ USER@HOST:work/""",
}
