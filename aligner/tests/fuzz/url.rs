//! URLs, redirects, origins and addresses: what may be connected to, beside a second reading of
//! each by other code.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::LazyLock,
};

use aligner::net::{
    address::Reach,
    policy::{Policy, check_addresses},
};
use alignment_api::{Origin, WebUrl};
use fastrand::Rng;
use ureq::http::Uri;

use crate::Reached;

const ALLOWED: [(&str, &str, &str, u16); 4] = [
    ("https://a.example", "https", "a.example", 443),
    ("http://b.local:8080", "http", "b.local", 8080),
    ("https://[fd00::1]:8443", "https", "[fd00::1]", 8443),
    ("http://10.0.0.7", "http", "10.0.0.7", 80),
];

const SEEDS: &[&str] = &[
    "https://a.example/list",
    "https://A.EXAMPLE:443/download/x.nii.gz?signature=1",
    "http://b.local:8080/base/",
    "https://[FD00:0::1]:8443/x",
    "http://10.0.0.7:80/",
    "https://evil.example/",
    "https://a.example.evil.example/",
    "https://169.254.169.254/latest/meta-data",
    "//evil.example/x",
    "/download/y.nii",
    "z?a=b",
];

const PIECES: &[&str] = &[
    "https",
    "http",
    "://",
    ":",
    "//",
    "/",
    "@",
    "?",
    "#",
    "\\",
    ".",
    "..",
    "%2e",
    "%2F",
    "%40",
    "%",
    "%00",
    "a",
    "a.example",
    "b.local",
    "evil.example",
    "xn--a",
    "127.0.0.1",
    "0x7f",
    "0177.0.0.1",
    "2130706433",
    "[::1]",
    "[",
    "]",
    "fd00::1",
    "%25eth0",
    "443",
    "8080",
    "0",
    "00443",
    "65536",
    " ",
    "\t",
    "\r\n",
    "\0",
    "é",
    "。",
    "ａ",
    "\u{ad}",
    "-",
    "_",
    "&",
    "=",
];

static POLICY: LazyLock<Policy> = LazyLock::new(|| {
    let origins = |which: &[usize]| -> Vec<Origin> {
        let texts = which.iter().map(|at| ALLOWED[*at].0);
        texts.map(|text| Origin::parse(text).unwrap()).collect()
    };
    Policy::new(&origins(&[0]), &origins(&[1, 2, 3]))
});

pub(crate) fn policy(random: &mut Rng) -> Reached {
    addresses(random);
    let text = text(random);
    let Ok(url) = WebUrl::parse(&text) else {
        return Reached::Nothing;
    };
    let allowed = judge(&url);
    let from = WebUrl::parse("https://a.example/base/list").unwrap();
    if let Ok(next) = from.redirected(&self::text(random)) {
        judge(&next);
    }
    if allowed {
        Reached::End
    } else {
        Reached::Inside
    }
}

/// A good URL with some pieces in the wrong place, or pieces alone.
fn text(random: &mut Rng) -> String {
    let mut text = match random.u8(..8) {
        0 => String::new(),
        _ => SEEDS[random.usize(..SEEDS.len())].to_owned(),
    };
    for _ in 0..random.u8(..4) {
        let mut at = random.usize(..=text.len());
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        let piece = PIECES[random.usize(..PIECES.len())];
        if random.u8(..4) == 0 {
            text.truncate(at);
        }
        text.insert_str(at, piece);
    }
    text
}

/// What was read is read the same again, by the client's own reader, too; allowed is what the list
/// says, whatever the text looked like.
fn judge(url: &WebUrl) -> bool {
    let sent = url.request_text();
    assert_eq!(&WebUrl::parse(&sent).unwrap(), url, "{sent:?}");
    let uri: Uri = sent.parse().unwrap();
    let scheme = uri.scheme_str().unwrap();
    let host = uri.host().unwrap();
    let port = uri
        .port_u16()
        .unwrap_or(if scheme == "http" { 80 } else { 443 });
    let expected = ALLOWED
        .iter()
        .any(|(_, s, h, p)| (*s, *h, *p) == (scheme, host, port));
    assert!(!uri.authority().unwrap().as_str().contains('@'), "{sent:?}");
    match POLICY.check(url) {
        Ok(_) => assert!(expected, "{sent:?}"),
        Err(problem) => {
            assert!(!expected, "{sent:?}");
            assert!(!problem.contains("signature"), "{problem}");
        }
    }
    let shown = url.shown();
    assert!(!shown.contains('?') && shown.starts_with(&url.origin().to_string()));
    // Whatever a name contains, it stays below the base and in one part of the path.
    let name = url.request_text();
    let child = url.child(&["download", &name]);
    assert_eq!(child.origin(), url.origin());
    assert!(!child.has_query() && child.request_text().ends_with(&encoded(&name)));
    expected
}

