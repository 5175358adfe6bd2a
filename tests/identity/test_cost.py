"""What a question about one person costs does not depend on how many persons are known: every look at the table of
identities goes through an index."""

from __future__ import annotations

from typing import Any
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection
from tests.find import find, find_study
from tests.statements import ran

from mdg.access import RecordedConsents, utc_now
from mdg.exchange.catalogue import Catalogue
from mdg.exchange.envelopes import ENVELOPES
from mdg.identity import Identities
from mdg.identity.enrichment import whose
from mdg.model.identity import HpiO, Ihi, LocalId
from mdg.model.query import Field
from mdg.sources.folder import FolderSource
from mdg.store import Store

pytestmark = pytest.mark.anyio
CUSTODIAN = HpiO("8003621566684455")
IHI = Ihi("8003608833357361")


async def test_each_question_about_one_person_is_answered_by_indexes(tmp_path: Any) -> None:
    async with Store.open(str(tmp_path / "mdg.sqlite")) as store:
        identities = Identities(store, CUSTODIAN)
        zone = ZoneInfo("Australia/Melbourne")
        source = FolderSource(store, CUSTODIAN, [], default_issuer="RMH", time_zone=zone)
        catalogue = Catalogue([source], identities, RecordedConsents(store, CUSTODIAN, utc_now))
        stale = ENVELOPES.select().where(~whose(ENVELOPES.c.custodian, ENVELOPES.c.study_uid, ENVELOPES.c.ihi))
        with ran() as asked:
            await identities.local_ids(IHI)
            await identities.ihi_of(LocalId("P1", "RMH"))
            await identities.people("1.2.3")
            await identities.problems()
            await find(source, [LocalId("P1", "RMH")])
            await find_study(source, "1.2.3", [LocalId("P1", "RMH")])
            await find_study(source, "0" * 32, [LocalId("P1", "RMH")], Field.LOGICAL_ID)
            await catalogue.whose("1.2.3")
            async with store.read() as connection:
                await connection.execute(stale)
        assert len(asked) > 8
        async with store.read() as connection:
            for statement, parameters in asked:
                for step in await _plan(connection, statement, parameters):
                    if "identities" in step or "other" in step:
                        assert step.startswith("SEARCH"), (step, statement)
                        assert "ihi=?" in step or "patient=?" in step, (step, statement)


async def _plan(connection: AsyncConnection, statement: str, parameters: Any) -> list[str]:
    rows = await connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
    return [str(row.detail) for row in rows]
