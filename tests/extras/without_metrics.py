"""Where prometheus-client is not installed."""

from __future__ import annotations

from pathlib import Path

import pytest

from nursecare_chat import ConfigurationError

from .visit import Visit, make_app


def test_nothing_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """C43: and everything else is as ever."""
    app = make_app(tmp_path, monkeypatch)
    Visit(app).goes_as_ever()
    assert app.extensions["nursecare_chat"].metrics.snapshot() == {}
    assert app.test_client().get("/api/chat/metrics").status_code == 401


@pytest.mark.parametrize("value", ["on", "true"])
def test_metrics_that_are_wanted_stop_the_start(value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """C5: with the key, its value, what is accepted and what to install."""
    with pytest.raises(ConfigurationError) as caught:
        make_app(tmp_path, monkeypatch, CHAT_METRICS=value)
    assert caught.value.message == (
        f"CHAT_METRICS is '{value}'; accepted: off; with prometheus-client"
        " (pip install 'nursecare-chat[metrics]') also on."
    )
