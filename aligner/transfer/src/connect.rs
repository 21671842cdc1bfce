//! Names to addresses, each of them judged before it is connected to.
//!
//! The client asks this resolver for each connection and connects to what it gets, so a name that
//! leads elsewhere a second time is judged a second time.

use std::{
    fmt::Debug,
    io,
    net::{SocketAddr, ToSocketAddrs},
    sync::Arc,
};

use alignment_api::Origin;
use ureq::{
    Agent,
    config::Config,
    http::Uri,
    tls::TlsConfig,
    unversioned::{
        resolver::{ResolvedSocketAddrs, Resolver},
        transport::{
            ConnectionDetails, Connector, NextTimeout, RustlsConnector, TcpConnector, Transport,
        },
    },
};

use super::{Network, address::Reach, policy::check_addresses};

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

/// What carries bytes to an address that was judged; replaced in tests.
pub trait Wire: Debug + Send + Sync {
    /// Opens a connection, before any encryption.
    ///
    /// # Errors
    /// Whatever the system says.
    fn open(&self, details: &ConnectionDetails) -> Result<Box<dyn Transport>, ureq::Error>;
}

/// TCP.
#[derive(Debug)]
pub struct Tcp;

impl Wire for Tcp {
    fn open(&self, details: &ConnectionDetails) -> Result<Box<dyn Transport>, ureq::Error> {
        let opened = TcpConnector::default().connect(details, None::<()>)?;
        opened
            .map(|transport| Box::new(transport) as Box<dyn Transport>)
            .ok_or(ureq::Error::ConnectionFailed)
    }
}

/// The client's first link, on which it puts the encryption.
#[derive(Debug)]
struct First(Arc<dyn Wire>);

impl Connector for First {
    type Out = Box<dyn Transport>;

    fn connect(
        &self,
        details: &ConnectionDetails,
        _: Option<()>,
    ) -> Result<Option<Self::Out>, ureq::Error> {
        self.0.open(details).map(Some)
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
pub(super) fn agent(network: &Network, origin: &Origin, reach: Reach) -> Agent {
    let config = Config::builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .proxy(None)
        .max_idle_connections(0)
        .timeout_connect(Some(network.limits.connect))
        .max_response_header_size(64 << 10)
        .user_agent(concat!("voluba-align/", env!("CARGO_PKG_VERSION")))
        .accept_encoding("identity")
        .tls_config(
            TlsConfig::builder()
                .root_certs(network.roots.clone())
                .build(),
        )
        .build();
    let judge = Judge {
        lookup: network.lookup.clone(),
        origin: origin.clone(),
        reach,
    };
    let connector = First(network.wire.clone()).chain(RustlsConnector::default());
    Agent::with_parts(config, connector, judge)
}
