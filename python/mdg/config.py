"""Settings: read once at start into a frozen value, from a TOML file, the environment and files of secrets.

Order, the first wins: the command line, `MDG_<NAME>` (tables with `__`), `MDG_<NAME>_FILE` (the value is in that file),
the TOML file, the default. An unknown key is an error, not a comment. Each field says what it is for; `mdg config show
--origin` says where its value came from.
"""

from __future__ import annotations

import os
import re
import stat
import tomllib
from collections.abc import Mapping
from datetime import date
from difflib import get_close_matches
from ipaddress import IPv4Network, IPv6Network, ip_address
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import parse_qs, urlsplit
from uuid import NAMESPACE_URL, uuid5
from zoneinfo import ZoneInfo

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from mdg.errors import InputOutput, Misuse, Unprocessable
from mdg.model.identity import SERVICE_ID, HpiO
from mdg.outbound.address import Origin

PREFIX = "MDG_"
OTHERS = ("MDG_DEMO_", "MDG_TEST_", "MDG_BENCH_")
"""Variables of the demo, the tests and the benchmarks, which are no settings."""
SECRETS = frozenset({"admin_token", "database"})
"""Settings that make a file private."""
RECEIVED = "received"
"""The source of what other gateways sent, which each gateway has."""
GONE = {"folders": 'write sources = [{ kind = "folder", name = "dicom", path = "DIR" }] in its place'}
"""Settings of earlier states, and what to write now."""
SQLITE = "mdg.sqlite"
"""The database in the data folder, where no other is named."""


def _zone(value: object) -> object:
    try:
        return ZoneInfo(value) if isinstance(value, str) else value
    except (KeyError, ValueError):
        raise ValueError("a time zone is named as in Australia/Brisbane") from None


def _url(value: str) -> str:
    parts = urlsplit(value)
    if (
        parts.scheme not in ("http", "https")
        or not parts.hostname
        or parts.query
        or parts.fragment
        or "@" in parts.netloc
    ):
        raise ValueError("a URL begins with https:// (http:// in a sandbox) and has no user, query or fragment")
    return value.rstrip("/")


def _issuer(value: str) -> str:
    _url(value)
    return value


def _postgresql(value: SecretStr) -> SecretStr:
    try:
        parts = urlsplit(value.get_secret_value())
        query = parse_qs(parts.query)
        named = (parts.hostname or "", *query.get("host", ()), *query.get("hostaddr", ()))  # libpq takes the later ones
        hosts = [host for host in ",".join(named).split(",") if host and not host.startswith("/")]
    except ValueError:
        raise ValueError("it is no URL that can be read") from None  # and its words may have the password
    if parts.netloc.count("@") > 1:
        raise ValueError("in a password @ is written as %40")
    if parts.scheme != "postgresql":
        raise ValueError("a database is named as in postgresql://user:password@host/name; without one it is SQLite")
    if not all(is_loopback(host) for host in hosts) and "sslmode" not in query:
        raise ValueError("say how the way to another machine is protected: end the URL with ?sslmode=verify-full")
    return value


_BIND = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[0-9A-Za-z.-]+):([0-9]{1,5})")


def _bind(value: str) -> str:
    found = _BIND.fullmatch(value)
    if found is None or int(found[1]) > 65535:
        port = value.lstrip(":")
        every = f"0.0.0.0:{port if port.isdecimal() else 8080}"
        raise ValueError(f"an address and a port, as in 127.0.0.1:8080 or [::1]:8080; {every} means every network")
    return value


def _as_list(value: object) -> object:
    return (value,) if isinstance(value, str | Path) else value


def _source_name(value: str) -> str:
    if not re.fullmatch("[a-z0-9][a-z0-9-]{0,31}", value):
        raise ValueError("at most 32 small letters, digits and hyphens, as in ct-archive")
    return value


def _named(value: object) -> object:
    """`MDG_SOURCES__<NAME>__<KEY>` makes one table for each name."""
    if not isinstance(value, Mapping):
        return value
    return [{"name": name, **entry} if isinstance(entry, Mapping) else entry for name, entry in value.items()]


