"""The core serves without torch and everything else that only training and large indexes need."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SCRIPT = """
import sys

BLOCKED = ("torch", "onnxruntime", "faiss", "duckdb", "polars", "pyarrow")
for name in BLOCKED:
    sys.modules[name] = None  # importing it raises ImportError

from pathlib import Path

from millrace.app import wiring
from millrace.app.commands.init import make_home
from millrace.app.local_feed import serve_page

settings, _ = make_home(Path(sys.argv[1]))
log = wiring.build_log(settings)
collector = wiring.build_collector(settings, log, wiring.build_codec(settings))
receipt = collector.submit_json(
    [
        b'{"payload": {"type": "FollowChanged", "follower_id": "vic", "followee_id": "ada"}}',
        b'{"payload": {"type": "PostCreated", "post_id": "p1", "author_id": "ada", "text": "The wheel turns."}}',
    ],
    "test",
)
assert receipt.n_accepted == 2, receipt
wiring.build_http_app(settings, wiring.build_replica(settings, log))  # the server's parts import as well
page = serve_page(settings, "vic", None).page
assert not page.degraded, page
print([post.post_id for post in page.posts])
assert all(sys.modules[name] is None for name in BLOCKED)
"""


def test_a_page_is_served_in_a_process_that_cannot_import_torch(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", SCRIPT, str(tmp_path / "home")], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "['p1']"