fn encoded(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b);
    let parts = text.bytes().map(|b| {
        if plain(b) {
            char::from(b).to_string()
        } else {
            format!("%{b:02X}")
        }
    });
    parts.collect()
}

/// One to three addresses of a host.
fn addresses(random: &mut Rng) {
    let found: Vec<SocketAddr> = (0..random.usize(1..4))
        .map(|_| SocketAddr::new(address(random), 443))
        .collect();
    let all = |good: fn(IpAddr) -> bool| found.iter().all(|address| good(address.ip()));
    if check_addresses(&found, Reach::Public).is_ok() {
        assert!(all(is_public), "{found:?}");
        assert!(check_addresses(&found, Reach::Private).is_ok());
    }
    if check_addresses(&found, Reach::Private).is_ok() {
        assert!(all(is_public_or_private), "{found:?}");
    }
}

fn address(random: &mut Rng) -> IpAddr {
    const NEAR: [u32; 12] = [
        0x0000_0000,
        0x0a00_0000,
        0x6440_0000,
        0x6464_64c8,
        0x7f00_0000,
        0xa83f_8110,
        0xa9fe_a9fe,
        0xac10_0000,
        0xc0a8_0000,
        0xc612_0000,
        0xe000_0000,
        0xffff_ffff,
    ];
    let near = NEAR[random.usize(..NEAR.len())];
    let v4 = match random.u8(..3) {
        0 => random.u32(..),
        1 => near ^ (1 << random.u32(..32)),
        _ => near.wrapping_add(random.u32(..1 << 20)),
    };
    let v4 = Ipv4Addr::from(v4);
    let high = |prefix: u16, random: &mut Rng| {
        let rest = random.u128(..) >> 16;
        Ipv6Addr::from((u128::from(prefix) << 112) | rest)
    };
    match random.u8(..8) {
        0..4 => v4.into(),
        4 => v4.to_ipv6_mapped().into(),
        5 => Ipv6Addr::from((0x64_ff9b_u128 << 96) | u128::from(u32::from(v4))).into(),
        6 => {
            let prefixes = [
                0, 0x2001, 0x2002, 0x2606, 0x3fff, 0xfc00, 0xfd00, 0xfe80, 0xff02,
            ];
            high(prefixes[random.usize(..prefixes.len())], random).into()
        }
        _ => Ipv6Addr::from(random.u128(..)).into(),
    }
}

fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => match v6.segments() {
            [0, 0, 0, 0, 0, 0xffff, ..] | [0x64, 0xff9b, 0, 0, 0, 0, ..] => {
                is_public_v4(Ipv4Addr::from(u128::from(v6) as u32))
            }
            [first, second, ..] => {
                first >> 13 == 1
                    && first != 0x2002
                    && !(first == 0x2001 && (second < 0x200 || second == 0xdb8))
            }
        },
    }
}

fn is_public_v4(v4: Ipv4Addr) -> bool {
    let [a, b, c, _] = v4.octets();
    !(v4.is_private()
        || v4.is_loopback()
        || v4.is_link_local()
        || v4.is_documentation()
        || v4.is_multicast()
        || a == 0
        || a >= 240
        || (a == 100 && (64..128).contains(&b))
        || (a == 198 && (18..20).contains(&b))
        || (a == 192 && b == 0 && c == 0)
        || v4 == Ipv4Addr::new(168, 63, 129, 16))
}

fn is_public_or_private(address: IpAddr) -> bool {
    let private_v4 = |v4: Ipv4Addr| {
        let [a, b, ..] = v4.octets();
        let shared = a == 100 && (64..128).contains(&b) && v4 != Ipv4Addr::new(100, 100, 100, 200);
        v4.is_private() || v4.is_loopback() || shared
    };
    is_public(address)
        || match address {
            IpAddr::V4(v4) => private_v4(v4),
            IpAddr::V6(v6) => {
                v6.is_loopback()
                    || v6.is_unique_local()
                    || v6.to_ipv4_mapped().is_some_and(private_v4)
            }
        }
}