Url = Annotated[str, AfterValidator(_url)]
Bind = Annotated[str, AfterValidator(_bind)]
Organisation = Annotated[HpiO, PlainValidator(lambda value: HpiO.parse(str(value)))]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class IssuerSettings(_Frozen):
    """A token authority that is trusted."""

    iss: Annotated[str, AfterValidator(_issuer)]
    """Compared with the claim `iss` as it stands."""
    jwks_url: Url
    """Where its public keys are."""
    algorithms: frozenset[str] = frozenset({"ES256"})
    """What it may sign with: ES256, ES384, PS256, PS384, RS256."""
    clients: dict[str, Organisation] | None = None
    """Registered clients and the organisation (HPI-O) of each; without the table the issuer's word counts."""


class FolderSettings(_Frozen):
    """Folders of DICOM files, referenced in place and watched."""

    kind: Literal["folder"]
    """`folder`: DICOM files where they lie, on this machine."""
    name: Annotated[str, AfterValidator(_source_name)]
    """What its studies are indexed under: small letters, digits and hyphens. Under another name it is indexed anew."""
    path: Annotated[tuple[Path, ...], BeforeValidator(_as_list)] = Field(min_length=1)
    """The folder with all below it, or a list of folders whose files may belong to the same studies."""


Sources = Annotated[tuple[FolderSettings, ...], BeforeValidator(_named)]


class Capabilities(_Frozen):
    """What this gateway offers; what is off answers 404, vanishes from `/fhir/metadata`, and is not offered by
    `/ief-capability-statement`, which then gives the date of `roadmap` only."""

    discovery: bool = True
    """Search and read of imaging metadata by FHIR."""
    retrieval: bool = True
    """JMIX envelopes."""
    registration: bool = False
    """Telling the registry of `registry_url` for whom there is something here; while it is off, what is owed waits."""
    subscription: bool = False
    """Telling subscribers of new and changed studies; see `subscribers`."""

    @model_validator(mode="after")
    def _offered(self) -> Self:
        if self.subscription and not self.discovery:
            raise ValueError("subscription names studies that are read by discovery: switch both on, or both off")
        if self.registration and not self.discovery:
            raise ValueError("registration points to what discovery finds: switch both on, or both off")
        return self


class Roadmap(_Frozen):
    """By when each capability is automated through HealthConnect, as the organisation promises it (IEF
    CAP5.3 to CAP5.5); without a date nothing is promised."""

    discovery: date | None = None
    """Discovery."""
    retrieval: date | None = None
    """Retrieval."""
    registration: date | None = None
    """Registration."""
    subscription: date | None = None
    """Subscription."""


