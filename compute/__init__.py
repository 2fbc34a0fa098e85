"""The machines: nodes, scheduler, Docker engine, gateway, volumes, health. Knows no customers and no money."""
