"""All commands, in the order in which the help lists them."""

from typing import NamedTuple


class Command(NamedTuple):
    """A command, or a group of commands.

    Attributes:
        path: its name, after the names of its groups.
        help: what the list of commands says; the first line of the function's docstring.
        target: ``module:function`` in `pysequence_api.cli`, imported when the command runs; empty for a group that
            does nothing without one of its commands.
    """

    path: str
    help: str
    target: str = ""


COMMANDS = (
    Command("init", "Write your settings to a file of your own.", "init:init"),
    Command("pods", "List pods, their balances and the total.", "pods:list_pods"),
    Command("pods show", "Show one pod.", "pods:show"),
    Command("accounts", "List pods, ports and external accounts.", "accounts:list_accounts"),
    Command("activity", "List transfers, newest first.", "activity:list_activity"),
    Command("activity summary", "Show this month in numbers, over all organizations.", "activity:summary"),
    Command("transfer", "Move money, after a confirmation.", "transfer:transfer"),
    Command("transfers", "Look up one transfer."),
    Command("transfers show", "Show one transfer and its payments.", "transfers:show"),
    Command("transfers status", "Show the status of a transfer attempt.", "attempts:status"),
    Command("limits", "Show the limits, and settle unknown outcomes."),
    Command("limits show", "Show the limits and what is left today.", "limits:show"),
    Command("limits reconcile", "Look up transfers with an unknown outcome.", "reconcile:reconcile"),
    Command("limits resolve", "Record the outcome of transfers yourself.", "resolve:resolve"),
    Command("audit", "Read and verify the audit trail."),
    Command("audit tail", "Show the end of the audit trail.", "audit:tail"),
    Command("audit verify", "Verify the hash chain of the audit trail.", "verify:verify"),
    Command("audit export", "Export transfers as CSV, or the audit trail.", "export:export"),
    Command("records", "Back up, restore and check the records."),
    Command("records backup", "Back up the records into one file.", "records:backup"),
    Command("records restore", "Restore the records.", "records:restore"),
    Command("records check", "Check the records.", "records:check"),
    Command("callers", "Give each program a key of its own."),
    Command("callers add", "Add a caller, and print its key.", "callers:add"),
    Command("callers list", "List the callers, their keys, and when each key was last used.", "callers:list_callers"),
    Command("callers rotate", "Give a caller a new key, and print it.", "callers:rotate"),
    Command("callers revoke", "End the keys of a caller.", "callers:revoke"),
    Command("callers remove", "Remove a caller for ever.", "callers:remove"),
    Command("policy", "Say what each caller may see and move."),
    Command("policy check", "Check a policy, and store nothing.", "policy:check"),
    Command("policy apply", "Apply a policy, after a confirmation.", "policy:apply"),
    Command("policy show", "Print the policy in force, or another version.", "policy:show"),
    Command("policy history", "List the versions of the policy.", "policy:history"),
    Command("policy explain", "Say what the policy decides about a transfer, and why.", "explain:explain"),
    Command("policy replay", "Run recorded transfers through another policy.", "policy:replay"),
    Command("approvals", "Decide about transfers that wait for you."),
    Command("approvals list", "List the transfers that wait for you.", "approvals:list_approvals"),
    Command("approvals show", "Show one transfer that waits for you.", "approvals:show"),
    Command("approvals approve", "Approve a transfer, and send it.", "approvals:approve"),
    Command("approvals deny", "Deny a transfer.", "approvals:deny"),
    Command("owner", "Set up your authenticator and the owner's page."),
    Command("owner setup", "Set up your authenticator, which approves transfers.", "owner:setup"),
    Command("owner password", "Set the password of the owner's page.", "owner:password"),
    Command("freeze", "Freeze all transfers, or those of one caller.", "freeze:freeze"),
    Command("unfreeze", "Unfreeze transfers, or those of one caller.", "freeze:unfreeze"),
    Command("notify", "Send notifications."),
    Command("notify test", "Send a test message to each of SEQUENCE_NOTIFY_URLS.", "notify:test"),
    Command("auth", "Sign in to GetSequence."),
    Command("auth login", "Sign in and store the tokens.", "auth:login"),
    Command("auth status", "Show the sign-in status.", "auth:status"),
    Command("auth logout", "Remove the stored tokens.", "auth:logout"),
    Command("serve", "Run the HTTP server.", "serve:serve"),
    Command("mcp", "Connect an MCP client that starts programs to a running server.", "mcp:mcp"),
    Command("health", "Check whether a server is healthy.", "health:health"),
    Command("open", "Open Sequence's own page in a browser, and print its address.", "open:open_page"),
    Command("doctor", "Find problems and say how to fix them.", "doctor:doctor"),
    Command("openapi", "Print the OpenAPI schema of the HTTP API.", "openapi:openapi"),
    Command("key", "Create API keys."),
    Command("key new", "Print a new API key.", "key:new"),
    Command("sandbox", "Run a simulated Sequence without real money."),
    Command("sandbox serve", "Run the simulated Sequence over HTTP.", "sandbox:serve"),
)
