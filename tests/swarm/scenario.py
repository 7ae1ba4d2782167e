"""What the scenarios on a Swarm share: their register, and what several of them do."""
import stack as stacks
from stack import NAME, check, labs

ALL = []
LONG = []  # of them those of --full
NEXT = "hawser-database:next"  # what a rolling update brings in; the service may have it since


class Skip(Exception):
    """This machine cannot run it; the text says why."""


def scenario(function):
    ALL.append(function)
    return function


def long_scenario(function):
    LONG.append(function)
    return scenario(function)


def other(stack, *nodes):
    return next(n for n in stack.members if n not in nodes and n.is_on())


def task_ids(stack, name="database"):
    return {node: ident for node, (ident, _) in stack.tasks(name).items()}


def wait_gateways(stack, primary):
    for node in stack.on():
        stack.wait_gateway(node, primary)


def load_images(stack, node):
    """What a registry would give to a node that is new."""
    stack.lab.load_saved(node)
    node.docker("tag", stacks.IMAGES[0], NEXT)


def timeline(stack, node):
    return stack.sql(node.ip, "SELECT timeline_id FROM pg_control_checkpoint()",
                     check_status=True)


def update(stack, *words):
    stack.manager().docker(
        "service", "update", "--detach", "--no-resolve-image", "--update-delay", "2s",
        "--update-monitor", "5s", *words, f"{NAME}_database")


def wait_update(stack, want, seconds=300):
    """Until Swarm says that the update of the database ended so."""
    def condition():
        state = stack.service("database", "{{if .UpdateStatus}}{{.UpdateStatus.State}}{{end}}")
        check(state in (want, "updating", "rollback_started", ""), f"the update is {state}")
        return state == want
    labs.wait_for(f"the update to be {want}", condition, seconds, every=0.5)
