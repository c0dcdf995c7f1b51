from __future__ import annotations

import secrets
from collections.abc import Iterator
from urllib.request import Request, urlopen

import pytest
from hypothesis import HealthCheck, settings
from pyarrow import fs

# A busy machine is no failure.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


class Bucket:
    """A bucket on an S3 server; ``uri`` is one in the form that Ray documents, the query last."""

    def __init__(self, server: str) -> None:
        self.name = f"lab-{secrets.token_hex(4)}"
        self.server = server
        urlopen(Request(f"http://{server}/{self.name}", method="PUT")).close()
        self._files, _ = fs.FileSystem.from_uri(self.uri(""))

    def uri(self, path: str, query: str = "endpoint_override=http://{server}&smart_defaults=standard") -> str:
        return f"s3://{self.name}{path}?{query.format(server=self.server)}"

    def put(self, path: str) -> None:
        """An object of somebody else's."""
        with self._files.open_output_stream(f"{self.name}/{path}") as file:
            file.write(b"somebody's")

    def objects(self) -> list[str]:
        """The names of all objects; not the empty ones by which S3 clients mark folders."""
        found = self._files.get_file_info(fs.FileSelector(self.name, recursive=True))
        return sorted(i.path.removeprefix(f"{self.name}/") for i in found if i.type == fs.FileType.File)


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """Host and port of an S3 server on loopback; what is started from here on has credentials for it."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "test")
        yield ":".join(map(str, server.get_host_and_port()))
    server.stop()


@pytest.fixture
def bucket(s3_server: str) -> Bucket:
    return Bucket(s3_server)
