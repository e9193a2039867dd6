"""
The tables of a settings file: what each may say, and in which words it is refused.

- Frozen, and without room for a key that nobody reads.
- Secrets are file paths (`gateway.secretfile`); a URL never carries one.
- Validation knows the mode: production takes no http and no loopback host from outside.
"""

import re
from collections.abc import Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictInt,
    StrictStr,
    ValidationInfo,
    field_validator,
    model_validator,
)

from audit.personal import looks_personal
from gateway import addresses, places, secretfile
from gateway.secretfile import Secret, SecretFile
from policy.access import Role
from vault import bucket

GRAPH_URL = "https://graph.facebook.com/v23.0"
MEDIA_HOSTS = ("lookaside.fbsbx.com",)
RAW_LIMIT_S = 86_340  # under a day, with a minute to spare
MAX_PORT = 65_535
MOST_BUCKETS = 4096
SILENT_DAYS = 90
YEAR_S = 366 * 86_400
TOKEN_LENGTH = 32
PURPOSES = ("analytics", "human_review", "training", "transfer_abroad")
"""What may be asked beside the main purpose; each has its own words (`gateway.phrases`)."""
GROUNDS = ("adequacy", "scc", "bcr", "explicit-consent")
"""On what data may go abroad, where a law admits it."""
SINKS = ("analytics", "log", "understand")
"""Where a redacted text may go."""


class Mode(StrEnum):
    """What the cell is for; kept sorted."""

    DEVELOPMENT = "development"
    PRODUCTION = "production"


_T = TypeVar("_T")


def _shaped(pattern: str, says: str) -> AfterValidator:
    expression = re.compile(pattern)

    def check(value: str) -> str:
        if not expression.fullmatch(value):
            raise ValueError(f"must be {says}")
        return value

    return AfterValidator(check)


def _path(given: object, info: ValidationInfo) -> Path:
    return secretfile.locate(given, info)


def _file(path: Path) -> Path:
    if not path.is_file():
        raise ValueError(f"{path} is not a file (create it, or correct the path)")
    return path


def _directory(path: Path) -> Path:
    if not path.is_dir():
        raise ValueError(f"{path} is not a directory (create it, or correct the path)")
    return path


def _free(path: Path) -> Path:
    if path.exists() and not path.is_dir():
        raise ValueError(f"{path} is not a directory (give one that the gateway may fill)")
    return path


def _country(value: str) -> str:
    if fault := places.country_fault(value):
        raise ValueError(fault)
    return value


def _distinct(values: tuple[_T, ...]) -> tuple[_T, ...]:
    if len(set(values)) < len(values):
        raise ValueError("must not name one thing twice")
    return values


def _impersonal(value: str) -> str:
    if looks_personal(value):
        raise ValueError("looks like a number or an address (it goes into the log, which has none)")
    return value


Id = Annotated[
    StrictStr,
    _shaped(r"[a-z][a-z0-9-]{0,31}", "1-32 of a-z 0-9 -, a letter first"),
    AfterValidator(_impersonal),
]
Place = Annotated[Path, BeforeValidator(_path)]
PublicFile = Annotated[Place, AfterValidator(_file)]
Name = Annotated[StrictStr, _shaped(r"\S(.{0,198}\S)?", "1-200 characters on one line")]
Language = Annotated[StrictStr, _shaped(r"[a-z]{2,3}", "a BCP 47 primary tag such as de or pt")]
Country = Annotated[StrictStr, AfterValidator(_country)]
NumberId = Annotated[StrictStr, _shaped(r"[0-9]{1,32}", "WhatsApp's phone number id: digits")]


def _region(value: str) -> str:
    if value in {"auto", "default", "global"}:
        raise ValueError("must be one place where machines stand, not a routing word")
    return value


MediaHost = Annotated[StrictStr, AfterValidator(addresses.media_host)]
ServiceUrl = Annotated[StrictStr, AfterValidator(addresses.service)]
Region = Annotated[Id, AfterValidator(_region)]


