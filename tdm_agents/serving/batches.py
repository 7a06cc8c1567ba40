"""Batches of whoever is waiting, and one thread that decides for them."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from tdm_agents.serving.shared_decisions import Answer, Question

Decide = Callable[[Sequence[Question]], list[Answer | Exception]]


@dataclass(frozen=True)
class _Waiting:
    question: Question
    answer: asyncio.Future[Answer]
    since: float


class Batches:
    """Questions that wait, and the batches that are made of them.

    A batch is decided for when it is full, when as many sessions wait as there are, or when its first
    question has waited for ``gather`` seconds. While one is decided for, the next one gathers.

    Args:
        decide: Answers a batch, in a thread of its own.
        rows: Environments of a batch, at most.
        gather: Seconds to wait for more, at most.
        sessions: How many sessions there are at the moment.
    """

    def __init__(self, decide: Decide, rows: int, gather: float, sessions: Callable[[], int]) -> None:
        self._decide, self._rows, self._gather, self._sessions = decide, rows, gather, sessions
        self._queue: deque[_Waiting] = deque()
        self._arrived = asyncio.Event()

    async def answer(self, question: Question) -> Answer:
        """The answer to a question, after that to others that came before.

        Raises:
            Exception: What was wrong with this question.
        """
        loop = asyncio.get_running_loop()
        waiting = _Waiting(question, loop.create_future(), loop.time())
        self._queue.append(waiting)
        self._arrived.set()
        return await waiting.answer

    async def run(self) -> None:
        """Decide for batches until cancelled."""
        loop = asyncio.get_running_loop()
        thread = ThreadPoolExecutor(1, thread_name_prefix="decides")
        try:
            while True:
                await self._gathered()
                batch = self._next()
                if not batch:
                    continue
                answers = await loop.run_in_executor(thread, self._decide, [w.question for w in batch])
                for waiting, found in zip(batch, answers, strict=True):
                    if waiting.answer.done():  # its client has gone
                        continue
                    if isinstance(found, Exception):
                        waiting.answer.set_exception(found)
                    else:
                        waiting.answer.set_result(found)
        finally:
            thread.shutdown(wait=False, cancel_futures=True)

    async def _gathered(self) -> None:
        """Wait until a batch is worth deciding for."""
        loop = asyncio.get_running_loop()
        while True:
            while self._queue and self._queue[0].answer.done():
                self._queue.popleft()
            rows = sum(waiting.question.rows for waiting in self._queue)
            if self._queue:
                left = self._queue[0].since + self._gather - loop.time()
                if left <= 0 or rows >= self._rows or len(self._queue) >= self._sessions():
                    return
            self._arrived.clear()
            try:
                await asyncio.wait_for(self._arrived.wait(), left if self._queue else None)
            except TimeoutError:
                return

    def _next(self) -> list[_Waiting]:
        """The questions that are answered together: from the oldest on, all of its kind that fit."""
        batch: list[_Waiting] = []
        others: list[_Waiting] = []
        rows = 0
        while self._queue:
            waiting = self._queue.popleft()
            if waiting.answer.done():
                continue
            same = not batch or waiting.question.deterministic == batch[0].question.deterministic
            if same and rows + waiting.question.rows <= self._rows:
                batch.append(waiting)
                rows += waiting.question.rows
            else:
                others.append(waiting)
                if rows >= self._rows:
                    break
        self._queue.extendleft(reversed(others))
        return batch
