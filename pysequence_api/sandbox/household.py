"""The people, pods, ports and accounts of the simulated Sequence: everything that never changes.

What changes (balances and transfers) is in `ledger`. Ids are the same in every file and every process. Some names are
hard for clients: they have a slash, a percent sign or letters outside ASCII, or share a part with another pod's name.
"""

from dataclasses import dataclass
from enum import StrEnum

from pysequence_api.sandbox.ids import (
    KYC_ID,
    ORGANIZATION_ID,
    PERSON_NAME,
    SECOND_KYC_ID,
    SECOND_ORGANIZATION_ID,
    stable_id,
)


class AccountType(StrEnum):
    """The types of party that a payment can have."""

    POD = "POD"
    PORT = "PORT"
    ACCOUNT = "ACCOUNT"


class Provider(StrEnum):
    """Who connects an external account. The provider determines the type of its metadata."""

    PLAID = "PLAID"
    METHOD = "METHOD"
    MANUAL = "MANUAL"


@dataclass(frozen=True, slots=True)
class Money:
    """An amount in cents."""

    cents: int


@dataclass(frozen=True, slots=True)
class Limits:
    """How much a pod or port may still receive. The sandbox shows these limits and does not enforce them."""

    daily_credit_limit: Money | None
    remaining_daily_credit_limit: Money | None
    remaining_monthly_credit_limit: Money | None


@dataclass(frozen=True, slots=True)
class Institution:
    """A bank."""

    id: str
    name: str
    logo: str | None = None


@dataclass(frozen=True, slots=True)
class ErrorMetadata:
    """Why the details of a linked liability are not available."""

    error_code: str
    display_message: str


@dataclass(frozen=True, slots=True)
class Pod:
    """An account at Sequence."""

    id: str
    organization_id: str
    name: str
    opening_cents: int
    icon: str | None
    type: str
    description: str | None
    bank_account_number: str
    goal_amount_in_cents: int | None = None
    linked_account_id: str | None = None
    liability_error: ErrorMetadata | None = None
    limits: Limits | None = None
    beneficiary_name: str = PERSON_NAME
    routing_number: str = "084106768"
    created_at: str = "2023-02-01T15:04:05.120Z"
    show_sequence_balance: bool = True
    show_manual_liability_notification: bool = False
    show_manual_liability_funds_arrived_notification: bool = False
    external_account_id: str | None = None


@dataclass(frozen=True, slots=True)
class Port:
    """An income source."""

    id: str
    organization_id: str
    name: str
    opening_cents: int
    icon: str | None
    bank_account_number: str
    limits: Limits | None = None
    description: str | None = None
    beneficiary_name: str = PERSON_NAME
    routing_number: str = "084106768"
    external_account_id: str | None = None
    created_at: str = "2023-02-01T15:01:00.000Z"


@dataclass(frozen=True, slots=True)
class Liability:
    """The details of a card or a loan, except its balance."""

    subtype: str
    last_statement: Money | None
    minimum_payment: Money | None
    due_date: str | None
    interest_rate_percentage: float | None
    last_statement_date: str | None = None
    original_loan_cents: int | None = None


@dataclass(frozen=True, slots=True)
class Account:
    """An external bank, card or loan account.

    ``opening_cents`` is negative for money that is owed. ``None`` means that Sequence does not know the balance; the
    ledger still counts what moves in and out.
    """

    id: str
    organization_id: str
    name: str
    opening_cents: int | None
    type: str
    provider_type: Provider
    can_be_source_of_transfer: bool
    institution: Institution | None
    bank_account_number: str | None
    routing_number: str | None
    capabilities: tuple[str, ...]
    icon: str | None = None
    pending_disconnect_code: str | None = None
    description: str | None = None
    beneficiary_name: str | None = PERSON_NAME
    created_at: str = "2023-02-03T09:30:00.000Z"
    liability_linked_with_plaid: bool | None = None
    is_pending_kyc: bool = False
    has_metadata: bool = True
    liability: Liability | None = None

    @property
    def institution_name(self) -> str | None:
        """Return the name of the bank."""
        return self.institution.name if self.institution else None


@dataclass(frozen=True, slots=True)
class Merchant:
    """A shop that was paid. It appears only as a party of past transfers."""

    id: str
    name: str
    icon: str | None = None


@dataclass(frozen=True, slots=True)
class ExternalEntity:
    """A person or company outside Sequence. Clients see only the name."""

    id: str
    name: str


Holder = Pod | Port | Account
Party = Holder | Merchant | ExternalEntity


@dataclass(frozen=True, slots=True)
class Plan:
    """The plan that an organization pays Sequence for."""

    id: str
    name: str
    transactions_per_month: int
    transfer_extra_charge: Money


@dataclass(frozen=True, slots=True)
class Kyc:
    """A person or business whose identity is verified, and on whose behalf money moves."""

    id: str
    name: str
    kyc_type: str


