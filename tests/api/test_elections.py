"""Elections through real unary calls."""

from __future__ import annotations

import asyncio

import pytest

from raftpb.v1 import elections_pb2, leases_pb2
from tests.api.clients import Stubs, refusal_of
from tests.api.solo_node import SoloNode


async def grant(stubs: Stubs) -> int:
    request = leases_pb2.GrantLeaseRequest(ttl_ms=5000)
    lease: int = (await stubs.leases.GrantLease(request)).lease_id
    return lease


async def campaign(
    stubs: Stubs, lease: int, claimant: str, wait_ms: int | None = None
) -> int:
    request = elections_pb2.CampaignRequest(
        name="e",
        lease_id=lease,
        claimant=claimant,
        value=claimant.encode(),
        wait_ms=wait_ms,
    )
    epoch: int = (await stubs.elections.Campaign(request)).epoch
    return epoch


async def find(stubs: Stubs) -> elections_pb2.Election:
    request = elections_pb2.GetElectionRequest(name="e")
    answer = await stubs.elections.GetElection(request)
    assert isinstance(answer, elections_pb2.GetElectionResponse)
    return answer.election


async def test_one_leads_and_the_others_wait_in_line(
    stubs: Stubs, node: SoloNode
) -> None:
    lease = await grant(stubs)
    epoch = await campaign(stubs, lease, "a")
    assert (await refusal_of(campaign(stubs, lease, "b", 0))).reason == "LOCK_HELD"
    waiting = asyncio.ensure_future(campaign(stubs, lease, "b"))
    await node.has_writes(4)
    election = await find(stubs)
    assert election.leader == elections_pb2.Leadership(
        epoch=epoch, claimant="a", lease_id=lease, value=b"a"
    )
    assert [each.claimant for each in election.candidates] == ["b"]
    resign = elections_pb2.ResignRequest(name="e", epoch=epoch)
    await stubs.elections.Resign(resign)
    assert await waiting > epoch
    assert (await refusal_of(stubs.elections.Resign(resign))).reason == "FENCED"


async def test_the_leader_may_change_what_observers_see(stubs: Stubs) -> None:
    lease = await grant(stubs)
    epoch = await campaign(stubs, lease, "a")
    proclaim = elections_pb2.ProclaimRequest(name="e", epoch=epoch, value=b"new")
    await stubs.elections.Proclaim(proclaim)
    assert (await find(stubs)).leader.value == b"new"


async def test_leadership_is_handed_to_a_candidate(
    stubs: Stubs, node: SoloNode
) -> None:
    lease = await grant(stubs)
    await campaign(stubs, lease, "a")
    waiting = asyncio.ensure_future(campaign(stubs, lease, "b"))
    await node.has_writes(3)
    transfer = elections_pb2.TransferElectionRequest(name="e", to="b")
    answer = await stubs.elections.TransferElection(transfer)
    assert answer.epoch == await waiting
    assert (await find(stubs)).leader.claimant == "b"


async def test_a_candidate_may_leave(stubs: Stubs, node: SoloNode) -> None:
    lease = await grant(stubs)
    await campaign(stubs, lease, "a")
    waiting = asyncio.ensure_future(campaign(stubs, lease, "b"))
    await node.has_writes(3)
    withdraw = elections_pb2.WithdrawCampaignRequest(
        name="e", lease_id=lease, claimant="b"
    )
    assert (await stubs.elections.WithdrawCampaign(withdraw)).was_waiting
    assert (await refusal_of(waiting)).applied == "no"


async def test_elections_page_by_page(stubs: Stubs) -> None:
    lease = await grant(stubs)
    for name in ("a", "b", "c"):
        request = elections_pb2.CampaignRequest(
            name=name, lease_id=lease, claimant="me"
        )
        await stubs.elections.Campaign(request)
    page = await stubs.elections.ListElections(
        elections_pb2.ListElectionsRequest(limit=2)
    )
    assert ([each.name for each in page.elections], page.more) == (["a", "b"], True)
    rest = await stubs.elections.ListElections(
        elections_pb2.ListElectionsRequest(after_name="b")
    )
    assert ([each.name for each in rest.elections], rest.more) == (["c"], False)


@pytest.mark.parametrize(
    ("request_", "reason", "sentence"),
    [
        (
            elections_pb2.CampaignRequest(name="e", claimant="me"),
            "INVALID_REQUEST",
            "the call names no lease and comes from no session",
        ),
        (
            elections_pb2.CampaignRequest(lease_id=1, claimant="me"),
            "INVALID_NAME",
            "the name of an election is empty",
        ),
        (
            elections_pb2.CampaignRequest(
                name="e", lease_id=1, claimant="me", value=bytes((1 << 20) + 1)
            ),
            "TOO_LARGE",
            "the value is 1048577, over the limit of 1048576 (value_bytes_max)",
        ),
        (
            elections_pb2.ProclaimRequest(name="e"),
            "INVALID_REQUEST",
            "the epoch is missing or 0",
        ),
        (
            elections_pb2.GetElectionRequest(name="e"),
            "NOT_FOUND",
            'nobody leads or stands in election "e"',
        ),
    ],
)
async def test_a_bad_request_is_refused_and_never_proposed(
    stubs: Stubs, node: SoloNode, request_: object, reason: str, sentence: str
) -> None:
    method = getattr(stubs.elections, type(request_).__name__.removesuffix("Request"))
    refused = await refusal_of(method(request_))
    assert (refused.reason, refused.sentence) == (reason, sentence)
    assert node.writes == []
