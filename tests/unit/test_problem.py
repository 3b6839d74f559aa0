"""The one shape of errors: what is echoed is bounded, and what a stranger sends is read without being trusted."""

from hypothesis import given
from hypothesis import strategies as st

from keeper.state.problem import ECHO, Problem, echo

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(JSON | st.binary(max_size=400))
def test_what_is_echoed_is_short_and_plain(value: object) -> None:
    told = echo(value)
    assert told is None or isinstance(told, bool | int | float | str)
    assert len(str(told)) <= ECHO


def test_long_values_are_cut_and_say_so() -> None:
    assert echo("x" * 1_000_000) == "x" * (ECHO - 1) + "…"
    assert echo(b"\1" * 32) == "0x" + "01" * 32
    assert echo(2**256 - 1) == str(2**256 - 1)
    assert echo(10**5_000) == "an integer of 16610 bits"


@given(JSON)
def test_any_answer_is_read_as_a_problem(data: object) -> None:
    problem = Problem.from_json(data)
    assert Problem.from_json(problem.to_json()) == problem


def test_a_problem_comes_back_as_it_was() -> None:
    problem = Problem("deadline", "too late", "permit.deadline", 900, 300, "seconds", {"free": "1"})
    assert Problem.from_json(problem.to_json()) == problem
