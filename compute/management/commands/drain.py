"""manage.py drain NODE"""

from compute.management.node_state import NodeStateCommand
from compute.models import Node


class Command(NodeStateCommand):
    help = "Give the node nothing new and wait for what is there to end; manage.py nodes shows what is left."
    state = Node.State.DRAINING
