"""Backup and restore: the database, and the volumes that customers keep (docs/backup.md)."""
