//! The `tojson` filter as transformers defines it: Python's `json.dumps` without
//! escaping of non-ASCII text or HTML.

use std::io;

use minijinja::value::{Kwargs, Value};
use minijinja::{Error, ErrorKind, State};
use serde::Serialize as _;
use serde_json::ser::{Formatter, PrettyFormatter, Serializer};

/// `value|tojson(indent=None, sort_keys=False)` as `json.dumps` writes it.
///
/// `ensure_ascii=False` is accepted, as that is what it does; other settings are errors.
#[expect(
    clippy::needless_pass_by_value,
    reason = "the signature of a minijinja filter"
)]
pub(super) fn tojson(state: &mut State, value: &Value, args: Kwargs) -> Result<Value, Error> {
    let indent: Option<usize> = args.get("indent")?;
    let is_sorted: Option<bool> = args.get("sort_keys")?;
    let is_ascii: Option<bool> = args.get("ensure_ascii")?;
    args.assert_all_used()?;
    if is_ascii == Some(true) {
        return Err(Error::new(
            ErrorKind::InvalidOperation,
            "`ensure_ascii=True` is not supported",
        ));
    }
    if value.is_undefined() {
        return Err(Error::new(
            ErrorKind::UndefinedError,
            "an undefined value is not JSON",
        ));
    }
    let failed = |err: serde_json::Error| {
        Error::new(
            ErrorKind::BadSerialization,
            "cannot write the value as JSON",
        )
        .with_source(err)
    };
    let mut tree = serde_json::to_value(value).map_err(failed)?;
    if is_sorted == Some(true) {
        tree.sort_all_objects();
    }
    let mut out = Vec::new();
    match indent {
        None => tree.serialize(&mut Serializer::with_formatter(&mut out, Spaced)),
        Some(n) => {
            let indent = " ".repeat(n.min(64));
            let pretty = PrettyFormatter::with_indent(indent.as_bytes());
            tree.serialize(&mut Serializer::with_formatter(&mut out, pretty))
        }
    }
    .map_err(failed)?;
    // As costly as minijinja's own: a quarter step per byte.
    state.consume_fuel(out.len() as u64 / 4)?;
    Ok(Value::from(
        String::from_utf8(out).expect("serde_json writes UTF-8"),
    ))
}

/// `json.dumps` separates with `, ` and `: `.
struct Spaced;

impl Formatter for Spaced {
    fn begin_array_value<W: ?Sized + io::Write>(
        &mut self,
        out: &mut W,
        first: bool,
    ) -> io::Result<()> {
        if first { Ok(()) } else { out.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + io::Write>(
        &mut self,
        out: &mut W,
        first: bool,
    ) -> io::Result<()> {
        if first { Ok(()) } else { out.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, out: &mut W) -> io::Result<()> {
        out.write_all(b": ")
    }
}
