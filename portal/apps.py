from django.apps import AppConfig


class PortalConfig(AppConfig):
    name = "portal"

    def ready(self) -> None:
        from portal import tracing
        from portal.metrics import starts

        tracing.connect()
        starts.connect()
