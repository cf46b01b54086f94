from __future__ import annotations

import pytest

from crosspol.training import precision
from crosspol.training.precision import choose_precision


@pytest.mark.parametrize("wanted", ["float32", "bfloat16", "float16"])
def test_what_is_asked_for_is_taken(wanted):
    assert choose_precision(wanted, "cpu").precision == wanted


@pytest.mark.parametrize(("accelerator", "device"), [("cpu", "processor"), ("cuda", "GPU")])
@pytest.mark.parametrize("computes", [True, False])
def test_auto_is_bfloat16_only_where_it_is_computed_and_says_why(monkeypatch, accelerator, device, computes):
    name = "gpu_computes_bfloat16" if accelerator == "cuda" else "processor_computes_bfloat16"
    monkeypatch.setattr(precision, name, lambda: computes)
    chosen = choose_precision("auto", accelerator)
    assert chosen.precision == ("bfloat16" if computes else "float32")
    assert device in chosen.why
