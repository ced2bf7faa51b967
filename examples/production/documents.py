"""Real documents to work on: what Python's own library says of itself. `python documents.py > documents.jsonl`"""

import importlib
import inspect
import json
import sys
import warnings
from collections.abc import Iterator

MODULES = """
argparse asyncio collections concurrent.futures configparser csv datetime decimal difflib email.message
fractions http.client inspect io ipaddress json logging mailbox multiprocessing.pool os pathlib pickle random
re shutil smtplib socket sqlite3 statistics string subprocess tarfile tempfile textwrap threading tokenize
typing unittest.mock urllib.request uuid weakref xml.etree.ElementTree zipfile
""".split()  # noqa: SIM905 - a list would fill the page
SHORTEST = 120


def documents() -> Iterator[dict[str, str]]:
    """The doc strings of a few modules, their classes and their functions, each once."""
    seen: set[str] = set()
    for name in MODULES:
        for title, thing in _things(name):
            text = inspect.getdoc(thing) or ""
            if len(text) >= SHORTEST and text not in seen:
                seen.add(text)
                yield {"title": title, "text": text}


def _things(name: str) -> Iterator[tuple[str, object]]:
    with warnings.catch_warnings(action="ignore"):
        module = importlib.import_module(name)
        yield name, module
        for key, thing in sorted(vars(module).items()):
            if inspect.isclass(thing) or inspect.isroutine(thing):
                yield f"{name}.{key}", thing
            if inspect.isclass(thing):
                for part, member in sorted(vars(thing).items()):
                    if inspect.isroutine(member):
                        yield f"{name}.{key}.{part}", member


if __name__ == "__main__":
    for document in documents():
        sys.stdout.write(json.dumps(document) + "\n")
