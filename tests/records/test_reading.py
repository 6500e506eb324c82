"""Reads of several threads share one connection, which other threads close."""

import threading
from pathlib import Path

from pysequence_api.records import open_records
from pysequence_api.safeguards.follow_up import LONG_AGO


def test_a_connection_is_not_closed_under_a_reader(tmp_path: Path) -> None:
    for number in range(8):
        records = open_records(tmp_path / str(number))
        stop = threading.Event()
        failures: list[BaseException] = []

        def read(records=records, stop=stop, failures=failures) -> None:  # type: ignore[no-untyped-def]
            while not stop.is_set():
                try:
                    records.read(lambda reader: (reader.attempts_since(LONG_AGO), reader.freeze(), reader.names()))
                except Exception as error:  # noqa: BLE001 - told to the test
                    failures.append(error)

        threads = [threading.Thread(target=read) for _ in range(4)]
        for thread in threads:
            thread.start()
        for _ in range(3):
            records.write(lambda writer: writer.remember_names([("id", "name")]))
            records.close_reading()
        stop.set()
        for thread in threads:
            thread.join()
        records.close()
        assert failures == []