@dataclass(frozen=True, slots=True)
class Organization:
    """An organization that the person is a member of."""

    id: str
    membership_id: str
    name: str
    kycs: tuple[Kyc, ...]
    plan: Plan | None
    pods: tuple[Pod, ...]
    ports: tuple[Port, ...]
    accounts: tuple[Account, ...]
    deleted_pods: tuple[Pod, ...] = ()
    """Pods that only past transfers and the Platform API show."""

    @property
    def holders(self) -> tuple[Holder, ...]:
        """Return everything that can be a party of a payment of this organization."""
        return (*self.pods, *self.ports, *self.accounts)


_DAILY_LIMIT = Money(25_000_000)
_LIMITS = Limits(_DAILY_LIMIT, _DAILY_LIMIT, Money(500_000_000))
_FIRST_BANK = Institution(stable_id("institution", "first"), "First Prairie Bank", "https://logos.example/first.png")
_CARD_BANK = Institution(stable_id("institution", "card"), "Harbor Card Services", None)
_LENDER = Institution(stable_id("institution", "lender"), "Midland Auto Finance", "https://logos.example/midland.png")
_SENDS_AND_RECEIVES = ("SEND", "RECEIVE")
_RECEIVES = ("RECEIVE",)


def _pod(organization_id: str, number: int, name: str, opening_cents: int, icon: str | None, **more: object) -> Pod:
    fields: dict[str, object] = {"type": "STANDARD", "description": None, "limits": _LIMITS, **more}
    return Pod(
        id=stable_id("pod", f"{organization_id}/{name}"),
        organization_id=organization_id,
        name=name,
        opening_cents=opening_cents,
        icon=icon,
        bank_account_number=f"9800417{number:05d}",
        external_account_id=stable_id("external", f"{organization_id}/{name}"),
        **fields,  # type: ignore[arg-type]
    )


def _port(organization_id: str, number: int, name: str, opening_cents: int, limits: Limits | None) -> Port:
    return Port(
        id=stable_id("port", f"{organization_id}/{name}"),
        organization_id=organization_id,
        name=name,
        opening_cents=opening_cents,
        icon="💼",
        bank_account_number=f"9800533{number:05d}",
        limits=limits,
        external_account_id=stable_id("external", f"{organization_id}/{name}"),
    )


def _account_id(organization_id: str, name: str) -> str:
    return stable_id("account", f"{organization_id}/{name}")


def _household_accounts() -> tuple[Account, ...]:
    def id_of(name: str) -> str:
        return _account_id(ORGANIZATION_ID, name)

    return (
        Account(id_of("Everyday Checking"), ORGANIZATION_ID, "Everyday Checking", 1_284_033, "DEPOSITORY_ACCOUNT",
                Provider.PLAID, True, _FIRST_BANK, "000123454821", "071000013", _SENDS_AND_RECEIVES),
        Account(id_of("High-Yield Savings"), ORGANIZATION_ID, "High-Yield Savings", 6_150_000, "DEPOSITORY_ACCOUNT",
                Provider.PLAID, False, _FIRST_BANK, "000123459377", "071000013", _RECEIVES),
        Account(id_of("Old Credit Union"), ORGANIZATION_ID, "Old Credit Union", None, "DEPOSITORY_ACCOUNT",
                Provider.PLAID, False, Institution(stable_id("institution", "old"), "Lakeside Credit Union"),
                "7710042", "291378046", _SENDS_AND_RECEIVES, pending_disconnect_code="PENDING_EXPIRATION"),
        Account(id_of("Harbor Rewards Card"), ORGANIZATION_ID, "Harbor Rewards Card", -214_857, "CREDIT_CARD",
                Provider.PLAID, False, _CARD_BANK, None, None, _RECEIVES, liability_linked_with_plaid=True,
                liability=Liability("credit card", Money(189_412), Money(3_500), "2026-02-14", 24.99,
                                    "2026-01-20")),
        Account(id_of("Car Loan"), ORGANIZATION_ID, "Car Loan", -1_421_900, "LOAN", Provider.METHOD, False, _LENDER,
                None, None, _RECEIVES, liability_linked_with_plaid=False,
                liability=Liability("auto", Money(1_452_310), Money(38_900), "2026-02-01", 5.4,
                                    "2026-01-02", 2_450_000)),
        Account(id_of("Landlord"), ORGANIZATION_ID, "Landlord", None, "DEPOSITORY_ACCOUNT", Provider.MANUAL, False,
                None, "004417730", "021000021", _RECEIVES, beneficiary_name="Oak Street Homes LLC"),
        Account(id_of("Joint Account (pending)"), ORGANIZATION_ID, "Joint Account (pending)", None,
                "DEPOSITORY_ACCOUNT", Provider.PLAID, False, _FIRST_BANK, None, None, (), is_pending_kyc=True,
                has_metadata=False),
    )  # fmt: skip


