"""The language of policies: what it means, and every error with its path and its text."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pysequence_api.models import AccountType
from pysequence_api.safeguards.policy import (
    MAX_POLICY_CHARACTERS,
    Breaker,
    Caller,
    Pairs,
    PolicyError,
    Problem,
    Scope,
    parse_policy,
)
from tests.safeguards.policies import EXAMPLE, LIMITS, policy_of

HEAD = 'version = 1\naccounts = {a = "POD:1", b = "POD:2", c = "ACCOUNT:3"}\n'
RULE = 'name = "r", from = ["a"], to = ["b"], max_cents = 100'
AT_RULE = "callers.x.rules[0]"


def rules(*tables: str, caller: str = "") -> str:
    return (
        f'{HEAD}[callers.x]\nscopes = ["move"]\n{caller}\nrules = [{", ".join(f"{{{table}}}" for table in tables)}]\n'
    )


def problems(text: str) -> list[tuple[str, str]]:
    with pytest.raises(PolicyError) as caught:
        policy_of(text)
    assert str(caught.value).count("\n  ") == len(caught.value.problems)  # one clear line each
    return [(problem.path, problem.text) for problem in caught.value.problems]


def test_the_example() -> None:
    policy = policy_of(EXAMPLE)
    agent, bookkeeper = policy.caller("openclaw"), policy.caller("bookkeeper")
    groceries, rent = agent.rules
    assert agent.scopes == (Scope.READ_ACCOUNTS, Scope.MOVE, Scope.FREEZE)
    assert (agent.day_cents, agent.month_cents, agent.hour_cents) == (200_000, 260_000, None)
    assert (groceries.max_cents, groceries.day_cents, groceries.hour_count) == (10_000, 20_000, 2)
    assert not groceries.asks(10_000)
    assert rent.asks(1)
    assert (rent.approval_minutes, rent.instant) == (240, False)
    assert agent.rule_for("POD:1", "POD:2") == groceries
    assert agent.rule_for("POD:1", "ACCOUNT:3") == rent
    assert agent.rule_for("POD:2", "POD:1") is None
    assert agent.rule_for("POD:1", "POD:3") is None  # the type decides, too
    assert agent.may_read(AccountType.POD, "2")
    assert not agent.may_read(AccountType.ACCOUNT, "3")
    assert bookkeeper.may_read(AccountType.ACCOUNT, "3")
    assert not bookkeeper.is_expired(datetime(2026, 12, 31, 23, 59, 59, tzinfo=UTC))
    assert bookkeeper.is_expired(datetime(2027, 1, 1, tzinfo=UTC))
    assert policy.breaker == Breaker(never_hits=1, unknown=2, refusals=5, equal_orders=3, all_unknown=3, minutes=10)


def test_what_is_absent_grants_nothing() -> None:
    policy = policy_of("version = 1\n[callers.idle]\n")
    assert policy.caller("idle") == policy.caller("not in the policy") == Caller()
    nothing = Caller()
    assert (nothing.scopes, nothing.reads, nothing.rules) == ((), (), ())
    assert not nothing.may_read(AccountType.POD, "1")


def test_any_destination_is_what_no_other_rule_names() -> None:
    text = rules(
        'name = "any", from = ["a", "b"], to = ["*"], max_cents = 5, approve_above_cents = 0',
        'name = "one", from = ["a"], to = ["c"], max_cents = 9',
    )
    caller = policy_of(text).caller("x")
    any_rule, one = caller.rules
    assert caller.rule_for("POD:1", "ACCOUNT:3") == one
    assert caller.rule_for("POD:2", "ACCOUNT:3") == any_rule
    assert caller.rule_for("POD:1", "PORT:elsewhere") == any_rule
    assert caller.rule_for("ACCOUNT:3", "POD:1") is None
    assert caller.rule_for("PORT:1", "PORT:elsewhere") is None  # the type decides, too
    assert caller.rule_for("POD:1", "POD:3") is None  # not even by a wrong type around the other rule
    pairs = caller.pairs_by_rule
    assert pairs["one"] == Pairs(frozenset({("1", "3")}))
    assert [pairs["any"].covers(*pair) for pair in (("1", "3"), ("2", "3"), ("1", "x"), ("3", "1"))] == [
        False, True, True, False,
    ]  # fmt: skip


def test_a_rule_may_have_the_same_account_on_both_ends() -> None:
    caller = policy_of(rules('name = "r", from = ["a", "b"], to = ["a", "b"], max_cents = 1')).caller("x")
    assert caller.rule_for("POD:1", "POD:2") == caller.rule_for("POD:2", "POD:1") != None  # noqa: E711


@pytest.mark.parametrize(
    ("text", "path", "says"),
    [
        ("version = \n", "line 1, column 11", "is not TOML: Invalid value."),
        ("version = 1\n[accounts\n", "line 2, column 10", "is not TOML: Expected ']'"),
        ("version = 1\nx = [1,\n", "line 2, column 8", "is not TOML"),
        ("a = 1\na = 2\n", "line 2, column 6", "is not TOML: Cannot overwrite a value"),
        ("x = " + "[" * 5000, "the document", "nested too deeply"),
        ("x = " + "1" * 5000, "the document", "is not TOML"),
        ("#" * (MAX_POLICY_CHARACTERS + 1), "the document", "is longer than 100,000 characters. Shorten it."),
        ("", "version", "is missing. Write version = 1 at the top."),
        ("version = 2", "version", "is 2, which this program does not know."),
        ("version = true", "version", "must be a whole number"),
        ('version = "1"', "version", "must be a whole number"),
        (HEAD + "[caller.x]", "caller", "is not known here. Did you mean 'callers'?"),
        (HEAD + "[breakers]", "breakers", "is not known here. Did you mean 'breaker'?"),
        (HEAD + "[zzz]", "zzz", "Known are accounts, breaker, callers, never, version."),
        (HEAD + 'never = ["a"]', "never", "must be a table."),
        (HEAD + 'never.to = ["d"]', "never.to[0]", "is 'd', which is not in [accounts]. Known are a, b, c."),
        (HEAD + 'never.to = ["*"]', "never.to[0]", "must name an account"),
        (HEAD + 'never.form = ["a"]', "never.form", "is not known here. Did you mean 'from'?"),
        (HEAD + "breaker.refusal = 0", "breaker.refusal", "is not known here. Did you mean 'refusals'?"),
        (HEAD + "breaker.refusals = -1", "breaker.refusals", "must be at least 0."),
        (HEAD + "breaker.minutes = 0", "breaker.minutes", "must be at least 1."),
        ('version = 1\naccounts.a = "1"', "accounts.a", "must be TYPE:id, where TYPE is one of POD, PORT, ACCOUNT"),
        ('version = 1\naccounts.a = "BANK:1"', "accounts.a", "not 'BANK:1'."),
        ('version = 1\naccounts.a = "pod:1"', "accounts.a", "Did you mean POD:…?"),
        ('version = 1\naccounts.a = "POD:"', "accounts.a", "with an id without spaces around it"),
        ('version = 1\naccounts.a = "POD: 1"', "accounts.a", "with an id without spaces around it"),
        ('version = 1\naccounts.a = "POD:\\u0007"', "accounts.a", "not 'POD:\\x07'."),
        (f'version = 1\naccounts.a = "POD:{"1" * 201}"', "accounts.a", "an id of at most 200 characters"),
        ("version = 1\naccounts.a = 1", "accounts.a", "must be an account in quotes"),
        ('version = 1\naccounts."*" = "POD:1"', "accounts.'*'", "must be a word of letters, digits, - and _"),
        ('version = 1\naccounts = {a = "POD:1", b = "PORT:1"}', "accounts.b", "is the same account as 'a'."),
        (HEAD + "callers.owner.scopes = []", "callers.owner", "must not be there: the owner's terminal"),
        (HEAD + "callers.Bob.scopes = []", "callers.Bob", "must have a name of lower case letters, digits, - and _"),
        (HEAD + 'callers."a b".scopes = []', "callers.'a b'", "must have a name of lower case letters"),
        (HEAD + f"callers.{'a' * 33}.scopes = []", f"callers.{'a' * 33}", "(at most 32 characters)"),
        (HEAD + "callers.x = 1", "callers.x", "must be a table."),
        (HEAD + 'callers.x.scopes = "read:accounts"', "callers.x.scopes", "must be a list"),
        (HEAD + 'callers.x.scopes = ["read:account"]', "callers.x.scopes[0]", "Did you mean 'read:accounts'?"),
        (HEAD + "callers.x.scopes = [1]", "callers.x.scopes[0]", "must be a scope in quotes"),
        (HEAD + 'callers.x.scopes = ["freeze", "freeze"]', "callers.x.scopes", "must name nothing twice."),
        (HEAD + 'callers.x.reads = ["a", "*"]', "callers.x.reads", 'must be ["*"] alone, or name accounts.'),
        (HEAD + 'callers.x.reads = ["a", "a"]', "callers.x.reads", "must name nothing twice."),
        (HEAD + 'callers.x.reads = ["aa"]', "callers.x.reads[0]", "is 'aa', which is not in [accounts]."),
        (HEAD + "callers.x.reads = [1]", "callers.x.reads[0]", "must be a word from [accounts]"),
        (HEAD + "callers.x.scope = []", "callers.x.scope", "is not known here. Did you mean 'scopes'?"),
        (HEAD + "callers.x.day_cent = 1", "callers.x.day_cent", "Did you mean 'day_cents'?"),
        (HEAD + "callers.x.max_cents = 1", "callers.x.max_cents", "is not known here."),
        (HEAD + "callers.x.day_cents = -1", "callers.x.day_cents", "must be at least 0."),
        (HEAD + "callers.x.day_cents = 1.0", "callers.x.day_cents", "of cents, such as 10000 for $100.00,"),
        (HEAD + 'callers.x.day_cents = "1"', "callers.x.day_cents", "without quotes and without a point."),
        (HEAD + "callers.x.day_cents = true", "callers.x.day_cents", "must be a whole number of cents"),
        (HEAD + f"callers.x.day_cents = {10**16}", "callers.x.day_cents", f"must be at most {10**15}."),
        (HEAD + "callers.x.day_count = true", "callers.x.day_count", "must be a whole number, without"),
        (HEAD + "callers.x.expires = 2027-01-01", "callers.x.expires", "with its zone and without quotes"),
        (HEAD + "callers.x.expires = 2027-01-01T00:00:00", "callers.x.expires", "with its zone and without quotes"),
        (HEAD + 'callers.x.expires = "2027-01-01T00:00:00Z"', "callers.x.expires", "such as 2027-01-01T00:00:00Z."),
        (HEAD + "callers.x.expires = 9999-12-31T23:59:59-05:00", "callers.x.expires", "must be a time that UTC can"),
        (HEAD + 'callers.x.scopes = ["move"]', "callers.x.rules", 'the scope "move" allows nothing. Add rules'),
        (rules(), "callers.x.rules", 'the scope "move" allows nothing. Add rules'),
        (rules(RULE).replace('"move"', ""), "callers.x.scopes", 'must have "move", or the rules allow nothing.'),
        (rules(RULE.replace('name = "r", ', "")), f"{AT_RULE}.name", "is missing. Give the rule a name"),
        (rules(RULE.replace('"r"', '"Re nt"')), f"{AT_RULE}.name", "must have a name of lower case letters"),
        (rules(RULE.replace('from = ["a"], ', "")), f"{AT_RULE}.from", "is missing. List the accounts"),
        (rules(RULE.replace('to = ["b"], ', "")), f"{AT_RULE}.to", "is missing. List the accounts"),
        (rules(RULE.replace(", max_cents = 100", "")), f"{AT_RULE}.max_cents", "is missing. Write the most"),
        (rules(RULE.replace('["a"]', "[]")), f"{AT_RULE}.from", "must name at least one account."),
        (rules(RULE.replace('["a"]', '["*"]')), f"{AT_RULE}.from[0]", '"*" stands for all only in `to`'),
        (rules(RULE.replace('["a"]', '"a"')), f"{AT_RULE}.from", "must be a list"),
        (rules(RULE.replace('["b"]', '["bb"]')), f"{AT_RULE}.to[0]", "is 'bb', which is not in [accounts]. Did you"),
        (rules(RULE.replace('["b"]', '["a"]')), f"{AT_RULE}.to", "must name another account than `from` does."),
        (rules(RULE + ", max_cent = 1"), f"{AT_RULE}.max_cent", "is not known here. Did you mean 'max_cents'?"),
        (rules(RULE + ', instant = "yes"'), f"{AT_RULE}.instant", "must be true or false, without quotes."),
        (rules(RULE + ", approval_minutes = 0"), f"{AT_RULE}.approval_minutes", "must be at least 1."),
        (rules(RULE + ", approve_above_cents = -1"), f"{AT_RULE}.approve_above_cents", "must be at least 0."),
        (
            rules(RULE.replace('["b"]', '["*"]')),
            f"{AT_RULE}.approve_above_cents",
            'must be 0, because the rule has to = ["*"]: the owner approves each one.',
        ),
        (rules(RULE.replace('["b"]', '["*"]') + ", approve_above_cents = 1"), f"{AT_RULE}.approve_above_cents", "be 0"),
        (
            rules(RULE.replace("100", "1000001")),
            f"{AT_RULE}.max_cents",
            "is $10,000.01, above the global limit per transfer of $10,000.00. Lower it.",
        ),
        (
            rules(RULE + ", day_cents = 2500001"),
            f"{AT_RULE}.day_cents",
            "is $25,000.01, above the global limit per day of $25,000.00. Lower it.",
        ),
        (rules(RULE + ", hour_cents = 2500001"), f"{AT_RULE}.hour_cents", "above the global limit per day"),
        (
            rules(RULE, caller="month_cents = 90\nday_cents = 80"),
            f"{AT_RULE}.max_cents",
            "is $1.00, above the caller's day_cents of $0.80. Lower it.",
        ),
        (
            rules(RULE + ", month_cents = 300", caller="month_cents = 200"),
            f"{AT_RULE}.month_cents",
            "is $3.00, above the caller's month_cents of $2.00. Lower it.",
        ),
        (
            rules(RULE + ", hour_count = 3", caller="hour_count = 2"),
            f"{AT_RULE}.hour_count",
            "is 3, above the caller's hour_count of 2. Lower it.",
        ),
        (
            rules(RULE, RULE.replace('"r"', '"s"').replace('["b"]', '["c", "b"]')),
            "callers.x.rules[1].to",
            "names a to b, as rules[0] does. Name each pair in one rule only.",
        ),
        (
            rules(*(f'name = "{n}", from = ["a"], to = ["*"], max_cents = 1, approve_above_cents = 0' for n in "rs")),
            "callers.x.rules[1].to",
            "names a to *, as rules[0] does.",
        ),
        (
            rules(RULE, RULE.replace('["b"]', '["c"]')),
            "callers.x.rules[1].name",
            "is 'r', as that of rules[0] is. Rename one of them.",
        ),
    ],
)  # fmt: skip
def test_an_error(text: str, path: str, says: str) -> None:
    [(found_path, found_text)] = problems(text)
    assert found_path == path
    assert says in found_text


def test_too_many_pairs() -> None:
    words = [f"w{number}" for number in range(40)]
    accounts = ", ".join(f'{word} = "POD:{word}"' for word in words)
    rule = f"name = 'r', from = {words[:20]}, to = {words}, max_cents = 1"
    text = f"version = 1\naccounts = {{{accounts}}}\n[callers.x]\nscopes = ['move']\nrules = [{{{rule}}}]"
    assert policy_of(text).caller("x").rule_for("POD:w1", "POD:w2")
    assert problems(text.replace(str(words[:20]), str(words))) == [
        ("callers.x.rules", "must name at most 1,000 pairs of accounts together.")
    ]


def test_messages_stay_short() -> None:
    words = [f"w{number}" for number in range(300)]
    accounts = ", ".join(f'{word} = "POD:{word}"' for word in words)
    assert problems(f"version = 1\naccounts = {{{accounts}}}\ncallers.x.reads = ['{'w' * 5000}']") == [
        ("callers.x.reads[0]", f"is '{'w' * 100}', which is not in [accounts].")
    ]


def test_all_errors_at_once_in_the_order_of_the_document() -> None:
    text = """
        version = 1
        [accounts]
        checking = "POD:1"
        savings = "2"
        [callers.a]
        scopes = ["mov", "freeze"]
        day_cents = "5"
        rules = [
          { name = "one", from = ["checkin"], to = ["savings"], max_cents = 1000001, fast = true },
          { name = "two", from = ["checking"], to = ["savings"] },
          { name = "two", from = ["checking"], to = ["savings"], max_cents = 1 },
        ]
        [callers.b]
        scopes = ["move"]
        [nevr]
    """
    assert [path for path, _ in problems(text)] == [
        "accounts.savings",
        "callers.a.scopes",
        "callers.a.scopes[0]",
        "callers.a.day_cents",
        "callers.a.rules[0].from[0]",
        "callers.a.rules[0].max_cents",
        "callers.a.rules[0].fast",
        "callers.a.rules[1].max_cents",
        "callers.a.rules[2].name",
        "callers.a.rules[2].to",
        "callers.b.rules",
        "nevr",
    ]


@given(st.text(max_size=40), st.text(alphabet='[]{}=".\n1a', max_size=40))
def test_any_text_is_a_policy_or_an_error(text: str, toml: str) -> None:
    for each in (text, toml, HEAD + toml, HEAD + f"[callers.x]\n{toml}", rules(RULE + toml), rules(toml)):
        found: tuple[Problem, ...] = (Problem("nothing", "is wrong."),)
        try:
            parse_policy(each, LIMITS)
        except PolicyError as error:
            found = error.problems
        assert found
        assert all(problem.path and problem.text.isprintable() for problem in found)


def test_a_limit_at_its_bound_is_no_error() -> None:
    policy_of(rules(RULE + ", hour_cents = 2500000, day_cents = 2500000", caller="day_cents = 2500000"))
    caller = policy_of(rules(RULE.replace("100", "0"), caller="day_cents = 0\nhour_count = 0")).caller("x")
    assert (caller.day_cents, caller.hour_count, caller.rules[0].max_cents) == (0, 0, 0)


def test_a_zone_of_its_own() -> None:
    expires = policy_of(HEAD + "callers.x.expires = 2027-01-01T00:00:00-05:00").caller("x")
    at = datetime(2027, 1, 1, 5, tzinfo=UTC)
    assert expires.is_expired(at)
    assert not expires.is_expired(at - timedelta(seconds=1))