class Section(BaseModel):
    """A table of the file: frozen, and without room for a key that nobody reads."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def _listen(value: str) -> str:
    host, _, port = value.rpartition(":")
    if not host.strip("[]") or not re.fullmatch(r"[0-9]{1,5}", port) or int(port) > MAX_PORT:
        raise ValueError('must be "host:port", such as "127.0.0.1:8080"')
    return value


class Cell(Section):
    """One regional deployment: where it stands, keeps its data and listens."""

    id: Id
    region: Region
    data: Annotated[Place, AfterValidator(_free)]
    listen: Annotated[StrictStr, AfterValidator(_listen)] = "127.0.0.1:8080"
    arrival_key_file: Secret | None = None
    mode: Mode = Mode.PRODUCTION

    @property
    def host(self) -> str:
        """Return the host part of *listen*."""
        return self.listen.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        """Return the port part of *listen*; 0 means any free one."""
        return int(self.listen.rpartition(":")[2])


class Database(Section):
    """PostgreSQL by URL, the password beside it; left out: SQLite in the data directory."""

    url: StrictStr
    password_file: Secret | None = None

    @field_validator("url")
    @classmethod
    def _url(cls, value: str) -> str:
        if not value.startswith("sqlite+aiosqlite:///"):
            addresses.split(value, ("postgresql+asyncpg",), user=True)
        return value


class Nats(Section):
    """A NATS server with JetStream; left out: a child nats-server."""

    url: StrictStr
    token_file: Secret | None = None

    @field_validator("url")
    @classmethod
    def _url(cls, value: str) -> str:
        addresses.split(value, ("tls", "nats"))
        return value


class Opa(Section):
    """An OPA server that holds our bundle; left out: regorus inside the gateway."""

    url: ServiceUrl
    token_file: Secret | None = None


MountPath = Annotated[StrictStr, _shaped(r"[a-z0-9][a-z0-9/_-]{0,63}", "a mount path")]
RoleName = Annotated[StrictStr, _shaped(r"[A-Za-z0-9._-]{1,128}", "the name of a role")]


class AppRole(Section):
    """An AppRole's credentials; the secret id as it is, or inside a wrapping token."""

    role_id_file: Secret
    secret_id_file: Secret | None = None
    wrapped_secret_id_file: Secret | None = None
    mount: MountPath = "approle"

    @model_validator(mode="after")
    def _one_secret_id(self) -> Self:
        if (self.secret_id_file is None) == (self.wrapped_secret_id_file is None):
            raise ValueError("give one of secret_id_file and wrapped_secret_id_file")
        return self

    @property
    def secret_id(self) -> SecretFile:
        """Return the file of the secret id, or of the wrapping token around it."""
        (given,) = filter(None, (self.secret_id_file, self.wrapped_secret_id_file))
        return given


class Kubernetes(Section):
    """A role that the pod's own service account logs in to; kubelet keeps its token's file."""

    role: RoleName
    jwt_file: PublicFile
    mount: MountPath = "kubernetes"


