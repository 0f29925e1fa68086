"""`BlockingExecutor` under CPython's own tests of `ThreadPoolExecutor`.

They are in the standard library's `test` package: one module at first, a package of several later.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from concurrent import futures
from importlib import import_module
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest import mock

import pytest

from llm_guard import BlockingExecutor

pytestmark = pytest.mark.real

# Debian's Python finds them by itself once they are installed; another Python of the same version is shown where.
VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
SHOW_WHERE = f"import test; test.__path__.append('/usr/lib/python{VERSION}/test')\n"
exec(SHOW_WHERE)

try:
    theirs: Any = import_module("test.test_concurrent_futures")
    script_helper: Any = import_module("test.support.script_helper")
except ImportError:
    pytest.skip("this Python came without its own tests of executors (Debian, Ubuntu: apt-get install "
                "libpython3.11-testsuite, where that is its version; built from source: "
                "`make install` of 3.13 brings them)", allow_module_level=True)


def _part(name: str) -> Any:
    try:
        return import_module(f"{theirs.__name__}.{name}")
    except ModuleNotFoundError:
        return theirs


util, executor, initializers = _part("util"), _part("executor"), _part("test_init")
thread_pool, shutdown = _part("test_thread_pool"), _part("test_shutdown")


class WithRoom(BlockingExecutor):
    """Has room for all that a test submits before it lets anything run."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"buffer": 100, **kwargs})


NEED_ROOM = {"test_saturation", "test_cancel_futures", "test_executor_map_current_future_cancel"}
#: It submits to the executor from inside, while it is full.
FILLS_ITSELF = {"test_hang_global_shutdown_lock"}


def _script_runner(executor_type: type) -> Callable[[str, str], Any]:
    """Runs their scripts with ours in the place of theirs, and with shorter sleeps."""
    name = executor_type.__name__
    put_in_place = (f"{SHOW_WHERE}import concurrent.futures, llm_guard; concurrent.futures.{name} = "
                    f"concurrent.futures.ThreadPoolExecutor = llm_guard.{name}\n")

    def assert_python_ok(flag: str, script: str) -> Any:
        return script_helper.assert_python_ok(flag, put_in_place + script.replace("print, 1.0,", "print, 0.1,"))

    return assert_python_ok


class OnOurs(util.ThreadPoolMixin):  # type: ignore[misc, name-defined]
    """Gives the tests our executor, also where they name `futures.ThreadPoolExecutor` or write a script."""

    names_from: ModuleType

    def setUp(self) -> None:
        names = SimpleNamespace(**{**vars(futures), "ThreadPoolExecutor": self.executor_type})
        patch = mock.patch.multiple(self.names_from, create=True, futures=names,
                                    assert_python_ok=_script_runner(self.executor_type))
        patch.start()
        self.addCleanup(patch.stop)
        super().setUp()


def _tests(case: type) -> set[str]:
    return {name for name in dir(case) if name.startswith("test_")}


def _case(theirs: Any, names: set[str], executor_type: type = BlockingExecutor) -> Any:
    """Those tests of `theirs` that have one of `names`."""
    left_out = dict.fromkeys(_tests(theirs) - names)
    return type(theirs.__name__, (OnOurs, theirs, util.BaseTestCase), {
        "__module__": __name__, "executor_type": executor_type, "names_from": import_module(theirs.__module__),
        **left_out,
    })


OF_ANY = _tests(executor.ExecutorTest)
OF_POOL, OF_SHUTDOWN = _tests(thread_pool.ThreadPoolExecutorTest), _tests(shutdown.ThreadPoolShutdownTest)

TestExecutor = _case(executor.ExecutorTest, OF_ANY)
TestThreadPool = _case(thread_pool.ThreadPoolExecutorTest, OF_POOL - OF_ANY - NEED_ROOM - FILLS_ITSELF)
TestThreadPoolWithRoom = _case(thread_pool.ThreadPoolExecutorTest, NEED_ROOM, WithRoom)
TestShutdown = _case(shutdown.ThreadPoolShutdownTest, OF_SHUTDOWN - NEED_ROOM)
TestShutdownWithRoom = _case(shutdown.ThreadPoolShutdownTest, NEED_ROOM, WithRoom)
TestInitializer = _case(initializers.ThreadPoolInitializerTest, {"test_initializer"})
TestFailingInitializer = _case(initializers.ThreadPoolFailingInitializerTest, {"test_initializer"})
