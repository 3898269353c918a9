"""Worker processes: results in order, whatever becomes of the workers, and nobody left behind."""

import itertools
import os
import pathlib
import pickle
import resource
import signal
import subprocess
import sys
import textwrap
import threading
import time

import pytest
from worker_functions import NotLoadable

from keras_music.corpora import workers as module
from keras_music.corpora.workers import Lost, Workers, num_cores

TESTS = str(pathlib.Path(__file__).parent)


def work(function, items, **settings):
    with Workers(f"worker_functions:{function}", **settings) as workers:
        return list(workers.map(items))


def is_running(process_id):
    """A zombie, which nobody has buried yet, does not run."""
    try:
        stat = pathlib.Path(f"/proc/{process_id}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def wait_until(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)
    return condition()


class TestResults:
    @pytest.mark.parametrize("num_workers", [1, 3])
    def test_they_come_in_the_order_of_the_items(self, num_workers):
        assert work("double", range(1000), num_workers=num_workers) == list(range(0, 2000, 2))

    def test_no_items_no_workers(self):
        with Workers("no.such.module:function") as workers:
            assert list(workers.map([])) == []

    def test_a_context_is_the_first_argument(self):
        results = work("with_context", "abc", num_workers=2, context={"key": [1]})
        assert [result[:2] for result in results] == [({"key": [1]}, item) for item in "abc"]
        assert len({result[2] for result in results} - {os.getpid()}) in (1, 2)

    def test_a_few_slow_items_are_enough_work_for_all(self):
        with Workers("worker_functions:process_id", num_workers=3) as workers:
            assert len(set(workers.map([0.5] * 6))) == 3

    def test_one_after_the_other(self):
        with Workers("worker_functions:double", num_workers=1) as workers:
            assert list(workers.map([1, 2])) + list(workers.map([3])) == [2, 4, 6]

    def test_a_result_may_be_huge(self):
        results = work("big", [50_000_000, 1, 50_000_000], num_workers=2, seconds_per_item=30)
        assert [len(result) for result in results] == [50_000_000, 1, 50_000_000]

    def test_items_may_be_huge(self):
        items = [b"x" * 30_000_000, b"y"] * 3
        results = work("double", items, num_workers=2, seconds_per_item=30)
        assert [len(result) for result in results] == [60_000_000, 2] * 3

    def test_workers_have_no_tensorflow_and_no_script(self):
        (names,) = work("modules", [0], num_workers=1)
        assert not {"tensorflow", "keras", "matplotlib", "test_workers"} & set(names)


class TestMemory:
    def test_items_are_taken_when_there_is_room(self):
        taken = itertools.count()
        with Workers("worker_functions:double", num_workers=2) as workers:
            results = workers.map(taken)
            assert [next(results) for _ in range(5)] == [0, 2, 4, 6, 8]
            assert next(taken) <= 2 * module.ITEMS_AHEAD + 10

    def test_large_items_are_few(self, monkeypatch):
        monkeypatch.setattr(module, "BYTES_AHEAD", 10_000_000)
        taken = []
        items = (taken.append(i) or b"x" * 1_000_000 for i in range(100))
        with Workers("worker_functions:double", num_workers=2) as workers:
            for index, _ in enumerate(workers.map(items)):
                assert len(taken) - index <= 12
        assert len(taken) == 100

    def test_large_results_wait_in_the_workers(self, monkeypatch):
        """The caller is slower than the workers: what it has not asked for must not pile up."""
        monkeypatch.setattr(module, "BYTES_AHEAD", 10_000_000)
        held = []
        with Workers("worker_functions:big", num_workers=3) as workers:
            for result in workers.map([1_000_000] * 100):
                time.sleep(0.005)
                held.append(workers._held_bytes)
                assert len(result) == 1_000_000
        assert max(held) <= 10_000_000 + 3 * 1_000_000


class TestMishaps:
    EXPECTED = {
        "exit 3": Lost("the process that worked on it died (exit code 3)"),
        "exit 0": Lost("the process that worked on it died (exit code 0)"),
        "wrong address": Lost("the process that worked on it died (SIGSEGV)"),
        "abort": Lost("the process that worked on it died (SIGABRT)"),
        "sys.exit": Lost("SystemExit: 2"),
        "Ctrl-C": "not heard",
        "KeyError": Lost("KeyError: 'key'"),
        "mute": Lost("Mute"),
        "too much memory": Lost("MemoryError: "),
        "cannot be sent": Lost("TypeError: cannot pickle '_thread.lock' object"),
        "cannot be loaded": Lost(
            "ValueError: invalid literal for int() with base 10: 'no number'",
        ),
        "waits in Python": Lost("it took longer than 0.5 s"),
        "loops in Python": Lost("it took longer than 0.5 s"),
        "waits in C with the lock": Lost("it took longer than 0.5 s"),
        "noise": 5,
        "reads the terminal": "",
    }

    def test_each_costs_one_item(self, capfd):
        items = [item for mishap in self.EXPECTED for item in (f"before {mishap}", mishap)]
        expected = [self.EXPECTED.get(item, item) for item in items]
        assert work("have", items, num_workers=2, seconds_per_item=0.5) == expected
        assert capfd.readouterr() == ("", "")

    def test_a_worker_that_closes_its_pipe_is_lost(self):
        lost, result = work("have", ["closes all files", "a"], num_workers=1)
        assert lost.reason.startswith("the process that worked on it died (")
        assert result == "a"

    def test_who_was_killed_by_chance_gets_a_second_try(self, tmp_path):
        paths = [str(tmp_path / name) for name in "ab"]
        assert work("die_once", paths, num_workers=1) == ["done at the second try"] * 2

    def test_the_parents_deadline_is_there_if_the_watchdog_is_not(self, monkeypatch):
        """The worker was stopped, so that nothing in it can run; another one does the item."""
        monkeypatch.setattr(module._Worker, "is_late", lambda self: late(self))

        def late(worker):
            worker._was_late = time.monotonic() > worker._deadline - 11
            return worker._was_late

        with Workers("worker_functions:process_id", num_workers=1, seconds_per_item=1) as workers:
            results = workers.map([0.0, 0.5, 0.0])
            first = next(results)
            os.kill(first, signal.SIGSTOP)
            second = next(results)
            assert second not in (first, os.getpid())
            assert next(results) == second

    def test_a_moment_of_ctrl_z_costs_no_item(self):
        """The clock went on while the worker was stopped, and a healthy file was dropped."""
        with Workers("worker_functions:process_id", num_workers=1, seconds_per_item=0.5) as workers:
            results = workers.map([0.0, 0.3])
            first = next(results)
            time.sleep(0.1)
            os.kill(first, signal.SIGSTOP)
            time.sleep(0.6)
            os.kill(first, signal.SIGCONT)
            assert isinstance(next(results), int)

    def test_an_item_that_computes_for_ever_is_tried_once(self, tmp_path):
        """Only who waited may have been kept waiting; a second try of two seconds was in vain."""
        started = time.monotonic()
        lost, result = work("compute_for_ever", [str(tmp_path / "a"), ""], num_workers=1)
        assert lost == Lost("it took longer than 2 s") and result == "nothing"
        assert (tmp_path / "a").read_text() == "tried"
        assert time.monotonic() - started > 1.5

    def test_an_item_that_cannot_be_sent_is_an_error(self):
        with pytest.raises(TypeError, match="cannot pickle"):
            work("double", [threading.Lock()], num_workers=1)

    def test_an_error_in_the_items_is_the_callers(self):
        def items():
            yield 1
            raise KeyError("mine")

        with pytest.raises(KeyError, match="mine"):
            work("double", items(), num_workers=1)


class TestStarting:
    @pytest.mark.parametrize(
        ("function", "sentence"),
        [
            ("no_such_module:f", "ModuleNotFoundError: No module named 'no_such_module'"),
            ("worker_functions:f", "AttributeError: module 'worker_functions' has no attribute"),
        ],
    )
    def test_a_function_that_cannot_be_imported(self, function, sentence):
        with Workers(function, num_workers=2) as workers:  # noqa: SIM117
            with pytest.raises(RuntimeError) as caught:
                list(workers.map([1]))
        assert str(caught.value).startswith(f"A worker process could not be started: {sentence}")

    def test_a_context_that_cannot_be_loaded(self):
        with pytest.raises(RuntimeError, match="ValueError: invalid literal"):
            work("with_context", [1], num_workers=1, context=NotLoadable())

    def test_workers_that_die_at_once(self, monkeypatch):
        monkeypatch.setattr(module, "START", "import os; os._exit(9)")
        with pytest.raises(RuntimeError, match=r"could not be started: it died \(exit code 9\)\."):
            work("double", [1, 2, 3], num_workers=2)

    def test_no_python(self, monkeypatch):
        monkeypatch.setattr(sys, "executable", "/no/python")
        with pytest.raises(RuntimeError, match="FileNotFoundError"):
            work("double", [1], num_workers=1)

    def test_a_module_beside_the_script_does_not_replace_pythons(self, tmp_path, monkeypatch):
        """A student's own `signal.py` or `random.py` in the current folder."""
        for name in ("signal", "struct", "json", "random"):
            (tmp_path / f"{name}.py").write_text("raise RuntimeError('not this one')")
        monkeypatch.chdir(tmp_path)
        assert work("double", [1], num_workers=1) == [2]

    @pytest.mark.parametrize(
        ("arguments", "sentence"),
        [
            ({"function": "f"}, '`function` must be "module:name" of a function at the top of a'),
            ({"function": print}, '`function` must be "module:name" of a function at the top of'),
            ({"num_workers": 0}, "`num_workers` must be a whole number >= 1. Received: num_wor"),
            ({"num_workers": 1.5}, "`num_workers` must be a whole number >= 1. Received: num_wor"),
            ({"seconds_per_item": 0}, "`seconds_per_item` must be > 0 seconds and finite. Recei"),
            ({"seconds_per_item": float("nan")}, "`seconds_per_item` must be > 0 seconds and "),
        ],
    )
    def test_bad_arguments(self, arguments, sentence):
        with pytest.raises(ValueError) as caught:
            Workers(**({"function": "math:sqrt"} | arguments))
        assert str(caught.value).startswith(sentence)

    def test_by_default_there_is_one_a_core(self):
        assert Workers("math:sqrt").num_workers == num_cores() >= 1


class TestTheEnd:
    def test_leaving_early_ends_all_at_once(self):
        with Workers("worker_functions:process_id", num_workers=2) as workers:
            results = workers.map(itertools.chain([0, 0], itertools.repeat(1.0, 100)))
            process_ids = {next(results), next(results)}
            begin = time.monotonic()
        assert time.monotonic() - begin < 5
        assert not any(map(is_running, process_ids))
        with pytest.raises(RuntimeError, match="were closed"):
            list(results)
        with pytest.raises(RuntimeError, match="were closed"):
            list(workers.map([1]))

    def script(self, tmp_path, text):
        """A student's script, without `if __name__ == "__main__"`."""
        path = tmp_path / "script.py"
        begin = f"""
            import os, sys, time
            sys.path.insert(0, {TESTS!r})
            print("begins", flush=True)
            from keras_music.corpora.workers import Workers
        """
        path.write_text(textwrap.dedent(begin) + textwrap.dedent(text))
        return subprocess.Popen(
            [sys.executable, str(path)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            process_group=0,
        )

    HANGING = """
        with Workers("worker_functions:process_id", num_workers=2, seconds_per_item=60) as workers:
            for result in workers.map([0, 0, 0, 0, 50, 50]):
                print(result, flush=True)
    """

    def test_a_script_runs_once(self, tmp_path):
        script = self.script(
            tmp_path,
            """
            with Workers("worker_functions:double", num_workers=2) as workers:
                print(list(workers.map([1, 2, 3])))
            """,
        )
        assert script.communicate(timeout=60) == ("begins\n[2, 4, 6]\n", "")
        assert script.returncode == 0

    @pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
    def test_when_the_parent_is_killed_the_workers_go(self, tmp_path, number):
        """SIGINT is Ctrl-C: the terminal sends it to the workers, too."""
        script = self.script(tmp_path, self.HANGING)
        lines = [script.stdout.readline() for _ in range(5)]
        process_ids = set(map(int, lines[1:]))
        assert all(map(is_running, process_ids))
        os.killpg(script.pid, number) if number == signal.SIGINT else script.send_signal(number)
        _, error = script.communicate(timeout=30)
        assert script.returncode == -number
        assert error.count("Traceback") == error.count("KeyboardInterrupt")
        seconds = 0 if number == signal.SIGINT else 10  # else they have to notice
        assert wait_until(lambda: not any(map(is_running, process_ids)), seconds)

    def test_idle_workers_go_when_the_parent_is_killed(self, tmp_path):
        script = self.script(
            tmp_path,
            """
            with Workers("worker_functions:process_id", num_workers=2) as workers:
                for result in workers.map([0, 0, 0, 0]):
                    print(result, flush=True)
                time.sleep(60)
            """,
        )
        process_ids = {
            int(line) for line in (script.stdout.readline() for _ in range(5)) if line[0] != "b"
        }
        script.kill()
        script.communicate()
        assert wait_until(lambda: not any(map(is_running, process_ids)))

    def test_without_with_the_script_ends_and_the_workers_too(self, tmp_path):
        script = self.script(
            tmp_path,
            """
            workers = Workers("worker_functions:process_id", num_workers=1)
            print(*workers.map([0]), flush=True)
            """,
        )
        output, _ = script.communicate(timeout=60)
        assert script.returncode == 0
        assert wait_until(lambda: not is_running(int(output.split()[1])))


def test_lost_can_be_compared_and_sent():
    assert pickle.loads(pickle.dumps(Lost("why"))) == Lost("why") != Lost("else")


class TestSurroundings:
    def test_a_pause_between_items_costs_nothing(self, monkeypatch):
        """A slow disk: the clock runs while an item is worked on, and not while there is none."""
        started, start = [], Workers._start
        monkeypatch.setattr(Workers, "_start", lambda self: started.append(1) or start(self))

        def items():
            for number in (0.0, 1.0, 4.0):
                yield number
                time.sleep(1.0)

        with Workers("math:sqrt", num_workers=1, seconds_per_item=0.5) as workers:
            assert list(workers.map(items())) == [0.0, 1.0, 2.0]
        assert len(started) == 1

    def test_who_crashes_leaves_no_core_behind(self):
        """A thousand damaged files would fill a disk with copies of the worker's memory."""
        with Workers("resource:getrlimit", num_workers=1) as workers:
            ((soft, _),) = workers.map([resource.RLIMIT_CORE])
        assert soft == 0

    @pytest.mark.parametrize(("given", "found"), [(None, "1"), ("3", "3")])
    def test_one_core_each_unless_the_user_says_otherwise(self, monkeypatch, given, found):
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
        if given:
            monkeypatch.setenv("OMP_NUM_THREADS", given)
        with Workers("os:getenv", num_workers=1) as workers:
            assert list(workers.map(["OMP_NUM_THREADS"])) == [found]
