"""manage.py cordon NODE"""

from compute.management.node_state import NodeStateCommand
from compute.models import Node


class Command(NodeStateCommand):
    help = "Give nodes nothing new; what runs there goes on. manage.py uncordon takes it back."
    state = Node.State.CORDONED
