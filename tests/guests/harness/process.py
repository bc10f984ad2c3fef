"""Processes that the programs here start: run to their end, read line by line, or ended with a `with`."""
import argparse
import contextlib
import pathlib
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

Word = str | int | float | pathlib.Path


def program(text: str | None) -> argparse.ArgumentParser:
    """For a program whose help is the text of its module."""
    return argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)


def exit_on_term() -> None:
    """SIGTERM ends the program as an exception does, so that `finally` is reached."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


def run(*words: Word, timeout: float = 120, output_max: int = 1000) -> str:
    """The output of a command that must succeed; of one that fails the error has the last `output_max` characters."""
    done = subprocess.run(list(map(str, words)), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, timeout=timeout)
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, words))}: {done.stdout[-output_max:]}")
    return done.stdout


def lines(*words: Word, timeout: float) -> Iterator[str]:
    """A program's standard output, line by line as it comes. Its errors are shown as they are."""
    process = subprocess.Popen(list(map(str, words)), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    alarm = threading.Timer(timeout, process.terminate)
    alarm.start()
    try:
        assert process.stdout
        for line in process.stdout:
            if line.strip():
                yield line.strip()
        if process.wait() not in (0, 1):        # 1: it has said what failed
            raise RuntimeError(f"{words[0]} ended with {process.returncode}")
    finally:
        alarm.cancel()
        end(process, 20)


def end(process: subprocess.Popen[str], patience: float = 10) -> None:
    """Ends a process that may have ended; one that doesn't within `patience` seconds is killed."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(patience)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def until(what: str, is_so: Callable[[], bool], limit: float = 60) -> None:
    """Waits for something for at most `limit` seconds."""
    deadline = time.monotonic() + limit
    while not is_so():
        if time.monotonic() > deadline:
            raise RuntimeError(f"not so in {limit} s: {what}")
        time.sleep(0.02)


@contextlib.contextmanager
def background(*words: Word, nice: int = 0) -> Iterator[None]:
    """A program that runs for as long as the `with`: it must not end by itself."""
    process = subprocess.Popen(["nice", "-n", str(nice), *map(str, words)], stdin=subprocess.DEVNULL,
                               stdout=subprocess.DEVNULL, text=True)
    try:
        yield
        if process.poll() is not None:
            raise RuntimeError(f"{words[0]} ended with {process.returncode}")
    finally:
        end(process)
