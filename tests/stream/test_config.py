import msgspec
import pytest

from millrace.stream.config import LogConfig


def test_every_field_has_a_default_and_a_description() -> None:
    assert LogConfig().n_partitions == 16
    schemas = msgspec.json.schema(LogConfig)["$defs"]
    assert set(schemas) == {"LogConfig", "RedisLogConfig", "KafkaLogConfig"}
    for schema in schemas.values():
        sections = [name for name, field in schema["properties"].items() if "$ref" in str(field)]
        assert sections == (["redis", "kafka"] if "backend" in schema["properties"] else [])
        assert all(field.get("description") for name, field in schema["properties"].items() if name not in sections)
        assert not schema.get("required")


def test_bounds_and_unknown_keys_are_refused() -> None:
    with pytest.raises(msgspec.ValidationError, match=">= 1"):
        msgspec.convert({"n_partitions": 0}, LogConfig)
    with pytest.raises(msgspec.ValidationError, match="partitions"):
        msgspec.convert({"partitions": 3}, LogConfig)