class Vault(Section):
    """
    OpenBao or Vault with a transit engine at *mount*; left out: a local keyring.

    The cell and the keeper each log in by one way; either may be left to the other's settings.
    """

    url: ServiceUrl
    token_file: Secret | None = None
    approle: AppRole | None = None
    kubernetes: Kubernetes | None = None
    keeper_token_file: Secret | None = None
    keeper_approle: AppRole | None = None
    keeper_kubernetes: Kubernetes | None = None
    ca_file: PublicFile | None = None
    mount: MountPath = "transit"

    @model_validator(mode="after")
    def _ways(self, info: ValidationInfo) -> Self:
        faults = []
        if not self.worker_ways and not self.keeper_ways:
            faults.append("names no way to log in (add token_file, approle or kubernetes)")
        for who, ways in (("the cell", self.worker_ways), ("the keeper", self.keeper_ways)):
            if len(ways) > 1:
                faults.append(f"{who} logs in by one way (keep one of {', '.join(sorted(ways))})")
        ours, theirs = (
            {_identity(way) for way in ways.values()}
            for ways in (self.worker_ways, self.keeper_ways)
        )
        if ours & theirs and addresses.production(info):
            faults.append("the cell and the keeper are two identities (give each its own)")
        if faults:
            raise ValueError("; ".join(faults))
        return self

    @property
    def ca(self) -> str | None:
        """Return the bundle that the server's certificate must lead to; None: the public ones."""
        return str(self.ca_file) if self.ca_file else None

    @property
    def worker_ways(self) -> dict[str, SecretFile | AppRole | Kubernetes]:
        """Return how the cell logs in, by the name of the setting: one way, or none."""
        names = ("token_file", "approle", "kubernetes")
        return {name: way for name in names if (way := getattr(self, name)) is not None}

    @property
    def keeper_ways(self) -> dict[str, SecretFile | AppRole | Kubernetes]:
        """Return how the keeper logs in, in the same way."""
        names = ("keeper_token_file", "keeper_approle", "keeper_kubernetes")
        return {name: way for name in names if (way := getattr(self, name)) is not None}


def _identity(way: SecretFile | AppRole | Kubernetes) -> tuple[object, ...]:
    """Return what the server knows who logs in so by."""
    if isinstance(way, AppRole):
        return way.mount, way.role_id_file.value
    if isinstance(way, Kubernetes):
        return way.mount, way.role
    return (way.value,)


def _known_facts(values: tuple[str, ...]) -> tuple[str, ...]:
    if unknown := sorted(set(values) - set(bucket.FACTS)):
        raise ValueError(f"unknown: {', '.join(unknown)} (known: {', '.join(bucket.FACTS)})")
    return values


class Objects(Section):
    """
    An S3-compatible bucket; left out: files in the data directory.

    *accept_unknown* names what its server does not say and this cell does without
    (`vault.bucket`).
    """

    url: StrictStr
    endpoint: ServiceUrl | None = None
    region: Id = "us-east-1"
    access_key_file: Secret
    secret_key_file: Secret
    purge_versions: StrictBool = False
    accept_unknown: Annotated[
        tuple[StrictStr, ...], AfterValidator(_distinct), AfterValidator(_known_facts)
    ] = ()

    @field_validator("url")
    @classmethod
    def _url(cls, value: str) -> str:
        if not re.fullmatch(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[a-z0-9/_-]*)?", value):
            raise ValueError('must be "s3://bucket" or "s3://bucket/prefix"')
        return value


class Services(Section):
    """
    Servers that the cell uses; each one left out is an embedded default.

    A service may be a table, or a URL with its files beside it: ``vault = "https://..."`` and
    ``vault_token_file = "..."`` say the same as ``vault = { url = ..., token_file = ... }``.
    """

    database: Database | None = None
    nats: Nats | None = None
    opa: Opa | None = None
    vault: Vault | None = None
    objects: Objects | None = None

    @model_validator(mode="before")
    @classmethod
    def _tables(cls, given: Any) -> Any:
        return _nest(given, tuple(cls.model_fields)) if isinstance(given, dict) else given


def _nest(flat: Mapping[str, Any], services: tuple[str, ...]) -> dict[str, Any]:
    """Return *flat* with every ``vault = URL`` and ``vault_token_file`` moved into a table."""
    nested: dict[str, Any] = {}
    for key, value in flat.items():
        nested[key] = {"url": value} if key in services and isinstance(value, str) else value
    for key in list(nested):
        service, _, rest = key.partition("_")
        if rest and isinstance(nested.get(service), dict):
            nested[service] = nested[service] | {rest: nested.pop(key)}
    return nested


