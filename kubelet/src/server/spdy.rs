//! The little of SPDY/3.1 that a runtime's streaming server needs of its client: open streams, data, and their ends.

use bytes::{Buf, BufMut, Bytes, BytesMut};

const VERSION: u16 = 3;
const SYN_STREAM: u16 = 1;
const SYN_REPLY: u16 = 2;
const RST_STREAM: u16 = 3;
const PING: u16 = 6;
const GOAWAY: u16 = 7;
const FIN: u8 = 1;
/// The checksum of the dictionary that both sides prime their compression with.
const DICTIONARY: u32 = 0xe3c6_a7c2;
/// The largest frame that is taken, in bytes.
const FRAME_MAX: usize = 16 << 20;

/// What the other side sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    Data {
        stream: u32,
        fin: bool,
        data: Bytes,
    },
    Reset {
        stream: u32,
    },
    /// To be sent back as it is.
    Ping(Bytes),
    GoAway,
    /// An answer to a new stream, or what needs no answer.
    Other,
}

/// A frame that is too large to be meant.
#[derive(Debug, thiserror::Error)]
#[error("a frame of {0} bytes is too large")]
pub struct TooLarge(usize);

/// Makes and reads the frames of one connection.
#[derive(Default)]
pub struct Framer {
    begun: bool,
}

impl Framer {
    /// Opens a stream with its headers. Clients number theirs 1, 3, 5, …
    pub fn open(&mut self, stream: u32, headers: &[(&str, &str)]) -> Bytes {
        let mut block = BytesMut::new();
        block.put_u32(u32::try_from(headers.len()).unwrap_or_default());
        for (name, value) in headers {
            for text in [name, value] {
                block.put_u32(u32::try_from(text.len()).unwrap_or_default());
                block.put_slice(text.as_bytes());
            }
        }
        let mut body = BytesMut::new();
        body.put_u32(stream);
        body.put_u32(0);
        body.put_u16(0);
        body.put(self.stored(&block));
        control(SYN_STREAM, 0, &body)
    }

    /// The block as a compressor would write it that stores everything: it is small, and sent once.
    fn stored(&mut self, block: &[u8]) -> Bytes {
        let mut out = BytesMut::new();
        if !self.begun {
            self.begun = true;
            // A zlib stream with a dictionary: 0x78, and flags that make the pair a multiple of 31.
            out.put_slice(&[0x78, 0xbb]);
            out.put_u32(DICTIONARY);
        }
        let length = u16::try_from(block.len()).unwrap_or(u16::MAX);
        out.put_u8(0);
        out.put_u16_le(length);
        out.put_u16_le(!length);
        out.put_slice(&block[..usize::from(length)]);
        // An empty block ends at a whole byte, so that all before it can be read.
        out.put_slice(&[0, 0, 0, 0xff, 0xff]);
        out.freeze()
    }
}

fn control(kind: u16, flags: u8, body: &[u8]) -> Bytes {
    let mut frame = BytesMut::new();
    frame.put_u16(0x8000 | VERSION);
    frame.put_u16(kind);
    frame.put_u8(flags);
    frame.put_uint(body.len() as u64, 3);
    frame.put_slice(body);
    frame.freeze()
}

/// Data of a stream; with `fin` its last.
pub fn data(stream: u32, data: &[u8], fin: bool) -> Bytes {
    let mut frame = BytesMut::new();
    frame.put_u32(stream);
    frame.put_u8(if fin { FIN } else { 0 });
    frame.put_uint(data.len() as u64, 3);
    frame.put_slice(data);
    frame.freeze()
}

/// Takes a whole frame off the front; `None` until more has come.
pub fn take(buffer: &mut BytesMut) -> Result<Option<Frame>, TooLarge> {
    if buffer.len() < 8 {
        return Ok(None);
    }
    let length = usize::from(buffer[5]) << 16 | usize::from(buffer[6]) << 8 | usize::from(buffer[7]);
    if length > FRAME_MAX {
        return Err(TooLarge(length));
    }
    if buffer.len() < 8 + length {
        return Ok(None);
    }
    let mut frame = buffer.split_to(8 + length).freeze();
    let whole = frame.clone();
    let (first, flags) = (frame.get_u32(), frame.get_u8());
    frame.advance(3);
    if first & 0x8000_0000 == 0 {
        return Ok(Some(Frame::Data { stream: first, fin: flags & FIN != 0, data: frame }));
    }
    Ok(Some(match (first & 0xffff) as u16 {
        RST_STREAM if frame.len() >= 4 => Frame::Reset { stream: frame.get_u32() & 0x7fff_ffff },
        SYN_REPLY if flags & FIN != 0 && frame.len() >= 4 => {
            Frame::Data { stream: frame.get_u32() & 0x7fff_ffff, fin: true, data: Bytes::new() }
        }
        PING => Frame::Ping(whole),
        GOAWAY => Frame::GoAway,
        _ => Frame::Other,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_there_and_back() {
        let mut buffer = BytesMut::new();
        buffer.put(data(5, b"hello", false));
        buffer.put(data(5, b"", true));
        buffer.put(control(PING, 0, &7u32.to_be_bytes()));
        buffer.put(control(RST_STREAM, 0, &[0, 0, 0, 3, 0, 0, 0, 1]));
        buffer.put(&data(1, b"cut", false)[..9]);
        let mut frames = Vec::new();
        while let Some(frame) = take(&mut buffer).unwrap() {
            frames.push(frame);
        }
        let part = |text: &'static [u8], fin| Frame::Data { stream: 5, fin, data: Bytes::from_static(text) };
        assert_eq!(frames[..2], [part(b"hello", false), part(b"", true)]);
        assert!(matches!(&frames[2], Frame::Ping(f) if f.len() == 12));
        assert_eq!(frames[3..], [Frame::Reset { stream: 3 }]);
        assert_eq!(buffer.len(), 9);
    }

    #[test]
    fn headers_are_primed_once() {
        let mut framer = Framer::default();
        let first = framer.open(1, &[("streamtype", "error")]);
        assert_eq!(first[..8], [0x80, 3, 0, 1, 0, 0, 0, u8::try_from(first.len() - 8).unwrap()]);
        assert_eq!(first[18..24], [0x78, 0xbb, 0xe3, 0xc6, 0xa7, 0xc2]);
        assert_eq!((0x78u32 << 8 | 0xbb) % 31, 0);
        let second = framer.open(3, &[("streamtype", "stdin")]);
        assert_eq!(second[18], 0);
    }
}
