"""SECURITY.md names files and tests; they are there."""

from __future__ import annotations

import re

import pytest

from ..support.servers import ROOT

DOCUMENT = (ROOT / "SECURITY.md").read_text()
WORDS = re.findall(r"`([^`\s]+)`", re.sub(r"```.*?```", "", DOCUMENT, flags=re.S))
TESTS = sorted({word for word in WORDS if "::" in word})
FILES = sorted({word for word in WORDS if re.fullmatch(r"[\w./-]+\.(py|js|cfg|ini|md|conf)|script/\w+", word)})
THREATS = re.findall(r"^\| (\d+) \| (.+?) \| (.+?) \| (.+?) \| (.+?) \|$", DOCUMENT, re.M)


@pytest.mark.parametrize("name", TESTS)
def test_tests(name: str) -> None:
    """A test that is renamed is renamed here."""
    file, test = name.split("::")
    assert re.search(rf"^ *def {test}\(", (ROOT / "tests" / file).read_text(), re.M)


@pytest.mark.parametrize("name", FILES)
def test_files(name: str) -> None:
    assert any((folder / name).is_file() for folder in (ROOT, ROOT / "nursecare_chat"))


def test_every_threat_has_its_control_and_its_test() -> None:
    """In their order, each with a file of ours and a test."""
    assert [int(number) for number, *_ in THREATS] == list(range(1, len(THREATS) + 1))
    assert len(THREATS) > 20
    for _, threat, control, shown, _ in THREATS:
        assert any(f"`{file}`" in control for file in FILES), threat
        assert any(f"`{test}`" in shown for test in TESTS), threat
