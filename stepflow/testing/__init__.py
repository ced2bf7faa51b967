"""For users' own tests and for writers of backends.

`ScriptedEngine` runs flows whose components are played by scripts, on a clock that turns by itself; the pytest
fixtures `stepflow_engine` and `stepflow_async_engine` give one. `stepflow.testing.suites` says what every store and
every plugin must do. `stepflow.testing.flowtests` runs the test cases that flows carry.
"""
