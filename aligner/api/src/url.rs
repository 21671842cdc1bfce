//! URLs of inputs and image services: a strict reading, so that there is only one.
//!
//! Readers made for browsers repair what they are given: backslashes, tabs, `0x7f.1`, full-width
//! dots. Two readers then see two hosts, and a check of one says nothing about the other. Here,
//! what is not plain is refused: RFC 3986 in ASCII, no user, no fragment, no dot segments; a host
//! is a name of letters, digits and hyphens, an IPv4 address of four decimal numbers, or an IPv6
//! address in brackets.
//!
//! This module knows no allow-list and no network: whether an origin may be reached is the
//! installation's choice, whether an address may is decided when it is connected to.

use std::fmt::{self, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr};

/// Longest URL in bytes.
pub const LONGEST_URL: usize = 2048;

/// How a server is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scheme {
    /// Unencrypted; only where an allow-list names such an origin.
    Http,
    /// Encrypted, the server authenticated.
    Https,
}

impl Scheme {
    /// The name, lower-case.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    const fn port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

/// Scheme, host and port: what an allow-list names, and what a token is sent to.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Origin {
    scheme: Scheme,
    host: String,
    port: u16,
}

/// A URL in its one form: lower-case scheme and host.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct WebUrl {
    origin: Origin,
    /// Begins with a slash.
    path: String,
    query: Option<String>,
}

impl Origin {
    /// Reads `https://HOST` or `https://HOST:PORT`; `http` likewise.
    ///
    /// # Errors
    /// What is wrong with it, as the end of a sentence.
    pub fn parse(text: &str) -> Result<Self, String> {
        let url = WebUrl::parse(text)?;
        if url.path != "/" || url.query.is_some() {
            return Err("has a path or a query, expected scheme, host and port only".to_owned());
        }
        Ok(url.origin)
    }

    /// The scheme.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// Name or address, lower-case; IPv6 in brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port, also where it is the scheme's own.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme.name(), self.host)?;
        if self.port != self.scheme.port() {
            write!(f, ":{}", self.port)?;
        }
        Ok(())
    }
}

impl WebUrl {
    /// Reads an absolute URL.
    ///
    /// # Errors
    /// What is wrong with it, as the end of a sentence. The text itself is not repeated: queries
    /// may hold secrets.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.len() > LONGEST_URL {
            return Err(format!("is longer than {LONGEST_URL} bytes"));
        }
        if let Some(odd) = text.chars().find(|c| !c.is_ascii_graphic()) {
            let hint = if odd.is_ascii() || odd.is_control() {
                ""
            } else {
                "; write a host in its `xn--` form and percent-encode the rest"
            };
            return Err(format!("contains {odd:?}, expected plain ASCII{hint}"));
        }
        let (scheme, rest) = text
            .split_once("://")
            .ok_or("does not begin with `https://`")?;
        let scheme = match scheme.to_ascii_lowercase().as_str() {
            "https" => Scheme::Https,
            "http" => Scheme::Http,
            _ => return Err("does not begin with `https://`".to_owned()),
        };
        let end = rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len());
        let (authority, rest) = rest.split_at(end);
        let origin = parse_authority(scheme, authority)?;
        let (path, query) = match rest.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (rest, None),
        };
        check_path(path)?;
        check_characters(query.unwrap_or(""), "/?")?;
        Ok(Self {
            origin,
            path: if path.is_empty() { "/" } else { path }.to_owned(),
            query: query.map(str::to_owned),
        })
    }

    /// Scheme, host and port.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Whether there is a query.
    pub fn has_query(&self) -> bool {
        self.query.is_some()
    }

    /// The last part of the path, percent-decoded as far as it is UTF-8; empty for a folder.
    pub fn file_name(&self) -> String {
        let last = self.path.rsplit('/').next().unwrap_or("");
        String::from_utf8_lossy(&decode(last)).into_owned()
    }

    /// The whole URL, for a request. Not for messages: see [`WebUrl::shown`].
    pub fn request_text(&self) -> String {
        match &self.query {
            Some(query) => format!("{}{}?{query}", self.origin, self.path),
            None => format!("{}{}", self.origin, self.path),
        }
    }

    /// For messages: without the query, which may hold a signature.
    pub fn shown(&self) -> String {
        format!("{}{}", self.origin, self.path)
    }

    /// The URL of something below this one, whatever the parts contain: they are percent-encoded.
    #[must_use]
    pub fn child(&self, parts: &[&str]) -> Self {
        let mut path = self.path.trim_end_matches('/').to_owned();
        for part in parts {
            path.push('/');
            path.push_str(&encode(part));
        }
        Self {
            origin: self.origin.clone(),
            path,
            query: None,
        }
    }

    /// Whether this is a place of a service with that base URL; the bare URL is none.
    pub fn is_below(&self, base: &Self) -> bool {
        let folder = base.path.trim_end_matches('/');
        let rest = self.path.strip_prefix(folder);
        self.origin == base.origin && rest.is_some_and(|rest| rest.starts_with('/'))
    }

    /// Where a redirect from this URL leads.
    ///
    /// # Errors
    /// As [`WebUrl::parse`].
    pub fn redirected(&self, location: &str) -> Result<Self, String> {
        if location.contains("://") {
            return Self::parse(location);
        }
        let origin = &self.origin;
        if location.starts_with("//") {
            return Self::parse(&format!("{}:{location}", origin.scheme.name()));
        }
        if location.starts_with('/') {
            return Self::parse(&format!("{origin}{location}"));
        }
        let folder = self.path.rsplit_once('/').map_or("", |(folder, _)| folder);
        Self::parse(&format!("{origin}{folder}/{location}"))
    }
}

