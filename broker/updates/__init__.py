"""DOOR us → RIS: wake-ups become jobs, a worker per RIS drains the outbox in order."""

import os

from broker.store.keys import PREFIX

# RQ reads the prefix of its keys once, when it is first imported.
os.environ["RQ_KEY_PREFIX"] = f"{PREFIX}rq"