class Settings(BaseSettings):
    """One gateway."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        env_prefix=PREFIX,
        env_nested_delimiter="__",
        hide_input_in_errors=True,
        nested_model_default_partial_update=True,
        use_attribute_docstrings=True,
    )

    custodian: Organisation
    """HPI-O of the organisation whose images these are; also this gateway's entity id in the directory."""
    name: str = "Medical Data Gateway"
    """Its name, as envelopes and the directory show it."""
    contact: str = ""
    """Where to ask about it: a mail address or telephone number."""
    public_url: Url
    """Where callers reach the public listener; tokens are for it, and no header ever changes it."""
    bind: Bind = "127.0.0.1:8080"
    """Address and port of the public listener (FHIR, JMIX)."""
    admin_bind: Bind = "127.0.0.1:8081"
    """Address and port of the admin listener (metrics, audit, retrievals); loopback, unless `admin_token` is set."""
    admin_token: SecretStr | None = None
    """Bearer token of the admin listener; use MDG_ADMIN_TOKEN_FILE."""
    trusted_proxies: tuple[IPv4Network | IPv6Network, ...] = ()
    """Networks of the reverse proxies in front of the listeners, as in `10.0.0.7/32`: only what they say of the address
    of a caller is believed. By default the audit has the address at the other end of the socket."""
    proxy_header: Literal["X-Forwarded-For", "Forwarded"] = "X-Forwarded-For"
    """The header in which these proxies name the caller. A proxy adds to it, or replaces it."""
    data: Path
    """Folder of the database, the keys, the spool and what was received; private to the gateway."""
    database: Annotated[SecretStr, AfterValidator(_postgresql)] | None = None
    """URL of a PostgreSQL database, with its password: use MDG_DATABASE_FILE. By default SQLite in `data`."""
    sources: Sources = ()
    """Where the images are: each has a `kind` and a `name` of its own. Of two that hold a study, the first one serves
    it. What other gateways sent is in `data` and needs no entry."""
    identity: Path | None = None
    """identity.csv: PatientID, issuer, IHI, source, date."""
    default_issuer: str = Field(min_length=1, max_length=64)
    """Who issued a PatientID that names no issuer."""
    time_zone: Annotated[ZoneInfo, BeforeValidator(_zone)]
    """Where DICOM times without offset were written; required, because a guess would be wrong twice a year."""
    issuers: tuple[IssuerSettings, ...] = ()
    """Token authorities; nobody gets in without one. In a sandbox an empty list starts the stand-in at /sandbox."""
    directory_url: Url | None = None
    """The key directory."""
    token_url: Url | None = None
    """Where this gateway, as a consumer, gets its own tokens; by default `/token` of the first issuer."""
    registry_url: Url | None = None
    """The registry that is told for whom there is something here; in a sandbox its stand-in."""
    service_id: Annotated[str, Field(pattern=f"^(?:{SERVICE_ID.pattern})$")] | None = None
    """ULID or UUID that registries know this service by; by default a UUID made from `public_url`."""
    allow: tuple[Url, ...] = ()
    """Origins that may be asked besides those named above: the gateways to retrieve from."""
    subscribers: dict[Organisation, tuple[Url, ...]] = {}
    """Organisations (HPI-O) that may subscribe, and the origins at which each of them may be told."""
    capabilities: Capabilities = Capabilities()
    """What is switched on."""
    roadmap: Roadmap = Roadmap()
    """Dates of the capability statement."""
    canonical_base: Url = "https://w3id.org/mdg"
    """Base of code systems, profiles and extensions."""
    envelope_hours: int = Field(default=24, ge=1, le=24)
    """How long a finished envelope is kept for its consumer, in hours."""
    minimum_level: int = Field(default=0, ge=0, le=2)
    """Lowest forward-secrecy level of a release (seg/1 16): 0 also seals to the directory's long-lived keys, 2 only to
    keys made for one request."""
    streams: int = Field(default=128, ge=1)
    """Envelopes that are sent at once, each from at most 3 MiB of memory; more are told to come back (429)."""
    streams_each: int = Field(default=32, ge=1)
    """How many of them to one client of one organisation."""
    sandbox: bool = False
    """For demo and tests: http and loopback are allowed, the stand-ins for the national services run. Loopback only."""

    @model_validator(mode="after")
    def _safe(self) -> Self:
        binds = (self.bind, self.admin_bind)
        if self.sandbox and not all(
            is_loopback(host) for host in (urlsplit(self.public_url).hostname, *map(host_of, binds))
        ):
            raise ValueError("a sandbox is for this machine only: public_url, bind and admin_bind must be loopback")
        if not self.sandbox and not self.public_url.startswith("https://"):
            raise ValueError("public_url begins with https://")
        if self.admin_token is None and not is_loopback(host_of(self.admin_bind)):
            raise ValueError("admin_bind is reachable from outside: set admin_token (MDG_ADMIN_TOKEN_FILE)")
        if self.admin_token is not None and len(self.admin_token.get_secret_value()) < 32:
            raise ValueError("admin_token has at least 32 characters")
        if not self.sandbox and self.directory_url is None:
            raise ValueError("directory_url is required: without a directory no requester can be verified")
        if (
            not self.sandbox
            and self.capabilities.registration
            and not (self.registry_url and (self.issuers or self.token_url))
        ):
            raise ValueError("registration needs registry_url, and token_url or an issuer for a token to it")
        return self

    @model_validator(mode="after")
    def _apart(self) -> Self:
        """One name means one source, and one file belongs to one source."""
        for number, source in enumerate(self.sources):
            if source.name == RECEIVED:
                raise ValueError(f"sources.{number}.name: {RECEIVED} names what others sent here; choose another")
            for before, other in enumerate(self.sources[:number]):
                if source.name == other.name:
                    raise ValueError(f"sources.{number}.name: {source.name} is the name of sources.{before} too")
                for one, two in product(source.path, other.path):
                    if _overlap(one, two):
                        raise ValueError(f"sources.{number}.path: {one} shares files with {two} of sources.{before}")
        return self

    @model_validator(mode="after")
    def _agreed(self) -> Self:
        """An endpoint is compared with an origin, so a path would promise a bound that is not there."""
        for url in (url for urls in self.subscribers.values() for url in urls):
            try:
                Origin.of(url, sandbox=self.sandbox)
            except Unprocessable as error:
                raise ValueError(f"subscribers: {error.diagnostics}") from None
            if urlsplit(url).path:
                raise ValueError("subscribers: an origin ends with its host or port, as in https://ris.example.org")
        return self

    @model_validator(mode="after")
    def _asked(self) -> Self:
        """What this gateway will ask must be a URL that its outbound client asks."""
        named = [("directory_url", self.directory_url), ("token_url", self.token_url)]
        named += [("registry_url", self.registry_url), *(("allow", url) for url in self.allow)]
        named += [("issuers: jwks_url", issuer.jwks_url) for issuer in self.issuers]
        for name, url in named:
            try:
                if url is not None:
                    Origin.of(url, sandbox=self.sandbox)
            except Unprocessable as error:
                raise ValueError(f"{name}: {error.diagnostics}") from None
        return self

    @property
    def own_sandbox(self) -> bool:
        """Whether the stand-ins run inside this gateway, under `/sandbox`."""
        return self.sandbox and not self.issuers

    @property
    def service(self) -> str:
        """What registries know this service by."""
        return self.service_id or str(uuid5(NAMESPACE_URL, self.public_url))

    @property
    def store_url(self) -> str:
        """What `Store.open` takes."""
        return self.database.get_secret_value() if self.database else str(self.data / SQLITE)

    @classmethod
    def load(cls, config: Path | None = None, **given: Any) -> Self:
        """The settings from all their sources; `given` are those of the command line. `Misuse` says what is wrong,
        without any value; `InputOutput` when the file cannot be read."""
        table = _toml(config)
        stray = [
            name for name in os.environ if name.startswith(PREFIX) and not name.startswith(OTHERS) and not _known(name)
        ]
        if stray:
            now = [GONE[name] for name in (one.removeprefix(PREFIX).lower() for one in stray) if name in GONE]
            raise Misuse(f"{', '.join(sorted(stray))}: no such setting; {'; '.join(now) or 'see `mdg config show`'}")
        if SECRETS & table.keys():
            _private(config)
        if config is not None and config.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise Misuse(f"{config} can be changed by others, who could name a token authority: chmod go-w {config}")

        class Loaded(cls):  # type: ignore[valid-type, misc] # the file is known only here, and pydantic asks the class
            @classmethod
            def settings_customise_sources(
                cls, settings_cls: type[BaseSettings], **sources: PydanticBaseSettingsSource
            ) -> tuple[PydanticBaseSettingsSource, ...]:
                file = [TomlConfigSettingsSource(settings_cls, config)] if config else []
                return (sources["init_settings"], sources["env_settings"], _SecretFiles(settings_cls), *file)

        try:
            return Loaded(**given)
        except ValidationError as error:
            misuse = Misuse("; ".join(_complaint(fault, config) for fault in error.errors()))
            if config is None and any(fault["type"] == "missing" for fault in error.errors()):
                misuse.add_note("name your settings file with --config; mdg init writes one")
            raise misuse from None

    @classmethod
    def origins(cls, config: Path | None = None, **given: Any) -> dict[str, str]:
        """Where the value of each setting comes from."""
        table = _toml(config)
        found = {}
        for name in cls.model_fields:
            variable = PREFIX + name.upper()
            if name in given:
                found[name] = "command line"
            elif any(set_ == variable or set_.startswith(variable + "__") for set_ in os.environ):
                found[name] = variable
            elif variable + "_FILE" in os.environ:
                found[name] = variable + "_FILE"
            else:
                found[name] = str(config) if name in table else "default"
        return found


