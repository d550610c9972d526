//! Thrift's compact protocol, read strictly and within bounds.
//!
//! A [`Shape`] says which type every known field of a struct must have: a decoder that goes by
//! the field's number alone would read a field of another type as something that was never
//! checked. Fields that no shape names are passed over by their own type. Every length is
//! compared with the bytes that are left, so memory is in proportion to the input.
//!
//! Reference: `doc/specs/thrift-compact-protocol.md` of Apache Thrift.

/// How deep structs and lists may nest; footers take about ten levels.
const MAX_DEPTH: usize = 32;

/// Elements of one list: columns, row groups, elements of a schema.
const MAX_LIST: usize = 1 << 16;

/// Values of one struct with all that is in it.
const MAX_VALUES: usize = 1 << 22;

/// What type a field must have.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    Bool,
    I8,
    I16,
    I32,
    I64,
    Binary,
    List(&'static Kind),
    Struct(Shape),
}

/// The known fields of a struct, by number.
pub(super) type Shape = &'static [(i16, Kind)];

/// A value as it was read.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    /// A number or a truth value.
    Int(i64),
    /// Bytes, which nothing here looks at.
    Binary,
    List(Vec<Value>),
    Struct(Fields),
}

/// The known fields of a struct that were there, in order; of a field that is there twice the last
/// one counts, as for a decoder that assigns.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Fields(Vec<(i16, Value)>);

impl Fields {
    /// The number in a field, if it is there.
    pub(super) fn int(&self, id: i16) -> Option<i64> {
        match self.get(id)? {
            Value::Int(it) => Some(*it),
            _ => None,
        }
    }

    /// The elements of a field's list; none if it is not there.
    pub(super) fn list(&self, id: i16) -> &[Value] {
        match self.get(id) {
            Some(Value::List(it)) => it,
            _ => &[],
        }
    }

    /// The structs in a field's list.
    pub(super) fn structs(&self, id: i16) -> impl Iterator<Item = &Fields> {
        self.list(id).iter().filter_map(|it| match it {
            Value::Struct(fields) => Some(fields),
            _ => None,
        })
    }

    /// The struct in a field, if it is there.
    pub(super) fn fields(&self, id: i16) -> Option<&Fields> {
        match self.get(id)? {
            Value::Struct(it) => Some(it),
            _ => None,
        }
    }

    fn get(&self, id: i16) -> Option<&Value> {
        self.0.iter().rev().find(|it| it.0 == id).map(|it| &it.1)
    }
}

/// Reads the struct at the start of `bytes`; returns it and how many bytes it takes.
///
/// # Errors
///
/// What is wrong, as the rest of a sentence.
pub(super) fn read(bytes: &[u8], shape: Shape) -> Result<(Fields, usize), &'static str> {
    let mut reader = Reader {
        bytes,
        at: 0,
        depth: 0,
        n_values: 0,
    };
    let fields = reader.fields(shape)?;
    Ok((fields, reader.at))
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    depth: usize,
    n_values: usize,
}

