"""Every table of the first exchange. One function a room, in the order of architecture's Map."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from mdg.store.schema import Document, Number

revision = "0001"
down_revision = None


def upgrade() -> None:
    _index()
    _jobs()
    _access()
    _audit()
    _identity()
    _registry()
    _exchange()
    _subscriptions()


def _custodian(*, key: bool = True) -> sa.Column[str]:
    return sa.Column("custodian", sa.Text, primary_key=key, nullable=False)


def _index() -> None:
    op.create_table(
        "patients",
        _custodian(),
        sa.Column("issuer", sa.Text, primary_key=True),
        sa.Column("value", sa.Text, primary_key=True),
        sa.Column("id", sa.Text, nullable=False, unique=True),
        sa.Column("family", sa.Text),
        sa.Column("given", Document, nullable=False),
        sa.Column("prefix", sa.Text),
        sa.Column("suffix", sa.Text),
        sa.Column("birth_date", sa.Text),
        sa.Column("sex", sa.Text),
    )
    op.create_table(
        "versions",
        _custodian(),
        sa.Column("uid", sa.Text, primary_key=True),
        sa.Column("version", Number, primary_key=True, autoincrement=False),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("content", sa.LargeBinary, nullable=False),
        sa.Column("settled", Number, nullable=False),
    )
    op.create_table(
        "studies",
        _custodian(),
        sa.Column("source", sa.Text, primary_key=True),
        sa.Column("uid", sa.Text, primary_key=True),
        sa.Column("version", Number, nullable=False),
        sa.Column("id", sa.Text, nullable=False, unique=True),
        sa.Column("issuer", sa.Text, nullable=False),
        sa.Column("patient", sa.Text, nullable=False),
        sa.Column("started", sa.Text),
        sa.Column("description", sa.Text),
        sa.Column("accession", sa.Text),
        sa.Column("accession_issuer", sa.Text),
        sa.Column("modalities", Document, nullable=False),
        sa.Column("instances", Number, nullable=False),
        sa.Column("bytes", Number, nullable=False),
        sa.Column("labels", Document, nullable=False),
        sa.Column("quarantine", sa.Text),
        sa.Column("evidence", Document, nullable=False),
        sa.ForeignKeyConstraint(
            ["custodian", "uid", "version"], ["versions.custodian", "versions.uid", "versions.version"]
        ),
        sa.ForeignKeyConstraint(
            ["custodian", "issuer", "patient"], ["patients.custodian", "patients.issuer", "patients.value"]
        ),
    )
    op.create_index("ix_studies_custodian_issuer_patient", "studies", ["custodian", "issuer", "patient"])
    op.create_index("ix_studies_custodian_uid", "studies", ["custodian", "uid"])
    op.create_table(
        "series",
        _custodian(),
        sa.Column("source", sa.Text, primary_key=True),
        sa.Column("study", sa.Text, primary_key=True),
        sa.Column("uid", sa.Text, primary_key=True),
        sa.Column("modality", sa.Text, nullable=False),
        sa.Column("number", Number),
        sa.Column("description", sa.Text),
        sa.Column("body_part", sa.Text),
        sa.Column("laterality", sa.Text),
        sa.Column("instances", Number, nullable=False),
        sa.ForeignKeyConstraint(
            ["custodian", "source", "study"], ["studies.custodian", "studies.source", "studies.uid"], ondelete="CASCADE"
        ),
    )
    op.create_table(
        "instances",
        _custodian(),
        sa.Column("source", sa.Text, primary_key=True),
        sa.Column("key", sa.Text, primary_key=True),
        sa.Column("folder", sa.Text, nullable=False),
        sa.Column("version", sa.Text, nullable=False),
        sa.Column("size", Number, nullable=False),
        sa.Column("sha256", sa.LargeBinary, nullable=False),
        sa.Column("study", sa.Text, nullable=False),
        sa.Column("series", sa.Text, nullable=False),
        sa.Column("uid", sa.Text, nullable=False),
        sa.Column("facts", Document, nullable=False),
    )
    op.create_index("ix_instances_custodian_source_study", "instances", ["custodian", "source", "study"])
    known = ["custodian", "source", "folder", "key", "size", "version"]
    op.create_index("ix_instances_known", "instances", known)
    op.create_table(
        "checks",
        _custodian(),
        sa.Column("source", sa.Text, primary_key=True),
        sa.Column("key", sa.Text, primary_key=True),
        sa.Column("block", Number, primary_key=True, autoincrement=False),
        sa.Column("pieces", sa.LargeBinary, nullable=False),
        sa.ForeignKeyConstraint(
            ["custodian", "source", "key"],
            ["instances.custodian", "instances.source", "instances.key"],
            ondelete="CASCADE",
        ),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "problems",
        _custodian(),
        sa.Column("source", sa.Text, primary_key=True),
        sa.Column("key", sa.Text, primary_key=True),
        sa.Column("folder", sa.Text, nullable=False),
        sa.Column("version", sa.Text, nullable=False),
        sa.Column("size", Number, nullable=False),
        sa.Column("code", sa.Text, nullable=False),
        sa.Column("message", sa.Text, nullable=False),
    )
    op.create_index("ix_problems_custodian_source_folder", "problems", ["custodian", "source", "folder"])
    op.create_table(
        "unsettled",
        _custodian(),
        sa.Column("source", sa.Text, primary_key=True),
        sa.Column("study", sa.Text, primary_key=True),
        sa.Column("touched", Number, nullable=False),
    )


def _jobs() -> None:
    op.create_table(
        "events",
        sa.Column("seq", Number, primary_key=True, autoincrement=True),
        _custodian(key=False),
        sa.Column("time", Number, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("study", sa.Text, nullable=False),
        sa.Column("version", Number, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "jobs",
        sa.Column("id", Number, primary_key=True, autoincrement=True),
        _custodian(key=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("about", sa.Text, nullable=False),
        sa.Column("lane", sa.Text, nullable=False),
        sa.Column("payload", Document, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("again", Number, nullable=False),
        sa.Column("due", Number, nullable=False),
        sa.Column("tries", Number, nullable=False),
        sa.Column("owner", sa.Text),
        sa.Column("lease", Number),
        sa.Column("error", sa.Text),
        sa.Column("why", sa.Text),
        sa.Column("created", Number, nullable=False),
        sa.Column("finished", Number),
        sqlite_autoincrement=True,
    )
    once = sa.text("state IN ('waiting', 'running')")
    key = ["custodian", "kind", "key"]
    op.create_index("ix_jobs_open", "jobs", key, unique=True, sqlite_where=once, postgresql_where=once)
    op.create_index("ix_jobs_custodian_state_kind_due", "jobs", ["custodian", "state", "kind", "due"])


def _access() -> None:
    op.create_table(
        "replay",
        _custodian(),
        sa.Column("kind", sa.Text, primary_key=True),
        sa.Column("key", sa.Text, primary_key=True),
        sa.Column("until", Number, nullable=False),
    )
    op.create_index("ix_replay_until", "replay", ["until"])
    op.create_table(
        "revocations",
        _custodian(),
        sa.Column("kind", sa.Text, primary_key=True),
        sa.Column("value", sa.Text, primary_key=True),
        sa.Column("id", sa.Text, nullable=False, unique=True),
        sa.Column("since", Number, nullable=False),
    )
    op.create_table(
        "consents",
        _custodian(),
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("ihi", sa.Text, nullable=False),
        sa.Column("recorded", Number, nullable=False),
        sa.Column("content", Document, nullable=False),
    )
    op.create_index("ix_consents_custodian_ihi", "consents", ["custodian", "ihi"])
    op.create_table("latest_time", _custodian(), sa.Column("seen", Number, nullable=False))


def _audit() -> None:
    op.create_table(
        "audit",
        sa.Column("seq", Number, primary_key=True, autoincrement=True),
        _custodian(key=False),
        sa.Column("recorded", Number, nullable=False),
        sa.Column("request_id", sa.Text, nullable=False),
        sa.Column("callers_id", sa.Text),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("outcome", sa.Text, nullable=False),
        sa.Column("patient", sa.Text),
        sa.Column("client", sa.Text),
        sa.Column("organisation", sa.Text),
        sa.Column("person", sa.Text),
        sa.Column("salt", sa.LargeBinary, nullable=False),
        sa.Column("leaf", sa.LargeBinary, nullable=False),
        sa.Column("event", sa.Text, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_audit_custodian_request_id", "audit", ["custodian", "request_id"])
    op.create_index("ix_audit_custodian_callers_id", "audit", ["custodian", "callers_id"])
    op.create_index("ix_audit_custodian_recorded", "audit", ["custodian", "recorded"])
    for looked_up in ("outcome", "patient", "client", "organisation", "person"):
        op.create_index(f"ix_audit_custodian_{looked_up}_seq", "audit", ["custodian", looked_up, "seq"])


def _identity() -> None:
    op.create_table(
        "identities",
        _custodian(),
        sa.Column("issuer", sa.Text, primary_key=True),
        sa.Column("patient", sa.Text, primary_key=True),
        sa.Column("ihi", sa.Text, primary_key=True),
        sa.Column("origin", sa.Text, primary_key=True),
        sa.Column("study", sa.Text, primary_key=True),
        sa.Column("source", sa.Text, primary_key=True),
        sa.Column("verified", sa.Text),
        sa.Column("file", sa.Text),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "identity_files",
        _custodian(),
        sa.Column("digest", sa.LargeBinary, nullable=False),
        sa.Column("rows", Number, nullable=False),
        sa.Column("patients", Number, nullable=False),
        sa.Column("ihis", Number, nullable=False),
    )
    person = ["custodian", "ihi", "issuer", "patient"]
    op.create_index("_".join(["ix_identities", *person]), "identities", person)
    brought, of_a_study = ["custodian", "origin", "study"], sa.text("study <> ''")
    op.create_index(
        "_".join(["ix_identities", *brought]),
        "identities",
        brought,
        sqlite_where=of_a_study,
        postgresql_where=of_a_study,
    )


def _registry() -> None:
    op.create_table(
        "registrations",
        _custodian(),
        sa.Column("ihi", sa.Text, primary_key=True),
        sa.Column("type", sa.Text, primary_key=True),
        sa.Column("service_id", sa.Text, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("record_id", sa.Text, nullable=False),
        sa.Column("last_updated", Number),
        sa.Column("acknowledged", Number),
    )
    op.create_table(
        "registered_studies",
        _custodian(),
        sa.Column("study", sa.Text, primary_key=True),
        sa.Column("ihi", sa.Text, primary_key=True),
    )


def _exchange() -> None:
    op.create_table(
        "envelopes",
        _custodian(),
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("envelope_id", sa.Text, nullable=False),
        sa.Column("study_uid", sa.Text, nullable=False),
        sa.Column("study_version", Number, nullable=False),
        sa.Column("ihi", sa.Text, nullable=False),
        sa.Column("identifiers", Document, nullable=False),
        sa.Column("issuer", sa.Text, nullable=False),
        sa.Column("client_id", sa.Text, nullable=False),
        sa.Column("organisation", sa.Text, nullable=False),
        sa.Column("jkt", sa.Text, nullable=False),
        sa.Column("recipient", sa.LargeBinary, nullable=False),
        sa.Column("request_digest", sa.LargeBinary),
        sa.Column("state", sa.LargeBinary, nullable=False),
        sa.Column("manifest", sa.LargeBinary, nullable=False),
        sa.Column("not_after", Number, nullable=False),
        sa.Column("granted", Number),
    )
    op.create_index("ix_envelopes_custodian_request_digest", "envelopes", ["custodian", "request_digest"])
    op.create_index(
        "ix_envelopes_custodian_study_uid_study_version_client_id",
        "envelopes",
        ["custodian", "study_uid", "study_version", "client_id"],
    )
    op.create_index("ix_envelopes_custodian_envelope_id", "envelopes", ["custodian", "envelope_id"])


def _subscriptions() -> None:
    op.create_table(
        "subscriptions",
        _custodian(),
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("issuer", sa.Text, nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("client_id", sa.Text, nullable=False),
        sa.Column("organisation", sa.Text, nullable=False),
        sa.Column("practitioner", sa.Text),
        sa.Column("purposes", Document, nullable=False),
        sa.Column("scopes", Document, nullable=False),
        sa.Column("jkt", sa.Text, nullable=False),
        sa.Column("token_id", sa.Text, nullable=False),
        sa.Column("expires", Number, nullable=False),
        sa.Column("patient", sa.Text, nullable=False),
        sa.Column("topic", sa.Text, nullable=False),
        sa.Column("study", sa.Text),
        sa.Column("endpoint", sa.Text, nullable=False),
        sa.Column("bearer", sa.Text),
        sa.Column("payload", sa.Text, nullable=False),
        sa.Column("lapses", Number),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("created", Number, nullable=False),
        sa.Column("since", Number, nullable=False),
        sa.Column("events", Number, nullable=False),
        sa.Column("delivered", Number, nullable=False),
        sa.Column("changed", Number, nullable=False),
    )
    op.create_index("ix_subscriptions_custodian_patient", "subscriptions", ["custodian", "patient"])
    op.create_table(
        "notifications",
        _custodian(),
        sa.Column("subscription", sa.Text, primary_key=True),
        sa.Column("number", Number, primary_key=True, autoincrement=False),
        sa.Column("event", Number, nullable=False),
        sa.Column("study", sa.Text, nullable=False),
        sa.Column("version", Number, nullable=False),
        sa.Column("time", Number, nullable=False),
        sa.ForeignKeyConstraint(
            ["custodian", "subscription"], ["subscriptions.custodian", "subscriptions.id"], ondelete="CASCADE"
        ),
    )
    op.create_index("ix_notifications_custodian_study", "notifications", ["custodian", "study"])
