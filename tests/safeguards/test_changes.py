"""What another policy changes."""

from pysequence_api.safeguards.changes import compare
from tests.safeguards.policies import EXAMPLE, policy_of


def test_the_first_policy() -> None:
    lines = compare(None, policy_of(EXAMPLE))
    assert {line[:2] for line in lines} == {"+ "}
    for line in (
        "+ accounts.landlord = ACCOUNT:3",
        "+ callers.openclaw.day_cents = $2,000.00",
        "+ callers.openclaw.scopes = freeze, move, read:accounts",
        "+ callers.openclaw.rules.rent.to = landlord",
        "+ callers.openclaw.rules.rent.approve_above_cents = $0.00",
        "+ callers.bookkeeper.reads = *",
        "+ callers.bookkeeper.expires = 2027-01-01 00:00:00 UTC",
    ):
        assert line in lines


def test_each_kind_of_change() -> None:
    text = EXAMPLE
    for before, after in (
        ("200000", "190000"),
        ('"POD:2"', '"POD:9"'),
        ("approve_above_cents = 0", "instant = true"),
        (', "freeze"]', "]"),
        ("[callers.bookkeeper]", "[breaker]\nrefusals = 0\n[callers.books]"),
    ):
        assert before in text
        text = text.replace(before, after)
    assert compare(policy_of(EXAMPLE), policy_of(text)) == [
        "~ accounts.groceries: POD:2 → POD:9",
        "~ breaker.refusals: 5 → 0",
        "~ callers.openclaw.day_cents: $2,000.00 → $1,900.00",
        "~ callers.openclaw.scopes: freeze, move, read:accounts → move, read:accounts",
        "~ callers.openclaw.reads: POD:1, POD:2 → POD:1, POD:9",
        "~ callers.openclaw.rules.groceries.to: POD:2 → POD:9",
        "- callers.openclaw.rules.rent.approve_above_cents = $0.00",
        "- callers.bookkeeper",
        "- callers.bookkeeper.scopes = read:accounts, read:activity",
        "- callers.bookkeeper.reads = *",
        "- callers.bookkeeper.expires = 2027-01-01 00:00:00 UTC",
        "+ callers.openclaw.rules.rent.instant = true",
        "+ callers.books",
        "+ callers.books.scopes = read:accounts, read:activity",
        "+ callers.books.reads = *",
        "+ callers.books.expires = 2027-01-01 00:00:00 UTC",
    ]


def test_what_means_the_same_changes_nothing() -> None:
    text = EXAMPLE.replace('["checking", "groceries"]', '["groceries", "checking"]').replace("# words", "# other words")
    assert compare(policy_of(EXAMPLE), policy_of(text)) == []
    renamed = policy_of(EXAMPLE.replace("landlord", "mrs-miller"))
    assert compare(policy_of(EXAMPLE), renamed) == [
        "- accounts.landlord = ACCOUNT:3",
        "+ accounts.mrs-miller = ACCOUNT:3",
    ]
