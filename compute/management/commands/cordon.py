"""manage.py cordon NODE"""

from compute.management.node_state import NodeStateCommand
from compute.models import Node


class Command(NodeStateCommand):
    help = "Give the node nothing new; what runs there goes on."
    state = Node.State.CORDONED