fn parse_authority(scheme: Scheme, authority: &str) -> Result<Origin, String> {
    if authority.contains('@') {
        return Err("contains a user name, which is not allowed".to_owned());
    }
    let port_at = match authority.rfind(']') {
        Some(bracket) => authority[bracket..].find(':').map(|at| bracket + at),
        None => authority.find(':'),
    };
    let (host, port) = match port_at {
        Some(at) => (&authority[..at], Some(&authority[at + 1..])),
        None => (authority, None),
    };
    let port = match port {
        None => scheme.port(),
        Some(text) => parse_port(text)?,
    };
    Ok(Origin {
        scheme,
        host: parse_host(&host.to_ascii_lowercase())?,
        port,
    })
}

fn parse_port(text: &str) -> Result<u16, String> {
    let plain = text.starts_with(|c: char| ('1'..='9').contains(&c))
        && text.chars().all(|c| c.is_ascii_digit());
    text.parse()
        .ok()
        .filter(|_| plain)
        .ok_or_else(|| "has a port that is not a number from 1 to 65535".to_owned())
}

fn parse_host(host: &str) -> Result<String, String> {
    if let Some(inner) = host.strip_prefix('[') {
        let address = inner
            .strip_suffix(']')
            .and_then(|inner| inner.parse::<Ipv6Addr>().ok())
            .ok_or("has brackets that hold no IPv6 address")?;
        return Ok(format!("[{address}]"));
    }
    let letters = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.starts_with(letters)
            && label.ends_with(letters)
            && label.chars().all(|c| letters(c) || c == '-')
    };
    if host.is_empty() || host.len() > 253 || !host.split('.').all(label) {
        return Err("has a host that is no name of letters, digits, `-` and `.`".to_owned());
    }
    // The system's resolver reads `127.1`, `0x7f.1` and `2130706433` as addresses.
    let last = host.rsplit('.').next().unwrap_or("");
    let number = last.starts_with("0x") || last.chars().all(|c| c.is_ascii_digit());
    if number && host.parse::<Ipv4Addr>().is_err() {
        return Err("has a host that is neither a name nor a dotted IPv4 address".to_owned());
    }
    Ok(host.to_owned())
}

fn check_path(path: &str) -> Result<(), String> {
    check_characters(path, "/")?;
    let dots = |part: &str| matches!(decode(part).as_slice(), b"." | b"..");
    if path.split('/').any(dots) {
        return Err("has `.` or `..` in its path".to_owned());
    }
    Ok(())
}

