"""What the process does that puts a folder in force apart; it answers on stdout."""

from __future__ import annotations

import json
import signal
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from broker.mapping.text.nodes import Complaints
from broker.rollout.deploying import deploy
from broker.settings import Ris, Settings
from broker.store.executors import Store, StoreUnavailable
from broker.store.server import die_with_parent


def _answer(asked: dict[str, Any]) -> dict[str, Any]:
    ris = tuple(Ris.model_validate(each) for each in asked["ris"])
    settings = Settings(mappings=Path(asked["mappings"]), ris=ris)
    store = Store(asked["url"])
    try:
        by, always = asked["by"], asked["always"]
        return asdict(deploy(store, settings, by=by, at=time.time(), always=always))
    except Complaints as wrong:
        return {"complaints": [asdict(each) for each in wrong.complaints]}
    except StoreUnavailable as away:
        return {"away": str(away)}
    finally:
        store.close()


if __name__ == "__main__":
    die_with_parent(signal.SIGKILL, int(sys.argv[1]))
    json.dump(_answer(json.load(sys.stdin)), sys.stdout)