class Retention(Section):
    """What this tenant wants kept for less time than the policy allows; in seconds."""

    raw_audio_seconds: Annotated[StrictInt, Field(gt=0, le=RAW_LIMIT_S)] | None = None
    transcript_seconds: Annotated[StrictInt, Field(gt=0, le=YEAR_S)] | None = None
    redacted_seconds: Annotated[StrictInt, Field(gt=0, le=YEAR_S)] | None = None
    reply_audio_seconds: Annotated[StrictInt, Field(gt=0, le=RAW_LIMIT_S)] | None = None
    keep_raw_audio: StrictBool = False


def _known_purposes(values: tuple[str, ...]) -> tuple[str, ...]:
    if unknown := sorted(set(values) - set(PURPOSES)):
        raise ValueError(f"unknown: {', '.join(unknown)} (known: {', '.join(PURPOSES)})")
    return values


def _known_grounds(values: tuple[str, ...]) -> tuple[str, ...]:
    if unknown := sorted(set(values) - set(GROUNDS)):
        raise ValueError(f"unknown: {', '.join(unknown)} (known: {', '.join(GROUNDS)})")
    return values


def _known_sinks(values: dict[str, Any]) -> dict[str, Any]:
    if unknown := sorted(set(values) - set(SINKS)):
        raise ValueError(f"unknown: {', '.join(unknown)} (known: {', '.join(SINKS)})")
    return values


Grounds = Annotated[
    tuple[StrictStr, ...], AfterValidator(_distinct), AfterValidator(_known_grounds)
]
RedactClass = Annotated[StrictStr, _shaped(r"[a-z_]{1,32}", "1-32 of a-z _")]
ProcessorId = Annotated[StrictStr, _shaped(r"[A-Za-z0-9._:-]{1,128}", "the id of a processor")]


class Tightened(Section):
    """What this tenant refuses although the law and the contracts would allow it."""

    refused_processors: Annotated[tuple[ProcessorId, ...], AfterValidator(_distinct)] = ()
    refused_grounds: Grounds = ()
    refused_purposes: Annotated[
        tuple[StrictStr, ...], AfterValidator(_distinct), AfterValidator(_known_purposes)
    ] = ()
    redact: Annotated[dict[str, tuple[RedactClass, ...]], AfterValidator(_known_sinks)] = Field(
        default_factory=dict
    )


class Consents(Section):
    """
    What else this tenant asks people's consent for, how long a yes counts, what a no undoes.

    Every purpose in *ask* is asked for by itself; the main one (transcribe and answer) always is.
    """

    ask: Annotated[
        tuple[StrictStr, ...], AfterValidator(_distinct), AfterValidator(_known_purposes)
    ] = ()
    valid_months: Annotated[StrictInt, Field(ge=1, le=24)] = 12
    withdrawal_erases: StrictBool = True


class WhatsApp(Section):
    """The tenant's numbers and credentials, and the hosts its media may come from."""

    phone_number_ids: Annotated[
        tuple[NumberId, ...], Field(min_length=1), AfterValidator(_distinct)
    ]
    app_secret_files: Annotated[tuple[Secret, ...], Field(min_length=1)]
    verify_token_file: Secret
    access_token_file: Secret
    graph_url: Annotated[StrictStr, AfterValidator(addresses.graph)] = GRAPH_URL
    media_hosts: Annotated[
        tuple[MediaHost, ...], Field(min_length=1), AfterValidator(_distinct)
    ] = MEDIA_HOSTS

    @property
    def app_secrets(self) -> tuple[bytes, ...]:
        """Return every app secret in force, the newest first as the file lists them."""
        return tuple(secret.value for secret in self.app_secret_files)


class Limits(Section):
    """How much of the cell one tenant may have at a time."""

    concurrency: Annotated[StrictInt, Field(gt=0, le=256)] | None = None
    notes_per_minute: Annotated[StrictInt, Field(gt=0, le=100_000)] | None = None


class Forward(Section):
    """Numbers of this tenant that another cell serves, and how their updates get there."""

    cell: Id
    region: Region
    phone_number_ids: Annotated[
        tuple[NumberId, ...], Field(min_length=1), AfterValidator(_distinct)
    ]
    seal_key_file: Annotated[Place, AfterValidator(_file)]
    nats: Nats


