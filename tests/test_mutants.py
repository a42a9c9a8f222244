"""The table of mutants fits the code and the tests. ``make mutants`` runs them."""

import ast
import re

import pytest

from demo.program import ROOT
from tests.mutants.mutant import Mutant
from tests.mutants.table import MUTANTS


def test_there_are_at_least_twenty_mutants_with_different_names():
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS) >= 20
    assert 3 <= sum(mutant.quick for mutant in MUTANTS) <= 8


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_changes_the_product_in_one_place_and_names_an_existing_test(mutant: Mutant):
    """Otherwise a change of the code would switch the mutant off without a word."""
    texts = {edit.path: (ROOT / edit.path).read_text() for edit in mutant.edits}
    for edit in mutant.edits:
        assert edit.path.split("/")[0] in ("wire", "edge", "cloud")
        assert texts[edit.path].count(edit.old) == 1, f"{edit.path}: {edit.old}"
        assert edit.new != edit.old
        texts[edit.path] = texts[edit.path].replace(edit.old, edit.new)
    for file, text in texts.items():
        ast.parse(text, file)  # a mutant that is no Python is caught by every test
    path, _, name = mutant.test.partition("::")
    function = name.partition("[")[0]
    assert re.search(rf"^(def {function}\(|{function} = )", (ROOT / path).read_text(), re.MULTILINE)
