"""What a transfer would do, before anything is sent."""

from dataclasses import dataclass

from pydantic import ValidationError

from pysequence_api.account.names import Counterparty, find_counterparty
from pysequence_api.cli.known import read_accounts
from pysequence_api.errors import InvalidRequestError, NotFoundError
from pysequence_api.gateway import Gateway
from pysequence_api.models import Accounts, AccountType, TransferOrder
from pysequence_api.safeguards.reservations import Limits


@dataclass(frozen=True, slots=True)
class TransferArguments:
    """What was asked for on the command line."""

    source: str
    destination: str
    amount_cents: int
    source_type: AccountType | None
    destination_type: AccountType | None
    description: str
    instant: bool
    kyc_id: str | None
    idempotency_key: str | None
    yes: bool
    dry_run: bool


@dataclass(frozen=True, slots=True)
class Plan:
    """What would happen."""

    order: TransferOrder
    source: Counterparty
    destination: Counterparty
    limits: Limits
    directory: str
    is_sandbox: bool

    @property
    def left_cents(self) -> int:
        """What would be left of today after it; below 0 if there is not enough."""
        return self.limits.remaining_cents - self.order.amount_cents

    @property
    def source_after_cents(self) -> int | None:
        """What the source would hold after it."""
        return None if self.source.balance_cents is None else self.source.balance_cents - self.order.amount_cents

    @property
    def destination_after_cents(self) -> int | None:
        """What the destination would hold after it."""
        before_cents = self.destination.balance_cents
        return None if before_cents is None else before_cents + self.order.amount_cents

    @property
    def warnings(self) -> list[str]:
        """What speaks against it."""
        amount_cents, limits, source = self.order.amount_cents, self.limits, self.source
        sides = (source, self.destination)
        warnings = [f"The account does not list {side.id!r}." for side in sides if not side.is_listed]
        if amount_cents > limits.max_transfer_cents:
            warnings.append("This is more than the per-transfer limit, so that it will be refused.")
        elif self.left_cents < 0:
            warnings.append("This is more than what is left of today, so that it will be refused.")
        if source.balance_cents is not None and source.balance_cents < amount_cents:
            warnings.append(f"{source.shown_name!r} holds less than that.")
        if source.can_be_source is False:
            warnings.append(f"Sequence says that no money can come from {source.shown_name!r}.")
        return warnings


async def make_plan(gateway: Gateway, arguments: TransferArguments) -> Plan:
    """Find out what a arguments means.

    Raises:
        NotFoundError: a name or id means nothing, or several things.
        InvalidRequestError: such a transfer cannot be.
        SafeguardsUnavailableError: the limits cannot be told.
    """
    kyc_id = arguments.kyc_id or gateway.kyc_id
    accounts = await read_accounts(gateway)
    source = _find(arguments.source, accounts, arguments.source_type, "--source-type")
    destination = _find(arguments.destination, accounts, arguments.destination_type, "--destination-type")
    if source.id == destination.id:
        raise InvalidRequestError(f"Source and destination are the same: {source.shown_name!r}. Nothing was sent.")
    directory = gateway.settings.data_directory.absolute()
    return Plan(
        order=_order(arguments, source, destination, kyc_id),
        source=source,
        destination=destination,
        limits=await gateway.transfers.limits(),
        directory=f"{directory}{' (new: no transfer is recorded there yet)' if gateway.data_directory_is_new else ''}",
        is_sandbox=gateway.settings.sandbox,
    )


def _find(wanted: str, accounts: Accounts, kind: AccountType | None, type_option: str) -> Counterparty:
    try:
        return find_counterparty(wanted, accounts, kind)
    except NotFoundError as error:
        hint = "" if kind else f" To use an id that is not listed, add {type_option}."
        raise NotFoundError(f"{error} Run `pysequence-api accounts` to list them.{hint}") from None


def _order(arguments: TransferArguments, source: Counterparty, destination: Counterparty, kyc_id: str) -> TransferOrder:
    try:
        return TransferOrder(
            kyc_id=kyc_id,
            source_id=source.id,
            source_type=source.type,
            destination_id=destination.id,
            destination_type=destination.type,
            amount_cents=arguments.amount_cents,
            description=arguments.description,
            instant=arguments.instant,
        )
    except ValidationError as error:
        problems = "; ".join(f"{each['loc'][-1:]} {each['msg']}" for each in error.errors(include_url=False))
        raise InvalidRequestError(f"Such a transfer cannot be: {problems}. Nothing was sent.") from None
