"""An operator's session on two pseudo-terminals, from the first look to the last."""

import signal

from tests.cli.processes import Environment, seated


def test_a_session_with_the_audit_trail_in_a_second_window(sandbox: Environment) -> None:
    with seated(sandbox, "pods") as seat:
        assert seat.end() == 0
    assert "Groceries" in seat.text
    assert "$516,751.57" in seat.text

    with seated(sandbox, "audit", "tail", "-f", columns=120) as trail:
        with seated(sandbox, "transfer", "Groceries", "Rent", "$25") as seat:
            seat.wait_for("Send $25.00? [y/N]")
            assert "\x1b[" in seat.raw
            assert "twenty-five dollars" in seat.text
            assert "after this $24,975.00" in seat.text
            assert "balance $876.43, after this $851.43" in seat.text
            seat.type("y\n")
            assert seat.end() == 0, seat.text
        assert "Transferred $25.00 from Groceries to Rent." in seat.text
        trail.wait_for("transfer_completed")
        assert "Groceries -> Rent" in trail.text

        with seated(sandbox, "transfer", "Groceries", "Rent", "$250") as seat:
            seat.wait_for("Send $250.00? [y/N]")
            seat.type("\n")
            assert seat.end() == 1
        assert "Nothing was sent." in seat.text

        with seated(sandbox, "transfer", "Emergency Fund", "Rent", "$15,000.00", "--yes") as seat:
            assert seat.end() == 3
        assert "exceeds per-transfer limit" in seat.text
        trail.wait_for("transfer_rejected")
        assert "$250.00" not in trail.text, "what was not confirmed leaves no trace"
        trail.process.terminate()  # Ctrl-C has a test of its own
        assert trail.end() == -signal.SIGTERM
    assert "Traceback" not in trail.text

    with seated(sandbox, "limits", "show") as seat:
        assert seat.end() == 0
    assert "$24,975.00" in seat.text
    assert "rejected" in seat.text
    assert "completed" in seat.text
