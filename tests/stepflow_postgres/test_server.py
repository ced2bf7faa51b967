"""The servers that the other tests use."""

from postgres_server import PostgresServer, execute


def test_a_server_keeps_its_data_over_a_crash(own_postgres: PostgresServer):
    own_postgres.execute("CREATE TABLE kept (n integer)")
    own_postgres.execute("INSERT INTO kept VALUES (7)")
    before = own_postgres.pid

    own_postgres.restart("immediate")

    assert own_postgres.execute("SELECT n FROM kept") == [(7,)]
    assert own_postgres.pid != before


def test_a_server_that_was_closed_leaves_nothing(own_postgres: PostgresServer):
    own_postgres.close()

    assert own_postgres.pid is None
    assert not own_postgres.folder.exists()


def test_a_test_gets_a_schema_that_nothing_is_in(postgres_server_url: str, postgres_url: str):
    schema = postgres_url.rpartition("schema=")[2]

    found = execute(postgres_server_url, f"SELECT count(*) FROM pg_namespace WHERE nspname = '{schema}'")

    assert found == [(0,)]
