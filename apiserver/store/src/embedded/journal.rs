//! The journal of an embedded store: what was committed since its database was last written. A commit is one record, one
//! write at one place of a file whose length does not change; the database, which needs many, follows now and then.

use std::{io, ops::RangeInclusive};

use redb::StorageBackend;
use serde::{Deserialize, Serialize};
use serde_bytes::Bytes;

use crate::Revision;

/// What the file takes; what is not in the database yet takes no more.
pub(super) const BYTES: usize = 2 << 20;
/// The length of what follows, a checksum of all but itself, and the record's number.
const HEADER: usize = 16;
/// Records begin at multiples of it.
const ALIGNMENT: usize = 8;

/// What a commit changes.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record<'a> {
    #[serde(borrow)]
    pub changes: Vec<Change<'a>>,
    pub compacted: Option<Revision>,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Change<'a> {
    pub revision: Revision,
    pub key: &'a str,
    pub created: Revision,
    pub expires: Option<u64>,
    /// None: a deletion.
    #[serde(borrow)]
    pub value: Option<&'a Bytes>,
}

/// Records are numbered, over all the time of a store: what an earlier turn has left in the file has lower numbers.
pub(super) struct Journal {
    disk: Box<dyn StorageBackend>,
    /// Where the next record begins.
    end: usize,
    /// The number of the next record.
    next: u64,
}

impl Journal {
    /// The journal that begins with the record of this number, at its end, and all that it holds.
    pub fn open(disk: Box<dyn StorageBackend>, first: u64) -> io::Result<(Self, Vec<u8>)> {
        let mut bytes = vec![0; BYTES];
        disk.read(0, &mut bytes)?;
        let (mut end, mut next) = (0, first);
        while let Some(length) = length_of(&bytes[end..], next..=next) {
            (end, next) = (end + length, next.saturating_add(1));
        }
        // A crash leaves one record unfinished, the last one.
        let later =
            |at: &usize| length_of(&bytes[*at..], next.saturating_add(1)..=next.saturating_add(BYTES as u64)).is_some();
        if let Some(at) = (end..BYTES).step_by(ALIGNMENT).find(later) {
            let what = format!("what should stand before byte {at} of the journal is not there");
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        }
        bytes.truncate(end);
        Ok((Self { disk, end, next }, bytes))
    }

    /// The number of the next record.
    pub const fn next(&self) -> u64 {
        self.next
    }

    /// Makes a record durable. False: there is no room left for it.
    pub fn append(&mut self, record: &Record<'_>) -> io::Result<bool> {
        let bytes = encode(record, self.next)?;
        if bytes.len() > BYTES - self.end {
            return Ok(false);
        }
        self.disk.write(self.end as u64, &bytes)?;
        self.disk.sync_data()?;
        self.end += bytes.len();
        self.next += 1;
        Ok(true)
    }

    /// Begins again: all its records are in the database now, which knows the number of the next one.
    pub const fn restart(&mut self) {
        self.end = 0;
    }
}

/// The records that [`Journal::open`] has found.
pub(super) fn records(mut bytes: &[u8]) -> impl Iterator<Item = io::Result<Record<'_>>> {
    std::iter::from_fn(move || {
        let (this, rest) = bytes.split_at(length_of(bytes, 1..=u64::MAX)?);
        bytes = rest;
        // What comes after a record to fill it up is no part of it.
        Some(postcard::take_from_bytes(&this[HEADER..]).map(|(record, _)| record).map_err(invalid))
    })
}

fn encode(record: &Record<'_>, number: u64) -> io::Result<Vec<u8>> {
    let mut bytes = postcard::to_extend(record, vec![0; HEADER]).map_err(invalid)?;
    bytes.resize(bytes.len().next_multiple_of(ALIGNMENT), 0);
    let length =
        u32::try_from(bytes.len() - HEADER).map_err(|error| io::Error::new(io::ErrorKind::FileTooLarge, error))?;
    bytes[..4].copy_from_slice(&length.to_le_bytes());
    bytes[8..HEADER].copy_from_slice(&number.to_le_bytes());
    let checksum = checksum(&bytes);
    bytes[4..8].copy_from_slice(&checksum.to_le_bytes());
    Ok(bytes)
}

/// The length of the record that the bytes begin with, if that is whole and has one of these numbers.
fn length_of(bytes: &[u8], numbers: RangeInclusive<u64>) -> Option<usize> {
    let (length, rest) = bytes.split_first_chunk()?;
    let (sum, rest) = rest.split_first_chunk()?;
    let number = u64::from_le_bytes(*rest.first_chunk()?);
    let length = HEADER.checked_add(u32::from_le_bytes(*length).try_into().ok()?)?;
    let whole = bytes.get(..length).filter(|_| numbers.contains(&number))?;
    (checksum(whole) == u32::from_le_bytes(*sum)).then_some(length)
}

/// Of a record, but for the place of the checksum itself.
fn checksum(record: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&record[..4]);
    hasher.update(&record[8..]);
    hasher.finalize()
}

fn invalid(error: postcard::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use redb::backends::InMemoryBackend;

    use super::*;

    fn journal() -> Journal {
        Journal { disk: Box::new(InMemoryBackend::new()), end: 0, next: 7 }
    }

    /// A journal of these values, each a record of its own, and the bytes of its file.
    fn written(values: &[Vec<u8>]) -> Vec<u8> {
        let mut journal = journal();
        journal.disk.set_len(BYTES as u64).unwrap();
        for (value, revision) in values.iter().zip(1..) {
            let change = Change { revision, key: "/a", created: 1, expires: None, value: Some(Bytes::new(value)) };
            assert!(journal.append(&Record { changes: vec![change], compacted: None }).unwrap());
        }
        let mut bytes = vec![0; BYTES];
        journal.disk.read(0, &mut bytes).unwrap();
        bytes
    }

    fn read(bytes: &[u8]) -> io::Result<Vec<Vec<u8>>> {
        let disk = InMemoryBackend::new();
        disk.set_len(bytes.len() as u64)?;
        disk.write(0, bytes)?;
        let (_, found) = Journal::open(Box::new(disk), 7)?;
        let values =
            |record: Record<'_>| record.changes.iter().flat_map(|change| change.value.unwrap().to_vec()).collect();
        records(&found).map(|record| record.map(values)).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_changed_byte_is_told_or_ends_it(
            values in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 1..6),
            at in any::<prop::sample::Index>(),
            change in 1..=u8::MAX,
        ) {
            let mut bytes = written(&values);
            prop_assert_eq!(&read(&bytes).unwrap(), &values);
            let written = bytes.iter().rposition(|byte| *byte != 0).unwrap();
            bytes[at.index(written + 1)] ^= change;
            if let Ok(found) = read(&bytes) {
                prop_assert_eq!(found, &values[..values.len() - 1]);
            }
        }
    }

    #[test]
    fn an_earlier_turn_is_no_part_of_it() {
        let (long, short) = (vec![b'x'; 2000], Bytes::new(b"y"));
        let mut journal = journal();
        journal.disk.set_len(BYTES as u64).unwrap();
        let mut append = |value, restarts: bool| {
            if restarts {
                journal.restart();
            }
            let change = Change { revision: 1, key: "/a", created: 1, expires: None, value: Some(value) };
            journal.append(&Record { changes: vec![change], compacted: None }).unwrap()
        };
        assert!(append(Bytes::new(&long), false) && append(Bytes::new(&long), false) && append(short, true));
        let (journal, found) = Journal::open(journal.disk, 9).unwrap();
        assert_eq!((journal.next(), records(&found).count()), (10, 1));
    }
}