class Groups(StrEnum):
    """What becomes of messages in a group; kept sorted."""

    HAND_OVER = "hand_over"
    IGNORE = "ignore"


class Tenant(Section):
    """
    One controller that the cell works for.

    *abroad* says what it does about people who are under another law than its own.
    """

    id: Id
    controller: Name
    address: Name | None = None
    contact: Name | None = None
    jurisdiction: Country
    abroad: Literal["decline", "serve"] = "serve"
    languages: Annotated[tuple[Language, ...], Field(min_length=1), AfterValidator(_distinct)]
    number_silent_days: Annotated[StrictInt, Field(ge=1, le=3650)] = SILENT_DAYS
    groups: Groups = Groups.IGNORE
    assistant: Annotated[Place, AfterValidator(_file)] | None = None
    retention: Retention = Retention()
    policy: Tightened = Tightened()
    consents: Consents = Consents()
    whatsapp: WhatsApp
    limits: Limits = Limits()
    key_buckets: Annotated[StrictInt, Field(gt=0, le=MOST_BUCKETS)] | None = None
    forward: tuple[Forward, ...] = ()

    @model_validator(mode="after")
    def _one_cell_each(self) -> Self:
        numbers = list(self.whatsapp.phone_number_ids)
        numbers += [number for forward in self.forward for number in forward.phone_number_ids]
        if len(set(numbers)) < len(numbers):
            raise ValueError("forward: a phone number id belongs to one cell (name it once)")
        return self


class Engines(Section):
    """Where local engines find their models, if not in the wheels of the demo extra."""

    whisper_dir: Annotated[Place, AfterValidator(_directory)] | None = None


class Credentials(Section):
    """How the cell shows a vendor who it is: a key, or a service account; by processor id."""

    key_file: Secret | None = None
    credentials_file: Secret | None = None


class Registry(Section):
    """The processors that this cell may use; left out: the registry that ships with us."""

    file: Annotated[Place, AfterValidator(_file)] | None = None


class Policy(Section):
    """
    Where the cell's bundle is published, and whose signature it must have; or how it is built.

    *grounds* are those on which data may leave a jurisdiction at all; none: nothing does.
    """

    source: StrictStr | None = None
    verify_keys: Annotated[tuple[PublicFile, ...], AfterValidator(_distinct)] = ()
    poll_seconds: Annotated[StrictInt, Field(ge=1, le=3600)] = 15
    grounds: Grounds = ()
    opa_token_file: Secret | None = None
    sign_key_file: Secret | None = None

    @field_validator("source", mode="before")
    @classmethod
    def _source(cls, value: object, info: ValidationInfo) -> object:
        if isinstance(value, str) and "://" in value:
            return addresses.service(value, info)
        return None if value is None else str(secretfile.locate(value, info))

    @model_validator(mode="after")
    def _signed(self) -> "Policy":
        if self.source is not None and not self.verify_keys:
            raise ValueError("source needs verify_keys (the public half of who signs)")
        if self.source is not None and self.sign_key_file is not None:
            raise ValueError("sign_key_file signs what is built here (remove it, or source)")
        return self


class Worker(Section):
    """How many jobs are worked on at a time."""

    concurrency: Annotated[StrictInt, Field(gt=0, le=256)] = 4


class Outbox(Section):
    """How long a reply whose fate is unknown waits for a status before the rule decides."""

    unknown_grace_seconds: Annotated[StrictInt, Field(gt=0, le=3600)] = 120


class Decisions(Section):
    """How long the sealed inputs of decisions are kept, for a replay; the log keeps the record."""

    kept_days: Annotated[StrictInt, Field(gt=0, le=3660)] = 90


class Backups(Section):
    """
    How long the operator keeps copies, for the dates in certificates, and where the newest is.

    *newest* is a database that was restored from the newest backup: certificates try it.
    """

    database_days: Annotated[StrictInt, Field(ge=0, le=60)] = 30
    snapshot_days: Annotated[StrictInt, Field(ge=0, le=30)] = 7
    newest: Database | None = None


