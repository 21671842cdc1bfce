//! Encrypted connections: the certificate must be right, whatever the address was.

use std::{
    fs, io,
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    path::Path,
    sync::Arc,
    thread,
};

use aligner::net::{connect::Lookup, policy::Policy, read_authorities};
use alignment_api::ExitCode;
use fake_image_service::Call;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{
    ServerConfig, ServerConnection, StreamOwned,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};

use crate::{Scene, origin, sha256, volume};

/// Encrypts for one server; answers under any name with the certificate of one. The second file
/// holds the authority that vouches for it.
fn encrypt(server: SocketAddr, name: &str, authority_file: &Path) -> SocketAddr {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    fs::write(authority_file, authority.pem()).unwrap();
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    let certificate = params.signed_by(&key, &authority).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let connection = ServerConnection::new(config.clone()).unwrap();
            // A client that does not trust it goes away.
            let _ = relay(StreamOwned::new(connection, stream), server);
        }
    });
    address
}

/// One request without a body, and its answer.
fn relay(
    mut client: StreamOwned<ServerConnection, TcpStream>,
    server: SocketAddr,
) -> io::Result<()> {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        client.read_exact(&mut byte)?;
        request.push(byte[0]);
    }
    let mut server = TcpStream::connect(server)?;
    server.write_all(&request)?;
    server.shutdown(Shutdown::Write)?;
    let mut answer = Vec::new();
    server.read_to_end(&mut answer)?;
    client.write_all(&answer)?;
    client.conn.send_close_notify();
    client.flush()
}

/// Every name is one address.
#[derive(Debug)]
struct One(SocketAddr);

impl Lookup for One {
    fn addresses(&self, _: &str, _: u16) -> io::Result<Vec<SocketAddr>> {
        Ok(vec![self.0])
    }
}

#[test]
fn only_who_has_the_certificate_of_the_name_is_spoken_to() {
    let mut scene = Scene::new();
    let bytes = volume(1);
    scene.server.put_file("a", bytes.clone());
    let authority = scene.folder.path().join("authority.pem");
    let address = encrypt(scene.server.address(), "images.example", &authority);
    let name = |host: &str| format!("https://{host}:{}", address.port());
    let (right, wrong) = (name("images.example"), name("other.example"));
    scene.network.policy = Policy::new(&[], &[origin(&right), origin(&wrong)]);
    scene.network.lookup = Arc::new(One(address));
    let fetch =
        |scene: &Scene, base: &str| scene.fetch_file(&format!("{base}/files/a"), &sha256(&bytes));
    // An authority that nobody knows.
    let result = fetch(&scene, &right);
    let message = result.as_ref().unwrap_err().to_string();
    assert!(
        message.contains("the encrypted connection failed"),
        "{message}"
    );
    scene.assert_fails(result, ExitCode::ImageServiceUnavailable);
    scene.network.roots = read_authorities(&authority).unwrap();
    assert_eq!(fetch(&scene, &right).unwrap(), bytes);
    let calls = scene.tries(Call::Any);
    // The certificate of another name.
    scene.assert_fails(fetch(&scene, &wrong), ExitCode::ImageServiceUnavailable);
    assert_eq!(scene.tries(Call::Any), calls);
}

#[test]
fn a_file_without_certificates_is_no_authority() {
    let scene = Scene::new();
    let file = scene.folder.path().join("a.pem");
    fs::write(&file, "nothing").unwrap();
    assert!(
        read_authorities(&file)
            .unwrap_err()
            .contains("no certificate")
    );
    assert!(read_authorities(&scene.folder.path().join("none")).is_err());
}
