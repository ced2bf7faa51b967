"""What a URL means, and that no message shows what it keeps secret."""

import traceback

import pytest
from psycopg.conninfo import conninfo_to_dict

from stepflow.errors import StoreError
from stepflow_postgres.location import read_location

SECRET = "hidden"


def test_a_url_without_parameters_takes_the_defaults():
    location = read_location("postgresql://ann@db.example:5433/work")

    conninfo = conninfo_to_dict(location.conninfo)
    assert (conninfo["user"], conninfo["host"], conninfo["port"], conninfo["dbname"]) == (
        "ann",
        "db.example",
        "5433",
        "work",
    )
    assert (location.schema, location.is_prepared, location.auto_migrate) == ("stepflow", True, True)
    assert location.shown == "postgresql://ann@db.example:5433/work"


def test_our_parameters_are_read_and_the_others_are_libpqs():
    url = "postgres://db/work?schema=team_1&sslmode=require&prepare=0&pool_size=3&auto_migrate=no"

    location = read_location(url)

    conninfo = conninfo_to_dict(location.conninfo)
    assert (location.schema, location.is_prepared, location.auto_migrate) == ("team_1", False, False)
    assert location.pool_size == 3
    assert conninfo["sslmode"] == "require"
    assert not {"schema", "prepare", "pool_size", "auto_migrate"} & set(conninfo)
    assert location.shown == "postgresql://db/work?schema=team_1"


def test_a_peer_that_is_gone_is_noticed_unless_the_url_says_otherwise():
    usual = conninfo_to_dict(read_location("postgresql://db/work").conninfo)
    asked = conninfo_to_dict(read_location("postgresql://db/work?keepalives_idle=60").conninfo)

    assert (usual["keepalives_idle"], usual["tcp_user_timeout"]) == ("5", "10000")
    assert (asked["keepalives_idle"], asked["tcp_user_timeout"]) == ("60", "10000")


def test_what_is_percent_encoded_reaches_libpq_as_it_was():
    url = "postgresql://ann:p%40s%2Fs%20%25@/work?host=%2Fvar%2Frun&options=-c%20geqo%3Doff&schema=x"

    conninfo = conninfo_to_dict(read_location(url).conninfo)

    assert (conninfo["password"], conninfo["host"], conninfo["options"]) == ("p@s/s %", "/var/run", "-c geqo=off")


def test_listening_goes_to_the_same_server_unless_it_is_said_where():
    plain = read_location("postgresql://pool:6432/work")
    aside = read_location("postgresql://pool:6432/work?listen_host=db&listen_port=5432")
    other = read_location("postgresql://pool:6432/work", listen_url="postgresql://other/work")

    where = [conninfo_to_dict(location.listen_conninfo) for location in (plain, aside, other)]
    assert [(one["host"], one.get("port")) for one in where] == [("pool", "6432"), ("db", "5432"), ("other", None)]
    assert [one["dbname"] for one in where] == ["work"] * 3


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://ann:{SECRET}@db:port/work",
        f"postgresql://ann:p@{SECRET}@db/work",
        f"postgresql://ann:{SECRET}%zz@db/work",
        f"postgresql://ann:1/{SECRET}@db/work",
        f"postgresql://ann:1?{SECRET}@db/work",
        f"postgresql://ann:{SECRET}@db/work?nonsense=1",
        f"postgresql://ann:{SECRET}@[db/work",
        f"postgresql://ann:{SECRET}@db/work?pool_size=0",
        f"postgresql://ann:{SECRET}@db/work?pool_size=many",
        f"postgresql://ann:{SECRET}@db/work?prepare=perhaps",
        f"postgresql://ann:{SECRET}@db/work?schema=pg_mine",
        f"postgresql://ann:{SECRET}@db/work?schema=a%22b",
        f"postgresql://ann:{SECRET}@db/work?schema={'x' * 64}",
        f"mysql://ann:{SECRET}@db/work",
    ],
)
def test_a_url_that_can_not_be_read_is_refused_without_being_shown(url: str):
    with pytest.raises(StoreError) as refused:
        read_location(url)

    assert SECRET not in "".join(traceback.format_exception(refused.value))


def test_a_location_is_shown_without_its_password():
    for url in (
        f"postgresql://ann:{SECRET}@db/work",
        f"postgresql://ann@db/work?password={SECRET}&sslpassword={SECRET}",
    ):
        location = read_location(url)

        assert SECRET not in location.shown
        assert SECRET in location.conninfo
