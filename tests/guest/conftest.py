"""On the host, tests marked `guest` are replaced by their replays; in the guest they are run."""

from __future__ import annotations

import pytest


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.pluginmanager.has_plugin("tests.guest.inside"):
        return
    from tests.guest.replay import GuestItem  # the guest has no use for it, and is slow to import

    for index, item in enumerate(items):
        if item.get_closest_marker("guest") is not None:
            items[index] = GuestItem.from_parent(item.parent, name=item.name, original=item)
