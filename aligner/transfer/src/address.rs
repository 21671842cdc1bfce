//! Which addresses may be connected to: pure tables.
//!
//! A host name says nothing: whoever owns a name decides where it leads, and may decide otherwise
//! a second later. So the addresses are judged, each of them, and those that were judged are
//! connected to. The standard library's tests are not enough: they let pass carrier-grade NAT,
//! benchmarking and reserved ranges, and IPv4 addresses inside IPv6 ones.
//!
//! Ranges: the IANA registries of special-purpose addresses (RFC 6890 and its updates), and the
//! metadata services of clouds that lie outside of them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// How far an address reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// The public internet.
    Public,
    /// A cluster, a company, this machine: only for origins that are allowed so.
    Private,
    /// Metadata services, neighbours on the link, groups, ranges without hosts: never.
    Never,
}

const V4: [([u8; 4], u32, Reach); 17] = [
    ([0, 0, 0, 0], 8, Reach::Never),
    ([10, 0, 0, 0], 8, Reach::Private),
    // Before the range that it lies in: a metadata service.
    ([100, 100, 100, 200], 32, Reach::Never),
    ([100, 64, 0, 0], 10, Reach::Private),
    ([127, 0, 0, 0], 8, Reach::Private),
    ([168, 63, 129, 16], 32, Reach::Never),
    ([169, 254, 0, 0], 16, Reach::Never),
    ([172, 16, 0, 0], 12, Reach::Private),
    ([192, 0, 0, 0], 24, Reach::Never),
    ([192, 0, 2, 0], 24, Reach::Never),
    ([192, 88, 99, 0], 24, Reach::Never),
    ([192, 168, 0, 0], 16, Reach::Private),
    ([198, 18, 0, 0], 15, Reach::Never),
    ([198, 51, 100, 0], 24, Reach::Never),
    ([203, 0, 113, 0], 24, Reach::Never),
    ([224, 0, 0, 0], 4, Reach::Never),
    ([240, 0, 0, 0], 4, Reach::Never),
];

const V6: [([u16; 8], u32, Reach); 10] = [
    ([0, 0, 0, 0, 0, 0, 0, 1], 128, Reach::Private),
    // Tunnels and translations: what they lead to cannot be judged, or is in another table.
    ([0x2001, 0, 0, 0, 0, 0, 0, 0], 23, Reach::Never),
    ([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 32, Reach::Never),
    ([0x2002, 0, 0, 0, 0, 0, 0, 0], 16, Reach::Never),
    ([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20, Reach::Never),
    // Before the range that it lies in: a metadata service.
    ([0xfd00, 0xec2, 0, 0, 0, 0, 0, 0], 32, Reach::Never),
    ([0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254], 128, Reach::Never),
    ([0xfc00, 0, 0, 0, 0, 0, 0, 0], 7, Reach::Private),
    ([0x2000, 0, 0, 0, 0, 0, 0, 0], 3, Reach::Public),
    // Everything else is unassigned, local to a link, or a group.
    ([0, 0, 0, 0, 0, 0, 0, 0], 0, Reach::Never),
];

/// How far an address reaches.
pub fn reach(address: IpAddr) -> Reach {
    match address {
        IpAddr::V4(address) => reach_v4(address),
        IpAddr::V6(address) => reach_v6(address),
    }
}

fn reach_v4(address: Ipv4Addr) -> Reach {
    let bits = u32::from(address);
    let mut rows = V4.iter();
    rows.find(|(base, length, _)| {
        let shift = 32 - length;
        bits >> shift == u32::from(Ipv4Addr::from(*base)) >> shift
    })
    .map_or(Reach::Public, |(_, _, reach)| *reach)
}

fn reach_v6(address: Ipv6Addr) -> Reach {
    // The system connects to the IPv4 address inside.
    if let Some(inner) = address.to_ipv4_mapped() {
        return reach_v4(inner);
    }
    // NAT64, the only way to IPv4 from some networks; not a way to somewhere private.
    if let [0x64, 0xff9b, 0, 0, 0, 0, high, low] = address.segments() {
        let inner = Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
        return match reach_v4(inner) {
            Reach::Public => Reach::Public,
            _ => Reach::Never,
        };
    }
    let bits = u128::from(address);
    let mut rows = V6.iter();
    rows.find(|(base, length, _)| {
        let base = u128::from(Ipv6Addr::from(*base));
        // A shift by all 128 bits would overflow; it is the last row, which takes everything.
        bits.checked_shr(128 - length) == base.checked_shr(128 - length)
    })
    .map_or(Reach::Never, |(_, _, reach)| *reach)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(texts: &[&str], expected: Reach) {
        for text in texts {
            assert_eq!(reach(text.parse().unwrap()), expected, "{text}");
        }
    }

    #[test]
    fn public_addresses_are_public() {
        all(
            &[
                "1.1.1.1",
                "9.255.255.255",
                "11.0.0.0",
                "100.63.255.255",
                "100.128.0.0",
                "126.255.255.255",
                "128.0.0.1",
                "169.253.255.255",
                "172.15.255.255",
                "172.32.0.0",
                "192.0.1.0",
                "192.167.255.255",
                "192.169.0.0",
                "198.17.255.255",
                "198.20.0.0",
                "223.255.255.255",
                "2606:4700::1111",
                "2a00:1450::1",
                "::ffff:1.1.1.1",
                "64:ff9b::1.1.1.1",
            ],
            Reach::Public,
        );
    }

    #[test]
    fn private_addresses_are_private() {
        all(
            &[
                "10.0.0.1",
                "100.64.0.1",
                "100.127.255.255",
                "127.0.0.1",
                "127.255.255.254",
                "172.16.0.1",
                "172.31.255.255",
                "192.168.0.1",
                "::1",
                "fc00::1",
                "fdff::1",
                "::ffff:10.0.0.1",
                "::ffff:127.0.0.1",
            ],
            Reach::Private,
        );
    }

    #[test]
    fn the_rest_is_never_connected_to() {
        all(
            &[
                "0.0.0.0",
                "0.1.2.3",
                "100.100.100.200",
                "168.63.129.16",
                "169.254.169.254",
                "169.254.170.2",
                "192.0.0.1",
                "192.0.0.192",
                "192.0.2.1",
                "192.88.99.1",
                "198.18.0.1",
                "198.19.255.255",
                "198.51.100.1",
                "203.0.113.1",
                "224.0.0.1",
                "239.255.255.255",
                "240.0.0.1",
                "255.255.255.255",
                "::",
                "::2",
                "::127.0.0.1",
                "::ffff:169.254.169.254",
                "::ffff:0.0.0.0",
                "64:ff9b::a9fe:a9fe",
                "64:ff9b::10.0.0.1",
                "64:ff9b::127.0.0.1",
                "64:ff9b:1::1.1.1.1",
                "100::1",
                "2001::1",
                "2001:1ff::1",
                "2001:db8::1",
                "2002:7f00:1::",
                "2002:a9fe:a9fe::",
                "3fff::1",
                "4000::1",
                "5f00::1",
                "fd00:ec2::254",
                "fd20:ce::254",
                "fe80::1",
                "fec0::1",
                "ff02::1",
            ],
            Reach::Never,
        );
    }
}
