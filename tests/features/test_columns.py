"""What holds of every declared column and query field."""

import numpy as np

from millrace.features import attachments, columns, query_fields
from millrace.pipeline.column import Attachment, Column
from millrace.pipeline.query import QueryField

COLUMNS = {name: value for name, value in vars(columns).items() if isinstance(value, Column)}
FIELDS = {name: value for name, value in vars(query_fields).items() if isinstance(value, QueryField)}
ATTACHMENTS = {name: value for name, value in vars(attachments).items() if isinstance(value, Attachment)}


def test_each_constant_is_named_as_its_column() -> None:
    for name, thing in {**COLUMNS, **FIELDS}.items():
        assert thing.name == name.lower()


def test_names_are_unique_over_columns_fields_and_attachments() -> None:
    names = [thing.name for thing in (*COLUMNS.values(), *FIELDS.values(), *ATTACHMENTS.values())]
    assert len(names) == len(set(names))


def test_everything_is_documented() -> None:
    assert all(thing.doc for thing in (*COLUMNS.values(), *FIELDS.values(), *ATTACHMENTS.values()))


def test_dtypes_follow_what_a_column_is() -> None:
    for column in COLUMNS.values():
        if column.name.endswith(("_id", "_ids")):
            assert column.dtype == np.int64
        if column.name.startswith(("is_", "has_")):
            assert column.dtype == np.bool_
        if column.name.endswith(("score", "value", "factor", "counts", "probs")):
            assert column.dtype == np.float32


def test_what_could_not_be_checked_is_unsafe() -> None:
    assert not columns.HAS_POST.full(1, {})[0]
    assert not columns.HAS_CONTENT.full(1, {})[0]
    assert columns.IS_SENSITIVE.full(1, {})[0]
    assert columns.IS_PARENT_DELETED.full(1, {})[0]


def test_default_arrays_of_query_fields_cannot_be_written() -> None:
    for field in FIELDS.values():
        if isinstance(field.default, np.ndarray):
            assert not field.default.flags.writeable
