"""`Future`: a result that may still be computing. Shared by the engines and by the conversion pipeline; standard library only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

Result = TypeVar("Result")
ResultOf = TypeVar("ResultOf", covariant=True)


class Future(Protocol[ResultOf]):
    """What `submit` returns. A `concurrent.futures.Future` is one too."""

    def result(self) -> ResultOf:
        """Waits for the result and returns it; raises what the computation raised. Call it once."""
        ...


@dataclass(frozen=True)
class Completed(Generic[Result]):
    """A future whose result is known already."""

    value: Result

    def result(self) -> Result:
        """See `Future`."""
        return self.value


@dataclass(frozen=True)
class Deferred(Generic[Result]):
    """A future whose result is what `wait` returns."""

    wait: Callable[[], Result]

    def result(self) -> Result:
        """See `Future`."""
        return self.wait()
