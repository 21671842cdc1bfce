//! Names to addresses, each of them judged before it is connected to.
//!
//! The client asks this resolver for each connection and connects to what it gets, so a name that
//! leads elsewhere a second time is judged a second time.

use std::{
    fmt::Debug,
    io,
    net::{SocketAddr, ToSocketAddrs},
    sync::Arc,
    time::Duration,
};

use alignment_api::Origin;
use ureq::{
    Agent,
    config::Config,
    http::Uri,
    tls::{RootCerts, TlsConfig},
    unversioned::{
        resolver::{ResolvedSocketAddrs, Resolver},
        transport::{Connector, NextTimeout, RustlsConnector, TcpConnector},
    },
};

use super::{address::Reach, policy::check_addresses};

/// Who knows the addresses of a host; replaced in tests.
pub trait Lookup: Debug + Send + Sync {
    /// All addresses of a host.
    ///
    /// # Errors
    /// Whatever the system says.
    fn addresses(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>>;
}

/// The system's resolver.
#[derive(Debug)]
pub struct SystemLookup;

impl Lookup for SystemLookup {
    fn addresses(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        // Brackets of an IPv6 address are the URL's, not the address's.
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        Ok((bare, port).to_socket_addrs()?.collect())
    }
}

/// Refuses addresses out of reach. One for each exchange: it knows the only origin that the
/// exchange may speak to.
#[derive(Debug)]
struct Judge {
    lookup: Arc<dyn Lookup>,
    origin: Origin,
    reach: Reach,
}

/// An address was refused. Travels through the client as the source of its error.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct OutOfReach(pub(super) String);

impl Resolver for Judge {
    fn resolve(
        &self,
        uri: &Uri,
        _: &Config,
        _: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let (host, port) = (self.origin.host(), self.origin.port());
        if uri.host() != Some(host) {
            let problem = "is not the host that was asked for".to_owned();
            return Err(ureq::Error::Other(Box::new(OutOfReach(problem))));
        }
        let found = self.lookup.addresses(host, port)?;
        check_addresses(&found, self.reach)
            .map_err(|problem| ureq::Error::Other(Box::new(OutOfReach(problem))))?;
        let mut addresses = self.empty();
        // As many as fit: the rest is as good as these.
        for address in found.into_iter().take(16) {
            addresses.push(address);
        }
        if addresses.is_empty() {
            return Err(ureq::Error::HostNotFound);
        }
        Ok(addresses)
    }
}

/// A client for one exchange with one origin: no proxy, no redirects, no kept connections, no
/// status that is an error.
pub(super) fn agent(
    lookup: Arc<dyn Lookup>,
    origin: &Origin,
    reach: Reach,
    roots: RootCerts,
    connect: Duration,
) -> Agent {
    let config = Config::builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .proxy(None)
        .max_idle_connections(0)
        .timeout_connect(Some(connect))
        .max_response_header_size(64 << 10)
        .user_agent(concat!("voluba-align/", env!("CARGO_PKG_VERSION")))
        .accept_encoding("identity")
        .tls_config(TlsConfig::builder().root_certs(roots).build())
        .build();
    let judge = Judge {
        lookup,
        origin: origin.clone(),
        reach,
    };
    let connector = ().chain(TcpConnector::default()).chain(RustlsConnector::default());
    Agent::with_parts(config, connector, judge)
}
