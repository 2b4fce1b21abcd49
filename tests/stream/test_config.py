import msgspec
import pytest

from millrace.stream.config import LogConfig


def test_every_field_has_a_default_and_a_description() -> None:
    assert LogConfig().n_partitions == 16
    schema = msgspec.json.schema(LogConfig)["$defs"]["LogConfig"]
    assert all(field.get("description") for field in schema["properties"].values())
    assert "required" not in schema or not schema["required"]


def test_bounds_and_unknown_keys_are_refused() -> None:
    with pytest.raises(msgspec.ValidationError, match=">= 1"):
        msgspec.convert({"n_partitions": 0}, LogConfig)
    with pytest.raises(msgspec.ValidationError, match="partitions"):
        msgspec.convert({"partitions": 3}, LogConfig)
