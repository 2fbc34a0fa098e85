"""/metrics: figures for Prometheus, of the database and of the processes of this machine."""
