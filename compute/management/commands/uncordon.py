"""manage.py uncordon NODE"""

from compute.management.node_state import NodeStateCommand
from compute.models import Node


class Command(NodeStateCommand):
    help = "Put cordoned or draining nodes back into service. What left them meanwhile stays where it is."
    state = Node.State.ACTIVE
