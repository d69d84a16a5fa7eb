//! The wire format: tags, varints, lengths.

use super::ProtobufError;

#[derive(Clone, Copy, Debug)]
pub enum Payload<'a> {
    Varint(u64),
    Fixed64(u64),
    Fixed32,
    Bytes(&'a [u8]),
}

/// A field as it stands on the wire.
#[derive(Clone, Copy, Debug)]
pub struct WireField<'a> {
    pub number: u32,
    pub payload: Payload<'a>,
}

impl<'a> WireField<'a> {
    fn wrong(&self, field: &str) -> ProtobufError {
        let wire = match self.payload {
            Payload::Varint(_) => 0,
            Payload::Fixed64(_) => 1,
            Payload::Bytes(_) => 2,
            Payload::Fixed32 => 5,
        };
        ProtobufError::WireType { wire, field: field.to_owned() }
    }

    /// The payload of a text or message; `field` is the Go name for the error.
    pub fn bytes(&self, field: &str) -> Result<&'a [u8], ProtobufError> {
        if let Payload::Bytes(bytes) = self.payload { Ok(bytes) } else { Err(self.wrong(field)) }
    }

    pub fn varint(&self, field: &str) -> Result<u64, ProtobufError> {
        if let Payload::Varint(number) = self.payload { Ok(number) } else { Err(self.wrong(field)) }
    }

    pub fn double(&self, field: &str) -> Result<f64, ProtobufError> {
        if let Payload::Fixed64(bits) = self.payload { Ok(f64::from_bits(bits)) } else { Err(self.wrong(field)) }
    }
}

/// The fields of a message; it ends with the first error.
pub fn fields<'a>(name: &str, data: &'a [u8]) -> impl Iterator<Item = Result<WireField<'a>, ProtobufError>> {
    let mut data = data;
    std::iter::from_fn(move || {
        if data.is_empty() {
            return None;
        }
        let field = next(name, &mut data);
        if field.is_err() {
            data = &[];
        }
        Some(field)
    })
}

fn next<'a>(name: &str, data: &mut &'a [u8]) -> Result<WireField<'a>, ProtobufError> {
    let tag = varint(data)?;
    let number = match u32::try_from(tag >> 3) {
        Ok(number) if (1..1 << 29).contains(&number) => number,
        _ => return Err(ProtobufError::Tag { name: name.to_owned(), number: tag >> 3, wire: tag }),
    };
    let payload = match tag & 7 {
        0 => Payload::Varint(varint(data)?),
        1 => Payload::Fixed64(u64::from_le_bytes(fixed(data)?)),
        2 => {
            let length = usize::try_from(varint(data)?).map_err(|_| ProtobufError::Length)?;
            Payload::Bytes(take(data, length)?)
        }
        5 => {
            fixed::<4>(data)?;
            Payload::Fixed32
        }
        wire => return Err(ProtobufError::IllegalWireType(wire)),
    };
    Ok(WireField { number, payload })
}

fn take<'a>(data: &mut &'a [u8], length: usize) -> Result<&'a [u8], ProtobufError> {
    let (head, rest) = data.split_at_checked(length).ok_or(ProtobufError::Eof)?;
    *data = rest;
    Ok(head)
}

fn fixed<const N: usize>(data: &mut &[u8]) -> Result<[u8; N], ProtobufError> {
    take(data, N)?.try_into().map_err(|_| ProtobufError::Eof)
}

pub fn varint(data: &mut &[u8]) -> Result<u64, ProtobufError> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (first, rest) = data.split_first().ok_or(ProtobufError::Eof)?;
        *data = rest;
        number |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err(ProtobufError::Overflow)
}

pub fn put_varint(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn tag(number: u32, wire: u32, out: &mut Vec<u8>) {
    put_varint(u64::from(number << 3 | wire), out);
}

pub fn number(field: u32, value: u64, out: &mut Vec<u8>) {
    tag(field, 0, out);
    put_varint(value, out);
}

pub fn double(field: u32, value: f64, out: &mut Vec<u8>) {
    tag(field, 1, out);
    out.extend_from_slice(&value.to_le_bytes());
}

pub fn bytes(field: u32, value: &[u8], out: &mut Vec<u8>) {
    tag(field, 2, out);
    put_varint(value.len() as u64, out);
    out.extend_from_slice(value);
}

/// A field whose payload `write` makes: its length is put in front once it is known.
pub fn nested<T>(field: u32, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>) -> T) -> T {
    tag(field, 2, out);
    let at = out.len();
    out.push(0);
    let result = write(out);
    let length = out.len() - at - 1;
    if length < 0x80 {
        out[at] = length as u8;
    } else {
        let mut prefix = Vec::with_capacity(10);
        put_varint(length as u64, &mut prefix);
        out.splice(at..=at, prefix);
    }
    result
}
