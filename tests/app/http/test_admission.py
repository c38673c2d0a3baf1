import pytest

from app.http.admission import Admission, Uploads
from app.observability.metrics import Telemetry
from app.problems import Problem


def num_refused(telemetry: Telemetry) -> float | None:
    return telemetry.registry.get_sample_value("ctr_shed_total", {"reason": "overloaded"})


def enters(admission: Admission, num_bytes: int) -> bool:
    try:
        admission.enter(num_bytes)
    except Problem as problem:
        assert (problem.code, problem.retry_after_s) == ("overloaded", 1)
        return False
    return True


def test_requests_and_bytes_are_bounded_but_one_request_is_let_in_whatever_its_size() -> None:
    telemetry = Telemetry()
    admission = Admission(3, 100, telemetry)
    assert [enters(admission, n) for n in (1_000, 1)] == [True, False]
    admission.leave(1_000)
    assert [enters(admission, n) for n in (40, 40, 40, 20, 0)] == [True, True, False, True, False]
    for num_bytes in (40, 40, 20):
        admission.leave(num_bytes)
    assert enters(admission, 101)
    assert num_refused(telemetry) == 3


def test_an_upload_that_began_first_is_given_up_for_those_that_come_and_a_single_one_never() -> None:
    telemetry = Telemetry()
    uploads = Uploads(100, telemetry)
    first = uploads.begin()
    assert uploads.add(first, b"a" * 150) == 150
    second = uploads.begin()
    assert uploads.add(second, b"b" * 60) == 60
    assert uploads.add(second, b"c" * 30) == 90
    with pytest.raises(Problem) as caught:
        uploads.add(first, b"a")
    assert caught.value.code == "overloaded"
    uploads.end(first)
    assert uploads.body(second) == b"b" * 60 + b"c" * 30
    uploads.end(second)
    third, fourth = uploads.begin(), uploads.begin()
    assert (uploads.add(third, b"d" * 50), uploads.add(fourth, b"e" * 50)) == (50, 50)  # nothing was left behind
    assert num_refused(telemetry) == 1
