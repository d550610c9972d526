//! The structs of a Parquet file that decoders read, field by field.
//!
//! Reference: `parquet.thrift` of `apache/parquet-format` 2.11.

use super::thrift::{Kind, Shape};

/// Fields of `FileMetaData`.
pub(super) mod file {
    pub(in super::super) const SCHEMA: i16 = 2;
    pub(in super::super) const N_ROWS: i16 = 3;
    pub(in super::super) const ROW_GROUPS: i16 = 4;
}

/// Fields of `SchemaElement`.
pub(super) mod schema {
    pub(in super::super) const N_CHILDREN: i16 = 5;
}

/// Fields of `RowGroup`.
pub(super) mod group {
    pub(in super::super) const COLUMNS: i16 = 1;
    pub(in super::super) const N_ROWS: i16 = 3;
}

/// Fields of `ColumnChunk` and of its `ColumnMetaData`.
pub(super) mod chunk {
    pub(in super::super) const METADATA: i16 = 3;
    pub(in super::super) const CODEC: i16 = 4;
    pub(in super::super) const N_VALUES: i16 = 5;
    pub(in super::super) const UNPACKED_BYTES: i16 = 6;
    pub(in super::super) const PACKED_BYTES: i16 = 7;
    pub(in super::super) const DATA_AT: i16 = 9;
    pub(in super::super) const DICTIONARY_AT: i16 = 11;
}

/// Fields of `PageHeader`, and values of its type.
pub(super) mod page {
    pub(in super::super) const TYPE: i16 = 1;
    pub(in super::super) const UNPACKED_BYTES: i16 = 2;
    pub(in super::super) const PACKED_BYTES: i16 = 3;
    pub(in super::super) const V1: i16 = 5;
    pub(in super::super) const OF_DICTIONARY: i16 = 7;
    pub(in super::super) const V2: i16 = 8;

    pub(in super::super) const DATA: i64 = 0;
    pub(in super::super) const DICTIONARY: i64 = 2;
    pub(in super::super) const DATA_V2: i64 = 3;
}

/// Fields of `DataPageHeader`.
pub(super) mod page_v1 {
    pub(in super::super) const N_VALUES: i16 = 1;
    pub(in super::super) const ENCODING: i16 = 2;
}

/// Fields of `DataPageHeaderV2`.
pub(super) mod page_v2 {
    pub(in super::super) const N_VALUES: i16 = 1;
    pub(in super::super) const ENCODING: i16 = 4;
    pub(in super::super) const DEFINITION_BYTES: i16 = 5;
    pub(in super::super) const REPETITION_BYTES: i16 = 6;
}

/// Fields of `DictionaryPageHeader`.
pub(super) mod dictionary {
    pub(in super::super) const N_VALUES: i16 = 1;
}

const EMPTY: Shape = &[];

pub(super) const FILE: Shape = &[
    (1, Kind::I32),
    (file::SCHEMA, Kind::List(&Kind::Struct(SCHEMA_ELEMENT))),
    (file::N_ROWS, Kind::I64),
    (file::ROW_GROUPS, Kind::List(&Kind::Struct(ROW_GROUP))),
    (5, Kind::List(&Kind::Struct(KEY_VALUE))),
    (6, Kind::Binary),
    (7, Kind::List(&Kind::Struct(COLUMN_ORDER))),
];

const SCHEMA_ELEMENT: Shape = &[
    (1, Kind::I32),
    (2, Kind::I32),
    (3, Kind::I32),
    (4, Kind::Binary),
    (schema::N_CHILDREN, Kind::I32),
    (6, Kind::I32),
    (7, Kind::I32),
    (8, Kind::I32),
    (9, Kind::I32),
    (10, Kind::Struct(LOGICAL_TYPE)),
];

