"""Another list of members, declared task by task as Swarm does it, and its having arrived."""
import lab as labs


def redeploy(lab, members, primary=None):
    """Another list of members for everybody in it, one task after the other."""
    primary = primary or members[0]
    replicas = ",".join(n.ip for n in members if n is not primary)
    for n in members:
        if n.agent:
            n.stop_agent()
        n.start(PRIMARY_IP=primary.ip, REPLICAS_IP=replicas)
        labs.wait_for(f"{n.name} to answer", n.status)


def wait_members(lab, members, seconds=90):
    """Until each of them sees exactly these members, none of them on its way, and streams."""
    wanted = sorted(n.ip for n in members)

    def condition():
        for n in members:
            status = n.status()
            if not status or sorted(m["address"] for m in status["members"]) != wanted:
                return False
            if status["members_generation"] != status["settled_generation"]:
                return False
        primary = lab.primary()
        return primary in members and all(n is primary or n.is_streaming() for n in members)
    labs.wait_for(f"the members to be {wanted}, and whole", condition, seconds, every=0.2)


def without(lab, *gone):
    return [n for n in lab.nodes if n not in gone]
