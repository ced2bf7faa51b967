from stepflow_grpc.pools.lines import KEPT, LONGEST, Lines


def test_bytes_become_lines_wherever_they_are_cut() -> None:
    text = "first\r\nzweite Zeile, größer\n\nlast".encode()

    for cut in range(len(text)):
        lines = Lines()
        assert [*lines.feed(text[:cut]), *lines.feed(text[cut:]), *lines.end()] == [
            "first",
            "zweite Zeile, größer",
            "",
            "last",
        ]


def test_the_last_lines_that_say_something_are_kept() -> None:
    lines = Lines()
    lines.feed(b"".join(b"%d\n\n" % n for n in range(KEPT + 5)))

    assert lines.last == tuple(str(n) for n in range(5, KEPT + 5))


def test_a_line_without_end_is_passed_on_in_pieces_and_never_held_whole() -> None:
    lines = Lines()

    pieces = [piece for _ in range(10) for piece in lines.feed(b"x" * LONGEST)]

    assert [len(piece) for piece in pieces] == [LONGEST] * 10
    assert lines.end() == []


def test_bytes_that_are_no_text_are_shown_all_the_same() -> None:
    assert Lines().feed(b"\xff\xfe!\n") == ["\ufffd\ufffd!"]