const LOGICAL_TYPE: Shape = &[
    (1, Kind::Struct(EMPTY)),
    (2, Kind::Struct(EMPTY)),
    (3, Kind::Struct(EMPTY)),
    (4, Kind::Struct(EMPTY)),
    (5, Kind::Struct(&[(1, Kind::I32), (2, Kind::I32)])),
    (6, Kind::Struct(EMPTY)),
    (7, Kind::Struct(TIME)),
    (8, Kind::Struct(TIME)),
    (10, Kind::Struct(&[(1, Kind::I8), (2, Kind::Bool)])),
    (11, Kind::Struct(EMPTY)),
    (12, Kind::Struct(EMPTY)),
    (13, Kind::Struct(EMPTY)),
    (14, Kind::Struct(EMPTY)),
    (15, Kind::Struct(EMPTY)),
];

const TIME: Shape = &[(1, Kind::Bool), (2, Kind::Struct(TIME_UNIT))];

const TIME_UNIT: Shape = &[
    (1, Kind::Struct(EMPTY)),
    (2, Kind::Struct(EMPTY)),
    (3, Kind::Struct(EMPTY)),
];

const KEY_VALUE: Shape = &[(1, Kind::Binary), (2, Kind::Binary)];

const COLUMN_ORDER: Shape = &[(1, Kind::Struct(EMPTY)), (2, Kind::Struct(EMPTY))];

const ROW_GROUP: Shape = &[
    (group::COLUMNS, Kind::List(&Kind::Struct(COLUMN_CHUNK))),
    (2, Kind::I64),
    (group::N_ROWS, Kind::I64),
    (4, Kind::List(&Kind::Struct(SORTING_COLUMN))),
    (5, Kind::I64),
    (6, Kind::I64),
    (7, Kind::I16),
];

const SORTING_COLUMN: Shape = &[(1, Kind::I32), (2, Kind::Bool), (3, Kind::Bool)];

const COLUMN_CHUNK: Shape = &[
    (1, Kind::Binary),
    (2, Kind::I64),
    (chunk::METADATA, Kind::Struct(COLUMN_METADATA)),
    (4, Kind::I64),
    (5, Kind::I32),
    (6, Kind::I64),
    (7, Kind::I32),
];

const COLUMN_METADATA: Shape = &[
    (1, Kind::I32),
    (2, Kind::List(&Kind::I32)),
    (3, Kind::List(&Kind::Binary)),
    (chunk::CODEC, Kind::I32),
    (chunk::N_VALUES, Kind::I64),
    (chunk::UNPACKED_BYTES, Kind::I64),
    (chunk::PACKED_BYTES, Kind::I64),
    (chunk::DATA_AT, Kind::I64),
    (10, Kind::I64),
    (chunk::DICTIONARY_AT, Kind::I64),
    (12, Kind::Struct(STATISTICS)),
    (14, Kind::I64),
    (15, Kind::I32),
];

const STATISTICS: Shape = &[
    (1, Kind::Binary),
    (2, Kind::Binary),
    (3, Kind::I64),
    (4, Kind::I64),
    (5, Kind::Binary),
    (6, Kind::Binary),
    (7, Kind::Bool),
    (8, Kind::Bool),
];

pub(super) const PAGE: Shape = &[
    (page::TYPE, Kind::I32),
    (page::UNPACKED_BYTES, Kind::I32),
    (page::PACKED_BYTES, Kind::I32),
    (4, Kind::I32),
    (page::V1, Kind::Struct(PAGE_V1)),
    (6, Kind::Struct(EMPTY)),
    (page::OF_DICTIONARY, Kind::Struct(DICTIONARY)),
    (page::V2, Kind::Struct(PAGE_V2)),
];

const PAGE_V1: Shape = &[
    (page_v1::N_VALUES, Kind::I32),
    (page_v1::ENCODING, Kind::I32),
    (3, Kind::I32),
    (4, Kind::I32),
    (5, Kind::Struct(STATISTICS)),
];

const DICTIONARY: Shape = &[
    (dictionary::N_VALUES, Kind::I32),
    (2, Kind::I32),
    (3, Kind::Bool),
];

const PAGE_V2: Shape = &[
    (page_v2::N_VALUES, Kind::I32),
    (2, Kind::I32),
    (3, Kind::I32),
    (page_v2::ENCODING, Kind::I32),
    (page_v2::DEFINITION_BYTES, Kind::I32),
    (page_v2::REPETITION_BYTES, Kind::I32),
    (7, Kind::Bool),
    (8, Kind::Struct(STATISTICS)),
];
