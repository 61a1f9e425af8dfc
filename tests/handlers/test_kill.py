"""Kill: a short run of tests/soak/kill_mailbox.py, and that it would see what it looks for."""

from pathlib import Path

from tests.soak.kill_mailbox import Record, examine, make_message, run


async def test_nothing_is_lost(tmp_path: Path) -> None:
    record = await run(tmp_path, kills=4, clients=4)
    assert record.problems() == []
    assert record.kills == 4
    assert len(record.answered) > 0
    assert record.answered <= set(record.found)


def test_the_examination_sees_problems(tmp_path: Path) -> None:
    for name in ("new", "tmp"):
        (tmp_path / name).mkdir()
    messages = {
        "whole": make_message("1"),
        "again": make_message("1"),
        "cut": make_message("2")[:-1] + b"\n\r\n",
        "strange": make_message("4"),
    }
    for name, content in messages.items():
        (tmp_path / "new" / name).write_bytes(b"Received: x\r\n" + content)
    (tmp_path / "tmp" / "left").touch()
    record = Record(sent={"1", "2", "3"}, answered={"1", "3"})
    examine(tmp_path, record)
    assert record.problems() == ["lost: 3", "twice: 1", "never sent: 4", "damaged: cut"]
    assert record.left_in_tmp == 1
