from stepflow.demo.figures import amount, pace, plural, subject


def test_large_amounts_are_shortened() -> None:
    assert [amount(number) for number in (0, 9_870, 41_200, 1_106_000)] == ["0", "9,870", "41 k", "1.1 M"]


def test_one_is_singular() -> None:
    assert [plural(1, "file"), plural(2_224, "file"), plural(2, "process")] == ["1 file", "2,224 files", "2 processes"]


def test_the_first_line_reads_like_a_sentence() -> None:
    assert subject("3.11.7", 23) == "Python 3.11.7 and 23 packages"
    assert pace(2_224, 6.2, 2) == "6.2 s, 359 files/s, 2 processes"
