"""Three registries, one for each pool. Nothing here knows of queues."""

import hashlib
import math
import re
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec

import stepflow

SCORE = {
    "name": "score",
    "steps": [{"id": "words", "component": "/python/words", "input": {"text": {"$input": "$"}}}],
    "output": {"$step": "words"},
}


class Text(msgspec.Struct):
    text: str


class Wanted(msgspec.Struct):
    sentences: list[str]
    limit: int


cpu = stepflow.Components()


@cpu.component("/split")
def split(document: Text) -> list[str]:
    """The sentences of a text."""
    return [part.strip() for part in re.split(r"(?<=[.!?])\s+", document.text) if part.strip()]


@cpu.component("/words")
def words(part: Text) -> dict[str, int]:
    """How often each word of more than three letters occurs."""
    return dict(Counter(re.findall(r"[a-z]{4,}", part.text.lower())))


@asynccontextmanager
async def load_model() -> AsyncIterator[list[int]]:
    """Entered once in each worker: here a model would be put on the GPU."""
    yield [int.from_bytes(hashlib.sha256(bytes([n])).digest()[:8], "big") for n in range(16)]


gpu = stepflow.Components(lifespan=load_model)


@gpu.component("/embed", max_concurrency=1)
def embed(sentences: list[str], ctx: stepflow.Context) -> list[float]:
    """A direction for a text: similar words, similar direction."""
    seeds: list[int] = ctx.state
    found = [0.0] * len(seeds)
    for word in re.findall(r"[a-z]{4,}", " ".join(sentences).lower()):
        number = int.from_bytes(hashlib.sha256(word.encode()).digest()[:8], "big")
        for place, seed in enumerate(seeds):
            found[place] += ((number ^ seed) % 2_001 - 1_000) / 1_000
    length = math.hypot(*found) or 1.0
    return [round(value / length, 6) for value in found]


memory = stepflow.Components()


@memory.component("/summarise")
async def summarise(wanted: Wanted, ctx: stepflow.Context) -> list[str]:
    """The sentences whose words the text uses most; counting is a sub-run, in the pool of its own steps."""
    counted = await ctx.run_flow(SCORE, wanted.sentences)
    counts = [result.outcome.output for result in counted if result.ok]
    total: Counter[str] = Counter()
    for count in counts:
        total.update(count)
    ranked = sorted(range(len(counts)), key=lambda index: (-sum(total[word] for word in counts[index]), index))
    return [wanted.sentences[index] for index in ranked[: wanted.limit]]
