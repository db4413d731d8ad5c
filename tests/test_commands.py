"""Commands that are forked for tests are as those that a shell starts."""

from commands import run


def test_a_command_has_the_environment_of_who_starts_it(monkeypatch):
    run("--version")  # what commands are forked from is there, and has the environment of now
    monkeypatch.setenv("AVLEARN_PLUGINS", "no_such_plugin")
    assert "no_such_plugin cannot be imported" in run("models", "c3d").stderr
    monkeypatch.delenv("AVLEARN_PLUGINS")
    assert run("models", "c3d").returncode == 0