class _SecretFiles(PydanticBaseSettingsSource):
    """`MDG_<NAME>_FILE`: the value stands in a file that nobody else may read, as secret stores mount them."""

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:
        path = os.environ.get(f"{PREFIX}{field_name.upper()}_FILE")
        if path is None:
            return None, field_name, False
        _private(Path(path))
        try:
            return Path(path).read_text(encoding="utf-8").strip(), field_name, False
        except (OSError, UnicodeDecodeError) as error:
            raise InputOutput(path, "it cannot be read as text") from error

    def __call__(self) -> dict[str, Any]:
        values = {name: self.get_field_value(field, name)[0] for name, field in self.settings_cls.model_fields.items()}
        return {name: value for name, value in values.items() if value is not None}


def is_loopback(host: str | None) -> bool:
    """Whether a host is this machine, by literal address or the name `localhost`."""
    try:
        return host == "localhost" or (host is not None and ip_address(host).is_loopback)
    except ValueError:
        return False


def host_of(bind: str) -> str:
    """The address in `address:port`; IPv6 stands in brackets."""
    return bind.rpartition(":")[0].strip("[]")


def port_of(bind: str) -> int:
    """The port in `address:port`."""
    return int(bind.rpartition(":")[2])


def _toml(config: Path | None) -> Mapping[str, Any]:
    if config is None:
        return {}
    try:
        return tomllib.loads(config.read_text(encoding="utf-8"))
    except OSError as error:
        unread = InputOutput(str(config), error.strerror or "it cannot be read")
        if isinstance(error, FileNotFoundError):
            unread.add_note(f"mdg init {config} writes one with every setting and what it means")
        raise unread from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Misuse(f"{config}: {error}") from None