def _household_pods() -> tuple[Pod, ...]:
    def pod(number: int, name: str, cents: int, icon: str | None, **more: object) -> Pod:
        return _pod(ORGANIZATION_ID, number, name, cents, icon, **more)

    card_id = _account_id(ORGANIZATION_ID, "Harbor Rewards Card")
    return (
        pod(1, "Emergency Fund", 18_500_000, "🛟", goal_amount_in_cents=20_000_000),
        pod(2, "House Down Payment", 24_350_075, "🏡", goal_amount_in_cents=60_000_000),
        pod(3, "Rent", 412_500, "🏠", description="Due on the first"),
        pod(4, "Groceries", 87_643, "🥦"),
        pod(5, "Vacation / Travel", 356_210, "✈️", goal_amount_in_cents=500_000),
        pod(6, "50% Rule", 1_999_999, None),
        pod(7, "Café ☕", 4_215, "☕"),
        pod(8, "Taxes 2025", 745_000, "🧾"),
        pod(9, "Taxes 2026", 130_050, "🧾", limits=None),
        pod(10, "Empty Envelope", 0, None, description="Nothing in it yet", limits=None),
        pod(11, "Harbor Card Payoff", 225_000, "💳", type="LIABILITY", linked_account_id=card_id),
        pod(12, "Student Loan Payoff", 61_300, "🎓", type="LIABILITY",
            liability_error=ErrorMetadata("ITEM_LOGIN_REQUIRED", "Reconnect this account to see its balance."),
            show_manual_liability_notification=True),
    )  # fmt: skip


def _plan(name: str, transactions_per_month: int) -> Plan:
    return Plan(stable_id("plan", name), name, transactions_per_month, Money(50))


ORGANIZATIONS: tuple[Organization, ...] = (
    Organization(
        id=ORGANIZATION_ID,
        membership_id=stable_id("membership", "household"),
        name="Rivera Household",
        kycs=(Kyc(KYC_ID, PERSON_NAME, "INDIVIDUAL"),),
        plan=_plan("Plus", 60),
        pods=_household_pods(),
        ports=(
            _port(ORGANIZATION_ID, 1, "Salary", 523_117, _LIMITS),
            _port(ORGANIZATION_ID, 2, "Side Income", 48_000, None),
        ),
        accounts=_household_accounts(),
        deleted_pods=(_pod(ORGANIZATION_ID, 13, "Ski Trip", 0, "⛷️"),),
    ),
    Organization(
        id=SECOND_ORGANIZATION_ID,
        membership_id=stable_id("membership", "studio"),
        name="Rivera Studio LLC",
        kycs=(Kyc(SECOND_KYC_ID, "Rivera Studio LLC", "BUSINESS"),),
        plan=None,
        pods=(
            _pod(SECOND_ORGANIZATION_ID, 21, "Operating", 3_204_400, "🏢", beneficiary_name="Rivera Studio LLC"),
            _pod(SECOND_ORGANIZATION_ID, 22, "Payroll Reserve", 1_500_000, None, beneficiary_name="Rivera Studio LLC"),
            _pod(SECOND_ORGANIZATION_ID, 23, "Sales Tax", 98_765, "🧾", beneficiary_name="Rivera Studio LLC"),
        ),
        ports=(_port(SECOND_ORGANIZATION_ID, 21, "Client Payments", 250_000, _LIMITS),),
        accounts=(
            Account(
                _account_id(SECOND_ORGANIZATION_ID, "Business Checking"), SECOND_ORGANIZATION_ID, "Business Checking",
                845_000, "DEPOSITORY_ACCOUNT", Provider.PLAID, True, _FIRST_BANK, "000998871142", "071000013",
                _SENDS_AND_RECEIVES, beneficiary_name="Rivera Studio LLC",
            ),
        ),
    ),
)  # fmt: skip

MERCHANTS: tuple[Merchant, ...] = tuple(
    Merchant(stable_id("merchant", name), name, icon)
    for name, icon in (
        ("Green Grocer", "🛒"), ("Blue Bottle Café", "☕"), ("City Transit", "🚌"), ("Bücherei & Söhne", None),
        ("Power & Light Co.", "💡"), ("StreamFlix", "🎬"), ("Corner Pharmacy", "💊"), ("Trattoria Nonna", "🍝"),
    )
)  # fmt: skip
EXTERNAL_ENTITIES: tuple[ExternalEntity, ...] = tuple(
    ExternalEntity(stable_id("external-entity", name), name)
    for name in ("Acme Payroll Inc.", "State Tax Refund", "Jordan Lee", "Northwind Design Client", "Etsy Payouts")
)


def account_type(holder: Holder) -> AccountType:
    """Return the type that a payment gives for this party."""
    if isinstance(holder, Pod):
        return AccountType.POD
    return AccountType.PORT if isinstance(holder, Port) else AccountType.ACCOUNT


ORGANIZATION_BY_ID = {organization.id: organization for organization in ORGANIZATIONS}
ORGANIZATION_BY_KYC_ID = {kyc.id: organization for organization in ORGANIZATIONS for kyc in organization.kycs}
HOLDERS = {holder.id: holder for organization in ORGANIZATIONS for holder in organization.holders}
DELETED_PODS = {pod.id: pod for organization in ORGANIZATIONS for pod in organization.deleted_pods}
DELETED_AFTER_DAYS = 40
"""When they were deleted, counted from the first transfer of the organization."""
PARTIES: dict[str, Party] = {
    **HOLDERS,
    **DELETED_PODS,
    **{merchant.id: merchant for merchant in MERCHANTS},
    **{entity.id: entity for entity in EXTERNAL_ENTITIES},
}
