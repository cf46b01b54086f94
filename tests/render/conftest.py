from typing import Any

import pytest


@pytest.fixture(scope="session")
def mitsuba() -> Any:
    """Mitsuba under the fastest variant of this machine, on one thread, with our surfaces registered."""
    pytest.importorskip("mitsuba", reason="rendering needs the extra `render`")
    from crosspol.render.bsdfs import register_bsdfs
    from crosspol.render.variants import activate, choose_variant

    module = activate(choose_variant(), threads=1)
    register_bsdfs(module)
    return module
