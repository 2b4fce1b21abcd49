"""The page tells how the feed learns: what serves, the last hours, the join, what was decided and why."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from millrace.app.api.web import WEB_FOLDER

playwright = pytest.importorskip("playwright.sync_api")

pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]
