"""manage.py uncordon NODE"""

from compute.management.node_state import NodeStateCommand
from compute.models import Node


class Command(NodeStateCommand):
    help = "Put a cordoned or draining node back into service."
    state = Node.State.ACTIVE
