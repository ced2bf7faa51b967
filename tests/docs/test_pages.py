"""The reader of pages notices what would otherwise be told wrongly."""

import textwrap

import pytest


@pytest.fixture
def run(tmp_path, read_page, page):
    def run(text):
        file = tmp_path / "page.md"
        file.write_text(textwrap.dedent(text).replace("'''", "```"), encoding="utf-8")
        for block in read_page(file, "page.md"):
            page.run(block)

    return run


def test_an_output_that_differs_is_a_failure(run):
    with pytest.raises(AssertionError, match="page.md:2: it printed\n +7"):
        run("""
            '''python
            print(7)
            '''

            '''text
            8
            '''
        """)


def test_an_ellipsis_stands_for_any_text(run):
    run("""
        '''python
        print("run 17 is done")
        '''

        '''text
        run … is done
        '''
    """)


def test_blocks_share_names_and_files(run):
    run("""
        '''python
        # file: seven.py
        seven = 7
        '''

        '''python
        from seven import seven
        '''

        '''python
        assert seven == 7
        '''
    """)


def test_a_command_that_fails_is_a_failure_unless_the_page_says_so(run):
    run("<!-- exit: 3 -->\n'''sh\nexit 3\n'''")

    with pytest.raises(AssertionError, match="it ended with 3"):
        run("'''sh\nexit 3\n'''")


@pytest.mark.parametrize("language", ["text", "toml", ""])
def test_a_block_that_nothing_runs_needs_a_reason(run, language):
    run(f"<!-- not run: a drawing -->\n'''{language}\na → b\n'''")

    with pytest.raises(pytest.fail.Exception, match="not run: reason"):
        run(f"'''{language}\na → b\n'''")


def test_a_flow_is_read_and_its_cases_are_run(run):
    run("'''yaml\noutput: {$input: n}\n'''")

    with pytest.raises(pytest.fail.Exception, match="no wildcards"):
        run("'''yaml\noutput: {$input: '$[*]'}\n'''")
    with pytest.raises(AssertionError, match="result: 8"):
        run("""
            '''yaml
            output: {$input: n}
            test: {cases: [{name: seven, input: {n: 8}, output: {outcome: success, result: 7}}]}
            '''
        """)


def test_a_configuration_is_read(run):
    with pytest.raises(Exception, match='no plugin type "pyhton"'):
        run("'''yaml\nplugins: {a: {type: pyhton}}\nroutes: {}\n'''")
