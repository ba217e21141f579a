"""A Celery worker of the host app, for tests: `python celery_worker.py URL CONFIG`."""

from __future__ import annotations

import json
import sys

if __name__ == "__main__":
    from hostapp import create_app

    config = json.loads(sys.argv[2])
    app = create_app(sys.argv[1], **config)
    app.extensions["celery"].worker_main(
        [
            "worker",
            "--pool=threads",
            "--concurrency=2",
            "--loglevel=WARNING",
            "--without-gossip",
            f"--hostname={config['CELERY_QUEUE']}",  # two of one name cannot use one broker
        ]
    )
