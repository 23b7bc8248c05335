"""A name means one model in all languages."""

from collections import Counter

import pytest

from schemas.model import ModelError, model_names
from schemas.models import _FAMILIES, all_names, load_any


def test_no_packaged_name_is_in_two_languages():
    names = Counter(name for family in _FAMILIES for name in model_names((), family))
    assert [name for name, count in names.items() if count > 1] == []
    assert set(all_names()) == set(names)


@pytest.mark.parametrize("name", all_names())
def test_every_packaged_model_loads_and_says_who_speaks_with_it(name):
    model = load_any(name)
    assert model.name == name
    assert model.title
    assert model.driver


def test_an_unknown_name_tells_the_known_ones():
    with pytest.raises(ModelError, match=r"no meter model 'nothing'; known: .*p1-dsmr"):
        load_any("nothing")
