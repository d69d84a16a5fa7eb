//! Which of the free members of a range is taken: pure, randomness is an argument.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crds::syntax;

/// A number below the one that is given, which is not zero.
pub type Random<'a> = dyn FnMut(u128) -> u128 + Send + 'a;

/// A range whose lower part is left to those who name what they want, until the rest is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    pub first: u128,
    pub last: u128,
    /// Size of the lower part.
    pub reserved: u128,
}

impl Range {
    pub fn contains(&self, member: u128) -> bool {
        (self.first..=self.last).contains(&member)
    }

    /// A member that is not taken: from a random one of the upper part upwards and around, then the lower part so.
    pub fn choose(&self, taken: &dyn Fn(u128) -> bool, random: &mut Random) -> Option<u128> {
        let split = self.first.saturating_add(self.reserved);
        let lower = split.checked_sub(1).map(|last| (self.first, last));
        [Some((split, self.last)), lower].into_iter().flatten().find_map(|(first, last)| {
            let size = last.checked_sub(first)?.saturating_add(1);
            let start = random(size);
            let ascending = (start..size).chain(0..start);
            ascending.map(|offset| first + offset).find(|member| !taken(*member))
        })
    }
}

/// A block of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// The address that the block is named by, which nobody gets.
    pub network: IpAddr,
    pub length: u8,
    pub range: Range,
}

impl Block {
    /// None: it is no block, or has no room.
    pub fn parse(text: &str) -> Option<Self> {
        let (address, length) = syntax::parse_cidr(text)?;
        let network = syntax::masked(address, length);
        let bits: u8 = if network.is_ipv4() { 32 } else { 128 };
        let hosts = 1u128.checked_shl(u32::from(bits.checked_sub(length)?)).map_or(u128::MAX, |size| size - 1);
        // The last address of an IPv4 block is for broadcasts.
        let last = number(network).checked_add(if network.is_ipv4() { hosts.checked_sub(1)? } else { hosts })?;
        let first = number(network).checked_add(1)?;
        let size = hosts.saturating_add(1);
        let reserved = if size <= RESERVED_MIN { 0 } else { (size / RESERVED_STEP).clamp(RESERVED_MIN, RESERVED_MAX) };
        (first <= last).then_some(Self { network, length, range: Range { first, last, reserved } })
    }

    pub fn is_ipv4(&self) -> bool {
        self.network.is_ipv4()
    }

    pub fn contains(&self, address: IpAddr) -> bool {
        address.is_ipv4() == self.is_ipv4() && self.range.contains(number(address))
    }

    pub fn choose(&self, taken: &dyn Fn(IpAddr) -> bool, random: &mut Random) -> Option<IpAddr> {
        let address = |member| self.address(member);
        self.range.choose(&|member| address(member).is_none_or(taken), random).and_then(address)
    }

    fn address(&self, member: u128) -> Option<IpAddr> {
        if self.is_ipv4() {
            return u32::try_from(member).ok().map(|bits| Ipv4Addr::from(bits).into());
        }
        Some(Ipv6Addr::from(member).into())
    }
}

/// How much of a block is left to those who name an address: a sixteenth, within bounds.
const RESERVED_MIN: u128 = 16;
const RESERVED_MAX: u128 = 256;
const RESERVED_STEP: u128 = 16;

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u32::from(address).into(),
        IpAddr::V6(address) => address.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(block: &str, taken: &[&str], random: u128) -> Option<String> {
        let taken = |ip: IpAddr| taken.contains(&ip.to_string().as_str());
        Block::parse(block)?.choose(&taken, &mut |bound| random % bound).map(|ip| ip.to_string())
    }

    #[test]
    fn blocks_give_their_upper_part_first() {
        let cases: [(&str, &[&str], u128, Option<&str>); 9] = [
            ("10.96.0.0/12", &[], 0, Some("10.96.1.1")),
            ("10.96.0.0/12", &["10.96.1.1"], 0, Some("10.96.1.2")),
            ("10.0.0.0/24", &[], 0, Some("10.0.0.17")),
            ("10.0.0.0/24", &[], 237, Some("10.0.0.254")),
            ("10.0.0.0/24", &["10.0.0.254"], 237, Some("10.0.0.17")),
            ("10.0.0.0/30", &["10.0.0.1"], 0, Some("10.0.0.2")),
            ("10.0.0.0/30", &["10.0.0.1", "10.0.0.2"], 0, None),
            ("10.0.0.0/32", &[], 0, None),
            ("fd00::/112", &[], 0, Some("fd00::101")),
        ];
        for (block, taken, random, want) in cases {
            assert_eq!(chosen(block, taken, random).as_deref(), want, "{block} {taken:?} {random}");
        }
    }

    #[test]
    fn the_lower_part_is_given_when_the_upper_is_full() {
        let range = Range { first: 10, last: 19, reserved: 4 };
        let choose = |free: &[u128]| range.choose(&|member| !free.contains(&member), &mut |bound| bound - 1);
        assert_eq!(choose(&[11, 14]), Some(14));
        assert_eq!(choose(&[11]), Some(11));
        assert_eq!(choose(&[]), None);
    }

    #[test]
    fn neither_network_nor_broadcast_is_contained() {
        let block = Block::parse("10.0.0.0/24").unwrap();
        for (address, want) in
            [("10.0.0.0", false), ("10.0.0.1", true), ("10.0.0.254", true), ("10.0.0.255", false), ("::1", false)]
        {
            assert_eq!(block.contains(address.parse().unwrap()), want, "{address}");
        }
    }
}