def _private(path: Path | None) -> None:
    """Refuses a secret in a file that others may read (spec/hostile-input K12)."""
    if path is not None and path.exists() and path.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH):
        raise Misuse(f"{path} holds a secret and others may read it: chmod 600 {path}")


def _overlap(one: Path, other: Path) -> bool:
    one, other = one.resolve(), other.resolve()
    return one.is_relative_to(other) or other.is_relative_to(one)


def _known(variable: str) -> bool:
    name = variable.removeprefix(PREFIX).removesuffix("_FILE").lower().partition("__")[0]
    return name in Settings.model_fields


def _complaint(fault: Any, config: Path | None) -> str:
    """What is wrong with a setting, without its value."""
    where = ".".join(str(part) for part in fault["loc"])
    if fault["type"] == "missing":
        return f"{where} is required"
    said = str(fault["msg"]).removeprefix("Value error, ")
    what = {
        "extra_forbidden": "no such setting",
        "tuple_type": 'a list, as in ["one", "two"]',
        "model_type": "a table with settings of its own; mdg init writes an example",
        "too_short": "is empty",
        "string_too_short": "is empty",
        "literal_error": f"is one of {fault.get('ctx', {}).get('expected')}",
    }.get(fault["type"], said)
    if fault["type"] == "extra_forbidden":
        what += _meant(str(fault["loc"][-1]), config)
    return f"{where}: {what}" if where else what


def _meant(name: str, config: Path | None) -> str:
    """Where the file has a name that is no setting, and what to write in its place."""
    tables = (Settings, Capabilities, Roadmap, IssuerSettings, FolderSettings)
    near = get_close_matches(name, [field for table in tables for field in table.model_fields], 1)
    lines = config.read_text(encoding="utf-8").splitlines() if config else []
    at = next((n for n, line in enumerate(lines, 1) if re.match(rf"\s*\[*\s*{re.escape(name)}\b", line)), None)
    place = f" ({config}, line {at})" if at else ""
    if name in GONE:
        return f"{place}; {GONE[name]}"
    return f"{place}; did you mean {near[0]}?" if near else place