class Keys(Section):
    """
    How soon the keys of those who were erased die in old copies, and how old a KEK may be.

    The keys of people whose tenant has no buckets of its own are spread over *buckets* KEKs.
    """

    buckets: Annotated[StrictInt, Field(gt=0, le=MOST_BUCKETS)] = 16
    roll_hours: Annotated[StrictInt, Field(ge=1, le=24)] = 24
    cryptoperiod_days: Annotated[StrictInt, Field(ge=1, le=730)] = 90


class Clock(Section):
    """
    How far independent clocks may differ before nothing is destroyed any more.

    Where there is one clock only, it is believed after a restart of the machine if no more than
    *downtime_days* seem to have passed, and otherwise once it ran evenly for *alone_hours*.
    """

    bound_seconds: Annotated[StrictInt, Field(ge=10, le=3600)] = 300
    downtime_days: Annotated[StrictInt, Field(ge=0, le=30)] = 3
    alone_hours: Annotated[StrictInt, Field(ge=1, le=720)] = 24


class Keeper(Section):
    """How often the keeper writes down that nothing is overdue."""

    every_minutes: Annotated[StrictInt, Field(ge=1, le=60)] = 60


class Egress(Section):
    """The broker that everything leaves through: in this process, or beside it by *control*."""

    control: Place | None = None
    listen: Annotated[StrictStr, AfterValidator(_listen)] = "127.0.0.1:0"

    @property
    def host(self) -> str:
        """Return the host part of *listen*."""
        return self.listen.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        """Return the port part of *listen*; 0 means any free one."""
        return int(self.listen.rpartition(":")[2])


class Probe(Section):
    """
    How often processors are probed with a synthetic tone; 0 = never.

    Left out: hourly in production, never in development.
    """

    every_seconds: Annotated[StrictInt, Field(ge=0, le=86_400)] | None = None


def _long(secret: SecretFile) -> SecretFile:
    if len(secret.value) < TOKEN_LENGTH:
        raise ValueError(f"must hold at least {TOKEN_LENGTH} characters (openssl rand -hex 32)")
    return secret


class Person(Section):
    """Somebody who may ask for things over HTTP: a name for the record, a role, whose they are."""

    name: Id
    role: Role
    tenant: Id
    token_file: Annotated[Secret, AfterValidator(_long)]


class Admin(Section):
    """
    The bearer token of /metrics, and the people of the admin API; left out: neither is served.

    A token stands for one person alone, so that the record names who it was.
    """

    token_file: Secret | None = None
    people: tuple[Person, ...] = ()

    @model_validator(mode="after")
    def _told_apart(self) -> Self:
        tokens = [person.token_file.value for person in self.people]
        if self.people and self.token_file is not None:
            tokens.append(self.token_file.value)
        if len(set(tokens)) < len(tokens):
            raise ValueError("two entries have one token (give each person a token of their own)")
        if len({person.name for person in self.people}) < len(self.people):
            raise ValueError("people: a name is used twice (each person has one, and one token)")
        return self


OperatorName = Annotated[
    StrictStr,
    _shaped(r"[a-z][a-z0-9_-]{0,31}", "1-32 of a-z 0-9 _ -, a letter first"),
    AfterValidator(_impersonal),
]


class Operators(Section):
    """
    Who may be named by ``--by`` of a command, beside the people of the admin API.

    A name goes into the log for good: a pseudonym or a function, such as ``dpo`` or ``p_7``.
    """

    names: Annotated[tuple[OperatorName, ...], AfterValidator(_distinct)] = ()


def sections_of(annotation: Any) -> Iterator[type[Section]]:
    """Yield the tables that a field's *annotation* may hold."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        yield annotation
    for inner in getattr(annotation, "__args__", ()):
        yield from sections_of(inner)
