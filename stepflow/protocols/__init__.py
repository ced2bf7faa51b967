"""Who stands at each seam. Whoever writes a backend reads this package, `records` and `errors`, and nothing else."""

from stepflow.protocols.backend import Backend, BlobStore
from stepflow.protocols.clock import Chance, Clock, Deadline
from stepflow.protocols.dispatch import LAST_ATTEMPT, NOT_DONE, Credit, Dispatch, Exchange, Work
from stepflow.protocols.owners import Inbox, Owners
from stepflow.protocols.plugins import Explaining, GroupObserver, Host, Observer, Plugin, SubRun
from stepflow.protocols.signals import (
    Listener,
    Signals,
    announced_topic,
    answers_topic,
    ended_topic,
    inbox_topic,
    offers_topic,
)
from stepflow.protocols.store import PAGE, BlobRetention, Blobs, Retention, Runs, Store

__all__ = [
    "LAST_ATTEMPT",
    "NOT_DONE",
    "PAGE",
    "Backend",
    "BlobRetention",
    "BlobStore",
    "Blobs",
    "Chance",
    "Clock",
    "Credit",
    "Deadline",
    "Dispatch",
    "Exchange",
    "Explaining",
    "GroupObserver",
    "Host",
    "Inbox",
    "Listener",
    "Observer",
    "Owners",
    "Plugin",
    "Retention",
    "Runs",
    "Signals",
    "Store",
    "SubRun",
    "Work",
    "announced_topic",
    "answers_topic",
    "ended_topic",
    "inbox_topic",
    "offers_topic",
]
