"""The arithmetic of configurations: what a change makes of a membership.

Rules:

* One step on a voter, and any number on learners, take effect at once. Majorities of
  the configuration before and after then have a node in common.
* More steps on voters make the configuration joint: the old voters stay on as
  `outgoing` until a change that `is_leave` ends it (rule 42). A joint configuration
  takes no other steps.
* A change that says nothing new about a node is a mistake, not a no-op: whoever asked
  for it believes something wrong.
* There is always a voter.

Source: Raft paper section 6; thesis 4.1 to 4.3; rules 39 to 42.
"""

import msgspec

from raftd.consensus.types import (
    ChangeKind,
    ConfigChange,
    ConfigStep,
    Membership,
    NodeId,
)

__all__ = ["InvalidChange", "after", "decode_change", "encode_change"]

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(ConfigChange)


class InvalidChange(Exception):
    """The configuration cannot be changed so; the text says why, as a sentence."""


def encode_change(change: ConfigChange) -> bytes:
    """Make the payload of a CONFIG entry."""
    return _encoder.encode(change)


def decode_change(payload: bytes) -> ConfigChange:
    """Read the payload of a CONFIG entry.

    Raises:
        msgspec.DecodeError: It is no such payload; the log is damaged.
    """
    try:
        return _decoder.decode(payload)
    except RecursionError as error:
        raise msgspec.DecodeError(str(error)) from error


def after(membership: Membership, change: ConfigChange) -> Membership:
    """Return what `membership` becomes by `change`.

    Raises:
        InvalidChange: The change does not fit; ask for another one.
    """
    if change.is_leave:
        return _leave(membership, change)
    if not change.steps:
        return membership
    if membership.outgoing:
        raise InvalidChange("An earlier change is still in its joint phase.")
    nodes = [step.node for step in change.steps]
    if len(dict.fromkeys(nodes)) < len(nodes):
        raise InvalidChange("A member is named twice.")
    voters = dict.fromkeys(membership.voters)
    learners = dict.fromkeys(membership.learners)
    for step in change.steps:
        _take(step, voters, learners)
    if not voters:
        raise InvalidChange("The last voter cannot be removed.")
    new = tuple(sorted(voters))
    touched = len(dict.fromkeys(membership.voters + new)) * 2
    touched -= len(membership.voters) + len(new)
    outgoing = membership.voters if touched > 1 else ()
    return Membership(new, outgoing, tuple(sorted(learners)))


def _leave(membership: Membership, change: ConfigChange) -> Membership:
    if change.steps:
        raise InvalidChange("What ends a joint phase changes nothing else.")
    if not membership.outgoing:
        raise InvalidChange("There is no joint phase to end.")
    return Membership(membership.voters, (), membership.learners)


def _take(
    step: ConfigStep, voters: dict[NodeId, None], learners: dict[NodeId, None]
) -> None:
    node = step.node
    if node <= 0:
        raise InvalidChange(f"{node} is no member id.")
    match step.kind:
        case ChangeKind.ADD_LEARNER:
            if node in voters or node in learners:
                raise InvalidChange(f"{node} is a member already.")
            learners[node] = None
        case ChangeKind.PROMOTE:
            if node in voters:
                raise InvalidChange(f"{node} votes already.")
            learners.pop(node, None)
            voters[node] = None
        case ChangeKind.REMOVE:
            if node not in voters and node not in learners:
                raise InvalidChange(f"{node} is no member.")
            voters.pop(node, None)
            learners.pop(node, None)