/// Unreserved characters, sub-delimiters, `:`, `@` and whole percent-encodings.
fn check_characters(text: &str, more: &str) -> Result<(), String> {
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => {
                let digits = [bytes.next(), bytes.next()];
                let whole = digits
                    .iter()
                    .all(|digit| digit.is_some_and(|d| d.is_ascii_hexdigit()));
                if !whole || digits == [Some(b'0'), Some(b'0')] {
                    return Err("has a `%` that begins no encoded character".to_owned());
                }
            }
            _ if byte.is_ascii_alphanumeric() => {}
            _ if b"-._~!$&'()*+,;=:@".contains(&byte) || more.as_bytes().contains(&byte) => {}
            _ => {
                let found = char::from(byte);
                return Err(format!("contains `{found}`, which is not allowed there"));
            }
        }
    }
    Ok(())
}

fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

fn decode(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = (bytes[at] == b'%')
            .then(|| text.get(at + 1..at + 3))
            .flatten()
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        decoded.push(hex.unwrap_or(bytes[at]));
        at += if hex.is_some() { 3 } else { 1 };
    }
    decoded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> String {
        WebUrl::parse(text).unwrap().request_text()
    }

    #[test]
    fn plain_urls_have_one_form() {
        for (text, expected) in [
            ("https://a.example", "https://a.example/"),
            ("HTTPS://A.Example:443/X", "https://a.example/X"),
            ("http://a:80/", "http://a/"),
            ("http://a:8080/b/c.nii.gz", "http://a:8080/b/c.nii.gz"),
            (
                "https://10.0.0.7/a?X=%2F&Y=/?",
                "https://10.0.0.7/a?X=%2F&Y=/?",
            ),
            ("https://[FD00::0:1]:8443/a", "https://[fd00::1]:8443/a"),
            (
                "https://xn--gro-7ka.example/a",
                "https://xn--gro-7ka.example/a",
            ),
            (
                "https://a.example/%C3%A4%20b",
                "https://a.example/%C3%A4%20b",
            ),
        ] {
            assert_eq!(parsed(text), expected);
            assert_eq!(parsed(expected), expected);
        }
    }

    #[test]
    fn everything_that_two_readers_could_read_differently_is_refused() {
        for text in [
            "",
            "a.example",
            "ftp://a.example/",
            "file:///etc/passwd",
            "https:a.example/",
            "https:/a.example/",
            "https://",
            "https:///a",
            "https://user@a.example/",
            "https://a.example@evil.example/",
            "https://user:word@a.example/",
            "https://a.example\\@evil.example/",
            "https://a.example\\.evil.example/",
            "https://a.example#@evil.example/",
            "https://a.example/#fragment",
            "https://a.example./",
            "https://.a.example/",
            "https://a..example/",
            "https://-a.example/",
            "https://a_b.example/",
            "https://a.example:/",
            "https://a.example:0/",
            "https://a.example:00443/",
            "https://a.example:+443/",
            "https://a.example:65536/",
            "https://a.example:443:443/",
            "https://2130706433/",
            "https://0x7f.1/",
            "https://0x7f000001/",
            "https://0177.0.0.1/",
            "https://127.1/",
            "https://1.2.3.4.5/",
            "https://a.127/",
            "https://[::1/",
            "https://::1/",
            "https://[fe80::1%25eth0]/",
            "https://[::1]x/",
            "https://ä.example/",
            "https://a。example/",
            "https://ａ.example/",
            "https://a\u{ad}.example/",
            "https://a.example/\t",
            "https://a.example/ b",
            "https://a.example/\r\nHost: evil",
            "https://a.example/\0",
            "https://a.example/a/../b",
            "https://a.example/a/%2e%2E/b",
            "https://a.example/./b",
            "https://a.example/%",
            "https://a.example/%zz",
            "https://a.example/%00",
            "https://a.example/a\"b",
            "https://a.example/<a>",
            "https://a%2eexample/",
        ] {
            assert!(WebUrl::parse(text).is_err(), "{text:?}");
        }
        assert!(WebUrl::parse(&format!("https://a/{}", "x".repeat(2048))).is_err());
    }

    /// Pieces of URLs, good and bad, in any order: what is read is read the same again, and its
    /// host is one that every reader sees.
    #[test]
    fn whatever_is_read_is_read_the_same_again() {
        const PIECES: [&str; 32] = [
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
            "%",
            "%00",
            "a",
            "b.example",
            "xn--a",
            "127.0.0.1",
            "0x7f",
            "[::1]",
            "[",
            "]",
            "443",
            "0",
            " ",
            "\t",
            "ä",
            "。",
            "\u{202e}",
            "-",
            "_",
        ];
        let mut state = 20_260_101_u64;
        let mut random = |below: usize| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % below
        };
        let mut read = 0;
        for round in 0..200_000 {
            let mut text = if round % 2 == 0 { "https://" } else { "" }.to_owned();
            for _ in 0..random(6) {
                text.push_str(PIECES[random(PIECES.len())]);
            }
            let Ok(url) = WebUrl::parse(&text) else {
                continue;
            };
            read += 1;
            let again = WebUrl::parse(&url.request_text()).unwrap();
            assert_eq!(again, url, "{text:?}");
            let host = url.origin().host();
            let plain =
                |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || ".-:[]".contains(c);
            assert!(!host.is_empty() && host.chars().all(plain), "{text:?}");
            let after = &url.request_text()[url.origin().to_string().len()..];
            assert!(
                after.starts_with('/') && !after.contains(['#', '\\', ' ']),
                "{text:?}"
            );
        }
        assert!(read > 5000, "{read} were read");
    }

    #[test]
    fn an_origin_has_no_path() {
        assert_eq!(
            Origin::parse("https://A.example:443/").unwrap().to_string(),
            "https://a.example"
        );
        for text in ["https://a.example/b", "https://a.example/?b", "a.example"] {
            assert!(Origin::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn messages_show_no_query() {
        let url = WebUrl::parse("https://a.example/b?signature=secret").unwrap();
        assert_eq!(url.shown(), "https://a.example/b");
        assert_eq!(url.file_name(), "b");
    }

    #[test]
    fn names_cannot_leave_their_place() {
        let base = WebUrl::parse("https://a.example/base/").unwrap();
        for (name, expected) in [
            ("a b", "/base/download/a%20b"),
            ("../../admin", "/base/download/..%2F..%2Fadmin"),
            ("ü", "/base/download/%C3%BC"),
            ("a?b#c", "/base/download/a%3Fb%23c"),
            ("100%", "/base/download/100%25"),
        ] {
            let url = base.child(&["download", name]);
            assert_eq!(url.request_text(), format!("https://a.example{expected}"));
            assert_eq!(url.file_name(), name.rsplit('\0').next().unwrap());
        }
    }

    #[test]
    fn a_service_holds_what_lies_below_its_base_and_nothing_beside_it() {
        let is_below = |text: &str, base: &str| {
            let [url, base] = [text, base].map(|text| WebUrl::parse(text).unwrap());
            url.is_below(&base)
        };
        for base in ["https://a.example/b", "https://a.example/b/"] {
            for path in ["/b/", "/b/c", "/b/b", "/b/?q", "/b//", "/b/c?q"] {
                let text = format!("https://a.example{path}");
                assert!(is_below(&text, base), "{text}");
            }
            for text in [
                "https://a.example/",
                "https://a.example/b",
                "https://a.example/b?q/",
                "https://a.example/bc",
                "https://a.example/c/b/",
                "https://a.example/B/c",
                "http://a.example/b/c",
                "https://a.example:8443/b/c",
                "https://b.example/b/c",
            ] {
                assert!(!is_below(text, base), "{text}");
            }
        }
        assert!(is_below("https://a.example/x/y", "https://a.example"));
    }

    #[test]
    fn redirects_are_read_like_everything_else() {
        let from = WebUrl::parse("https://a.example/b/c").unwrap();
        for (location, expected) in [
            ("/d", "https://a.example/d"),
            ("d?e", "https://a.example/b/d?e"),
            ("//evil.example/d", "https://evil.example/d"),
            ("http://a.example/d", "http://a.example/d"),
        ] {
            assert_eq!(from.redirected(location).unwrap().request_text(), expected);
        }
        for location in ["../d", "\\\\evil.example", "https://user@a.example/", ""] {
            let read = from.redirected(location);
            assert!(
                read.is_err() || read.unwrap().origin() == from.origin(),
                "{location}"
            );
        }
    }
}
