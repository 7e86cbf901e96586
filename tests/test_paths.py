"""Where files live, whatever the environment says."""

import pytest

from fieldmarks.errors import FieldmarksError
from fieldmarks.paths import user_cache


@pytest.mark.parametrize("name", ["FIELDMARKS_CACHE", "XDG_CACHE_HOME"])
def test_a_home_that_there_is_not(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FIELDMARKS_CACHE")
    monkeypatch.setenv(name, "~nobody-of-this-name/cache")
    with pytest.raises(FieldmarksError, match=r"^~nobody-of-this-name/cache.*set FIELDMARKS_CACHE"):
        user_cache()
