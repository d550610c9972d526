//! Metadata values of a GGUF file.
//!
//! Numbers keep their width as read; the accessors ask for what a reader needs
//! ("a count", "a text") and answer `None` if the file says something else.

/// One metadata value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// An unsigned integer of 8, 16, 32 or 64 bits.
    Unsigned(u64),
    /// A signed integer of 8, 16, 32 or 64 bits.
    Signed(i64),
    /// A float of 32 bits.
    F32(f32),
    /// A float of 64 bits.
    F64(f64),
    /// True or false.
    Bool(bool),
    /// UTF-8 text.
    Text(String),
    /// Values of one kind.
    Array(Array),
}

/// An array of metadata values of one kind.
#[derive(Debug, Clone, PartialEq)]
pub enum Array {
    /// Unsigned integers of 8 bits, which may be many: they are not widened.
    Bytes(Vec<u8>),
    /// Signed integers of 8 bits.
    SignedBytes(Vec<i8>),
    /// Wider unsigned integers.
    Unsigned(Vec<u64>),
    /// Wider signed integers.
    Signed(Vec<i64>),
    /// Floats, widened to 64 bits.
    Float(Vec<f64>),
    /// Truth values.
    Bool(Vec<bool>),
    /// Texts.
    Text(Vec<String>),
    /// Arrays.
    Array(Vec<Array>),
}

impl Value {
    /// The value as a non-negative integer.
    pub fn as_u64(&self) -> Option<u64> {
        match self {
            Self::Unsigned(it) => Some(*it),
            Self::Signed(it) => u64::try_from(*it).ok(),
            _ => None,
        }
    }

    /// The value as a float; integers are not floats.
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Self::F32(it) => Some(f64::from(*it)),
            Self::F64(it) => Some(*it),
            _ => None,
        }
    }

    /// The value as a truth value.
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Bool(it) => Some(*it),
            _ => None,
        }
    }

    /// The value as text.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(it) => Some(it),
            _ => None,
        }
    }

    /// The value as an array of texts.
    pub fn as_texts(&self) -> Option<&[String]> {
        match self {
            Self::Array(Array::Text(it)) => Some(it),
            _ => None,
        }
    }

    /// The value as an array of integers; a negative one makes it `None`.
    pub fn as_unsigned_array(&self) -> Option<Vec<u64>> {
        match self {
            Self::Array(Array::Bytes(it)) => Some(it.iter().map(|n| u64::from(*n)).collect()),
            Self::Array(Array::SignedBytes(it)) => {
                it.iter().map(|n| u64::try_from(*n).ok()).collect()
            }
            Self::Array(Array::Unsigned(it)) => Some(it.clone()),
            Self::Array(Array::Signed(it)) => it.iter().map(|n| u64::try_from(*n).ok()).collect(),
            _ => None,
        }
    }

    /// What kind of value this is, for messages.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Unsigned(_) => "an unsigned integer",
            Self::Signed(_) => "a signed integer",
            Self::F32(_) | Self::F64(_) => "a float",
            Self::Bool(_) => "a bool",
            Self::Text(_) => "a text",
            Self::Array(_) => "an array",
        }
    }
}
