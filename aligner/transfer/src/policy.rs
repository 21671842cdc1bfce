//! What a request may reach: an allow-list of origins, which the installation decides.

use std::net::SocketAddr;

use alignment_api::{Origin, WebUrl};

use super::address::{Reach, reach};

/// The allowed origins.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    allowed: Vec<(Origin, Reach)>,
}

impl Policy {
    /// `public` origins must lead to public addresses; `private` ones may lead to private ones,
    /// too.
    pub fn new(public: &[Origin], private: &[Origin]) -> Self {
        let rows = |origins: &[Origin], reach| {
            let rows = origins.iter().cloned().map(move |origin| (origin, reach));
            rows.collect::<Vec<_>>()
        };
        Self {
            // An origin that is in both is a private one: the first row counts.
            allowed: [rows(private, Reach::Private), rows(public, Reach::Public)].concat(),
        }
    }

    /// How far addresses of this URL's host may reach.
    ///
    /// # Errors
    /// What to do about a URL whose origin is not allowed.
    pub fn check(&self, url: &WebUrl) -> Result<Reach, String> {
        let wanted = url.origin();
        let mut rows = self.allowed.iter();
        if let Some((_, reach)) = rows.find(|(origin, _)| origin == wanted) {
            return Ok(*reach);
        }
        let names: Vec<_> = self.allowed.iter().map(|(o, _)| o.to_string()).collect();
        let names = if names.is_empty() {
            "none".to_owned()
        } else {
            names.join(", ")
        };
        Err(format!(
            "`{wanted}` is not an allowed origin (allowed: {names}); on this machine, add \
             --allow-origin {wanted}, or --allow-private-origin {wanted} if it is not on the \
             public internet"
        ))
    }
}

/// Judges the addresses of a host: one that reaches too far refuses them all, since any of them may
/// be connected to.
///
/// # Errors
/// What is wrong, without the address: where private names lead is nobody's business.
pub fn check_addresses(addresses: &[SocketAddr], allowed: Reach) -> Result<(), String> {
    let farthest = addresses.iter().map(|address| reach(address.ip())).max();
    match farthest {
        Some(Reach::Never) => Err(
            "leads to an address that is never connected to (link-local, metadata, reserved)"
                .to_owned(),
        ),
        Some(found) if found > allowed => Err(
            "leads to a private address, and is not allowed as a private origin \
             (--allow-private-origin)"
                .to_owned(),
        ),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(text: &str) -> Origin {
        Origin::parse(text).unwrap()
    }

    #[test]
    fn only_listed_origins_pass_scheme_host_and_port() {
        let policy = Policy::new(
            &[origin("https://a.example")],
            &[origin("http://b.local:8080")],
        );
        for (text, expected) in [
            ("https://a.example/x", Some(Reach::Public)),
            ("https://A.EXAMPLE:443/x", Some(Reach::Public)),
            ("http://b.local:8080/", Some(Reach::Private)),
            ("http://a.example/x", None),
            ("https://a.example:8443/x", None),
            ("https://sub.a.example/x", None),
            ("https://a.example.evil.example/x", None),
            ("https://b.local:8080/", None),
            ("http://b.local/", None),
        ] {
            let found = policy.check(&WebUrl::parse(text).unwrap());
            assert_eq!(found.ok(), expected, "{text}");
        }
    }

    #[test]
    fn a_refusal_says_what_to_add() {
        let url = WebUrl::parse("https://a.example:8443/x?secret").unwrap();
        let refusal = Policy::default().check(&url).unwrap_err();
        assert!(
            refusal.contains("allowed: none")
                && refusal.contains("--allow-origin https://a.example:8443")
                && !refusal.contains("secret"),
            "{refusal}"
        );
    }

    #[test]
    fn one_bad_address_among_good_ones_is_enough() {
        let addresses = |texts: &[&str]| -> Vec<SocketAddr> {
            texts.iter().map(|text| text.parse().unwrap()).collect()
        };
        let public = addresses(&["1.1.1.1:443"]);
        let mixed = addresses(&["1.1.1.1:443", "10.0.0.1:443"]);
        let metadata = addresses(&["10.0.0.1:443", "169.254.169.254:443"]);
        assert!(check_addresses(&public, Reach::Public).is_ok());
        assert!(check_addresses(&mixed, Reach::Private).is_ok());
        assert!(check_addresses(&mixed, Reach::Public).is_err());
        assert!(check_addresses(&metadata, Reach::Private).is_err());
    }
}
