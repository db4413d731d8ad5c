"""A store that speaks S3's protocol, for tests of what is read from s3://."""

import uuid
from pathlib import Path

import pytest


class Bucket:
    """A bucket at ``address``; ``fill`` copies a folder into it."""

    def __init__(self, endpoint: str):
        from s3fs import S3FileSystem

        self.name = f"b-{uuid.uuid4().hex}"
        self.address = f"s3://{self.name}"
        self.files = S3FileSystem(key="test", secret="test", endpoint_url=endpoint)
        self.files.mkdir(self.name)

    def fill(self, folder: Path, name: str) -> str:
        """The address of what a folder holds."""
        self.files.put(str(folder), f"{self.name}/{name}", recursive=True)
        return f"{self.address}/{name}"


@pytest.fixture(scope="session")
def s3_server():
    for module in ("s3fs", "moto", "flask_cors"):
        pytest.importorskip(module, reason="needs an S3 server: pip install s3fs 'moto[s3]' flask flask-cors")
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    yield "http://{}:{}".format(*server.get_host_and_port())
    server.stop()


@pytest.fixture
def bucket(s3_server, copies, monkeypatch):
    """An empty `Bucket`, which commands reach by the environment alone, as a user's."""
    from s3fs import S3FileSystem

    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server)
    S3FileSystem.clear_instance_cache()
    yield Bucket(s3_server)
    S3FileSystem.clear_instance_cache()
