"""A session on two pseudo-terminals: one makes transfers, the other follows the audit trail."""

import signal

from tests.processes import Environment, start_on_terminal


def test_a_session_with_the_audit_trail_in_a_second_window(sandbox: Environment) -> None:
    with start_on_terminal(sandbox, "pods") as terminal:
        assert terminal.wait_for_exit() == 0
    assert "Groceries" in terminal.text
    assert "$516,751.57" in terminal.text

    with start_on_terminal(sandbox, "audit", "tail", "-f", columns=120) as trail:
        with start_on_terminal(sandbox, "transfer", "Groceries", "Rent", "$25") as terminal:
            terminal.wait_for("[y/N]")
            assert "\x1b[" in terminal.raw
            assert "twenty-five dollars" in terminal.text
            assert "$24,975.00" in terminal.text
            assert "$851.43" in terminal.text
            terminal.type("y\n")
            assert terminal.wait_for_exit() == 0, terminal.text
        assert "Transferred $25.00 from Groceries to Rent." in terminal.text
        trail.wait_for("transfer_completed")
        assert "Groceries -> Rent" in trail.text

        with start_on_terminal(sandbox, "transfer", "Groceries", "Rent", "$250") as terminal:
            terminal.wait_for("[y/N]")
            terminal.type("\n")
            assert terminal.wait_for_exit() == 1

        with start_on_terminal(sandbox, "transfer", "Emergency Fund", "Rent", "$15,000.00", "--yes") as terminal:
            assert terminal.wait_for_exit() == 3
        trail.wait_for("transfer_rejected")
        assert "$250.00" not in trail.text, "a transfer that was not confirmed is not recorded"
        trail.process.terminate()  # Ctrl-C has a test of its own
        assert trail.wait_for_exit() == -signal.SIGTERM
    assert "Traceback" not in trail.text

    with start_on_terminal(sandbox, "limits", "show") as terminal:
        assert terminal.wait_for_exit() == 0
    assert "$24,975.00" in terminal.text
    assert "rejected" in terminal.text
    assert "accepted" in terminal.text
