"""docs/models.md has the figures of the weights that ship, and of no others."""

from __future__ import annotations

from scripts.models_page import PAGE, figures, shipped, with_tables

from crosspol.model.shipped import packaged_weights


def test_the_page_is_of_the_weights_that_ship() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert with_tables(page) == page, "python -m scripts.models_page writes the tables anew"


def test_every_set_has_a_license_and_what_was_measured_is_of_its_hash() -> None:
    for weights in shipped():
        assert weights.license == "mit"
        for figure in figures(weights):
            assert weights.sha256 in (PAGE.parents[1] / "benchmarks" / "results" / figure.file).read_text()
            assert figure.epe["all"][1] <= figure.epe["all"][0] <= figure.epe["all"][2]
        assert (packaged_weights(weights.name) / "README.md").is_file()