impl Reader<'_> {
    fn fields(&mut self, shape: Shape) -> Result<Fields, &'static str> {
        self.deeper(|it| {
            let mut fields = Fields::default();
            let mut id = 0_i16;
            while let Some((found, code)) = it.field(id)? {
                id = found;
                match shape.iter().find(|known| known.0 == id) {
                    Some((_, kind)) => fields.0.push((id, it.value(*kind, code)?)),
                    None => it.skip(code)?,
                }
            }
            Ok(fields)
        })
    }

    /// The number and type of the next field; `None` at the end of the struct.
    fn field(&mut self, last: i16) -> Result<Option<(i16, u8)>, &'static str> {
        let byte = self.byte()?;
        let (delta, code) = (byte >> 4, byte & 0x0f);
        if code == 0 {
            return Ok(None);
        }
        let id = match delta {
            0 => self.int::<i16>()?,
            _ => last
                .checked_add(i16::from(delta))
                .ok_or("has a field number that is too large")?,
        };
        Ok(Some((id, code)))
    }

    /// A value of the type `code`, which must be the one expected.
    fn value(&mut self, kind: Kind, code: u8) -> Result<Value, &'static str> {
        self.n_values += 1;
        if MAX_VALUES < self.n_values {
            return Err("has too many values");
        }
        match (kind, code) {
            // The value of a field is in its type; elsewhere it is a byte.
            (Kind::Bool, 1 | 2) => Ok(Value::Int(i64::from(code == 1))),
            (Kind::I8, 3) => self.byte().map(|it| Value::Int(i64::from(it))),
            (Kind::I16, 4) => self.int::<i16>().map(|it| Value::Int(it.into())),
            (Kind::I32, 5) => self.int::<i32>().map(|it| Value::Int(it.into())),
            (Kind::I64, 6) => self.int::<i64>().map(Value::Int),
            (Kind::Binary, 8) => self.binary().map(|()| Value::Binary),
            (Kind::List(of), 9) => self.list(*of),
            (Kind::Struct(shape), 12) => self.fields(shape).map(Value::Struct),
            _ => Err("has a field of a type that it cannot have"),
        }
    }

    fn list(&mut self, of: Kind) -> Result<Value, &'static str> {
        let (n, code) = self.list_start()?;
        self.deeper(|it| {
            // Not with the room for `n`: what each takes shows when it is read.
            let mut values = Vec::new();
            for _ in 0..n {
                values.push(it.value(of, code)?);
            }
            Ok(Value::List(values))
        })
    }

    /// How many elements of which type; every one takes at least a byte.
    fn list_start(&mut self) -> Result<(usize, u8), &'static str> {
        let byte = self.byte()?;
        let n = match byte >> 4 {
            15 => self.varint()?,
            n => u64::from(n),
        };
        let n = self.within(n)?;
        if MAX_LIST < n {
            return Err("has a list of more than 65,536 elements");
        }
        Ok((n, byte & 0x0f))
    }

    fn skip(&mut self, code: u8) -> Result<(), &'static str> {
        match code {
            1 | 2 => Ok(()),
            3 => self.byte().map(drop),
            4..=6 => self.varint().map(drop),
            7 => self.advance(8),
            8 => self.binary(),
            9 | 10 => self.deeper(|it| {
                let (n, code) = it.list_start()?;
                (0..n).try_for_each(|_| it.skip_element(code))
            }),
            11 => self.deeper(Self::skip_map),
            12 => self.deeper(|it| {
                let mut id = 0;
                while let Some((found, code)) = it.field(id)? {
                    id = found;
                    it.skip(code)?;
                }
                Ok(())
            }),
            _ => Err("has a field of an unknown type"),
        }
    }

    /// Of a list or map, where a truth value takes a byte.
    fn skip_element(&mut self, code: u8) -> Result<(), &'static str> {
        match code {
            1 | 2 => self.byte().map(drop),
            code => self.skip(code),
        }
    }

    fn skip_map(&mut self) -> Result<(), &'static str> {
        let n = self.varint()?;
        let n = self.within(n)?;
        if n == 0 {
            return Ok(());
        }
        let types = self.byte()?;
        for _ in 0..n {
            self.skip_element(types >> 4)?;
            self.skip_element(types & 0x0f)?;
        }
        Ok(())
    }

    fn deeper<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, &'static str>,
    ) -> Result<T, &'static str> {
        self.depth += 1;
        if MAX_DEPTH < self.depth {
            return Err("nests too deeply");
        }
        let value = read(self);
        self.depth -= 1;
        value
    }

    fn byte(&mut self) -> Result<u8, &'static str> {
        let byte = self.bytes.get(self.at).ok_or("ends too early")?;
        self.at += 1;
        Ok(*byte)
    }

    fn binary(&mut self) -> Result<(), &'static str> {
        let n = self.varint()?;
        let n = self.within(n)?;
        self.advance(n)
    }

    fn advance(&mut self, n: usize) -> Result<(), &'static str> {
        self.at += self.within(n as u64)?;
        Ok(())
    }

    /// `n`, if so many bytes are left.
    fn within(&self, n: u64) -> Result<usize, &'static str> {
        let left = self.bytes.len() - self.at;
        usize::try_from(n)
            .ok()
            .filter(|it| *it <= left)
            .ok_or("says more than it has bytes for")
    }

    fn int<T: TryFrom<i64>>(&mut self) -> Result<T, &'static str> {
        let it = self.varint()?;
        let signed = (it >> 1).cast_signed() ^ -(it & 1).cast_signed();
        T::try_from(signed).map_err(|_| "has a number out of its range")
    }

    fn varint(&mut self) -> Result<u64, &'static str> {
        let mut value = 0_u64;
        for i in 0..10 {
            let byte = self.byte()?;
            let part = u64::from(byte & 0x7f);
            // The tenth byte has room for one bit.
            if i == 9 && 1 < part {
                break;
            }
            value |= part << (7 * i);
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err("has a number of more than 64 bits")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INNER: Shape = &[(1, Kind::I64)];
    const OUTER: Shape = &[
        (1, Kind::I32),
        (2, Kind::Binary),
        (3, Kind::List(&Kind::Struct(INNER))),
        (4, Kind::Bool),
        (5, Kind::I16),
    ];

    #[test]
    fn a_struct_is_read_as_the_protocol_says() {
        let bytes = [
            0x15, 0x03, // 1: i32, zigzag 3 = -2
            0x18, 0x02, b'h', b'i', // 2: binary
            0x19, 0x2c, 0x16, 0x02, 0x00,
            0x00, // 3: two structs, of which the first has 1: i64 = 1
            0x11, // 4: true
            0x09, 0x92, 0x01, 0x25, 0x02, 0x04, // 73, by its own number: a list of two i32
            0x00, 0xff,
        ];
        let (fields, n) = read(&bytes, OUTER).unwrap();
        assert_eq!(n, bytes.len() - 1, "what follows is not read");
        assert_eq!(fields.int(1), Some(-2));
        assert_eq!(fields.int(4), Some(1));
        assert_eq!(fields.int(5), None);
        let inner: Vec<Option<i64>> = fields.structs(3).map(|it| it.int(1)).collect();
        assert_eq!(inner, [Some(1), None]);
        for cut in 0..n {
            assert!(read(&bytes[..cut], OUTER).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn what_says_more_than_it_has_is_refused() {
        let deep: Vec<u8> = std::iter::repeat_n(0x7c, 100).collect();
        let many = [&[0x69, 0xf5, 0xff, 0xff, 0x7f][..], &[0; 100]].concat();
        for (bytes, expected) in [
            (&[0x16, 0x02, 0x00][..], "of a type that it cannot have"),
            // 2^31, which is no i32.
            (
                &[0x15, 0x80, 0x80, 0x80, 0x80, 0x10, 0x00],
                "out of its range",
            ),
            (&[0x15], "ends too early"),
            (&[0x28, 0x7f, 0x00], "more than it has bytes for"),
            (&[0x39, 0xfc, 0xff, 0xff, 0x03], "more than it has bytes"),
            (&[0x39, 0x15, 0x02, 0x00], "of a type that it cannot have"),
            (&[0x6d, 0x00], "unknown type"),
            (
                &[0x15, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 0],
                "more than 64 bits",
            ),
            (&deep, "nests too deeply"),
            (&many, "more than it has bytes for"),
        ] {
            let err = read(bytes, OUTER).unwrap_err();
            assert!(err.contains(expected), "{bytes:x?}: {err}");
        }
        // Field 3 again and again, a list of structs of a byte each: 65,536, and 65,537.
        let list = |length: u8, n: usize| [vec![0x09, 0x06, 0xfc, length, 0x80, 0x04], vec![0; n]];
        let (full, long) = (
            list(0x80, 1 << 16).concat(),
            list(0x81, (1 << 16) + 1).concat(),
        );
        assert!(read(&[&full[..], &[0]].concat(), OUTER).is_ok());
        let err = read(&long, OUTER).unwrap_err();
        assert!(err.contains("more than 65,536 elements"), "{err}");
        let err = read(&full.repeat(64), OUTER).unwrap_err();
        assert!(err.contains("too many values"), "{err}");
    }
}
