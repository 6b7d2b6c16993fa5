import signal
import threading

import pytest

from fastserve_runtime.cli.stop_requests import stopped_by_ctrl_c
from interrupts import press_ctrl_c


def test_ctrl_c_is_told_once_and_raised_the_second_time():
    before = signal.getsignal(signal.SIGINT)
    with stopped_by_ctrl_c() as is_stopped:
        assert not is_stopped()
        press_ctrl_c()
        assert is_stopped()
        with pytest.raises(KeyboardInterrupt):
            press_ctrl_c()
    assert signal.getsignal(signal.SIGINT) is before


def test_other_threads_get_no_signals():
    seen = []

    def work():
        with stopped_by_ctrl_c() as is_stopped:
            seen.append(is_stopped())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [False]
