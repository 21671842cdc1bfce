//! What must not be reached (A10, and the vectors of server-side request forgery), and what must.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use aligner::{
    net::{HttpSource, Network, Source, connect::Lookup, policy::Policy},
    observer::Silent,
};
use alignment_api::{ExitCode, WebUrl};
use fake_image_service::{Call, FakeService, Fault};

use crate::{Scene, TOKEN, origin, sha256, url, volume};

/// Counts every connection to this machine, whatever the name of it was.
struct Listener {
    port: u16,
    connections: Arc<AtomicUsize>,
}

impl Listener {
    fn start() -> Self {
        // Both versions of IP, and every address of this machine.
        let listener = TcpListener::bind("[::]:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let connections = Arc::new(AtomicUsize::new(0));
        let count = connections.clone();
        thread::spawn(move || {
            for _ in listener.incoming() {
                count.fetch_add(1, Ordering::SeqCst);
            }
        });
        Self { port, connections }
    }

    fn connections(&self) -> usize {
        // What was connected to is counted by another thread.
        thread::sleep(Duration::from_millis(50));
        self.connections.load(Ordering::SeqCst)
    }
}

/// Gives these addresses for every name, one list after the other, the last one for ever.
#[derive(Debug)]
struct FakeLookup {
    answers: Vec<Vec<SocketAddr>>,
    asked: AtomicUsize,
}

impl FakeLookup {
    fn new(answers: &[&[&str]], port: u16) -> Arc<Self> {
        let address = |text: &&str| SocketAddr::new(text.parse().unwrap(), port);
        let answers = answers.iter();
        Arc::new(Self {
            answers: answers
                .map(|texts| texts.iter().map(address).collect())
                .collect(),
            asked: AtomicUsize::new(0),
        })
    }
}

impl Lookup for FakeLookup {
    fn addresses(&self, _: &str, _: u16) -> io::Result<Vec<SocketAddr>> {
        let asked = self.asked.fetch_add(1, Ordering::SeqCst);
        Ok(self.answers[asked.min(self.answers.len() - 1)].clone())
    }
}

fn fetch(network: &Network, url: WebUrl) -> Result<(), aligner::net::error::NetError> {
    let folder = tempfile::tempdir().unwrap();
    let source = HttpSource {
        url,
        sha256: sha256(&volume(1)),
    };
    source.fetch(&folder.path().join("a"), network, &Silent)
}

/// Texts that name this machine, or mean to deceive a check of `good.example`. `PORT` is where the
/// listener is.
const URLS: [&str; 40] = [
    "http://127.0.0.1:PORT/a",
    "http://localhost:PORT/a",
    "http://LOCALHOST:PORT/a",
    "http://[::1]:PORT/a",
    "http://[::ffff:127.0.0.1]:PORT/a",
    "http://0.0.0.0:PORT/a",
    "http://127.1:PORT/a",
    "http://0177.0.0.1:PORT/a",
    "http://0x7f.1:PORT/a",
    "http://2130706433:PORT/a",
    "http://127.0.0.1.:PORT/a",
    "http://good.example@127.0.0.1:PORT/a",
    "http://good.example:PORT@127.0.0.1:PORT/a",
    "http://good.example%40127.0.0.1:PORT/a",
    "http://good.example\\@127.0.0.1:PORT/a",
    "http://good.example#@127.0.0.1:PORT/a",
    "http://good.example?@127.0.0.1:PORT/a",
    "http://127.0.0.1:PORT\\good.example/a",
    "http://good.example.:PORT/a",
    "http://sub.good.example:PORT/a",
    "http://good.example.evil.example:PORT/a",
    "http://evil.example:PORT/good.example",
    "http://gооd.example:PORT/a",
    "http://good。example:PORT/a",
    "http://xn--god-jdc.example:PORT/a",
    "http://good.example:0/a",
    "http://good.example:22/a",
    "http://good.example:6443/a",
    "http://good.example:80/a",
    "https://good.example:PORT/a",
    "ftp://good.example:PORT/a",
    "file:///etc/passwd",
    "gopher://127.0.0.1:PORT/a",
    "//127.0.0.1:PORT/a",
    "http://kubernetes.default.svc:PORT/a",
    "http://metadata.google.internal:PORT/a",
    "http://169.254.169.254:PORT/latest/meta-data",
    "http://[fe80::1%25lo]:PORT/a",
    "http://good.example:PORT/a\r\nHost: 127.0.0.1",
    "http://good.example:PORT/../a",
];

/// Addresses that an allowed name may turn out to lead to; all but the first three by mistake of a
/// check are this machine.
const ADDRESSES: [&[&str]; 24] = [
    &["10.0.0.1"],
    &["192.168.0.1"],
    &["172.16.0.1"],
    &["127.0.0.1"],
    &["127.8.8.8"],
    &["0.0.0.0"],
    &["::1"],
    &["::"],
    &["::ffff:127.0.0.1"],
    &["::ffff:0.0.0.0"],
    &["::127.0.0.1"],
    &["64:ff9b::7f00:1"],
    &["64:ff9b::a9fe:a9fe"],
    &["2002:7f00:1::"],
    &["169.254.169.254"],
    &["::ffff:169.254.169.254"],
    &["fd00:ec2::254"],
    &["fe80::1"],
    &["100.64.0.1"],
    &["192.0.0.192"],
    &["198.18.0.1"],
    &["240.0.0.1"],
    &["1.1.1.1", "127.0.0.1"],
    &["2606:4700::1111", "::1"],
];

/// Never reached, not even from an origin that may be private.
const NEVER: [&str; 8] = [
    "169.254.169.254",
    "::ffff:169.254.169.254",
    "100.100.100.200",
    "168.63.129.16",
    "fd00:ec2::254",
    "0.0.0.0",
    "64:ff9b::127.0.0.1",
    "fe80::1",
];

#[test]
fn no_vector_reaches_a_server_that_is_not_allowed() {
    let listener = Listener::start();
    let good = format!("http://good.example:{}", listener.port);
    let mut vectors = 0;
    // Whoever is asked says that every name is this machine.
    let network = Network {
        policy: Policy::new(&[origin(&good)], &[]),
        lookup: FakeLookup::new(&[&["127.0.0.1", "::1"]], listener.port),
        ..Network::default()
    };
    for text in URLS {
        let text = text.replace("PORT", &listener.port.to_string());
        if let Ok(url) = WebUrl::parse(&text) {
            let error = fetch(&network, url).unwrap_err();
            assert_eq!(error.exit_code(), ExitCode::DestinationForbidden, "{text}");
        }
        vectors += 1;
    }
    let public = Policy::new(&[origin(&good)], &[]);
    let private = Policy::new(&[], &[origin(&good)]);
    let never = NEVER.map(|address| (&private, vec![address]));
    let public = ADDRESSES.map(|addresses| (&public, addresses.to_vec()));
    for (policy, addresses) in public.into_iter().chain(never) {
        let network = Network {
            policy: policy.clone(),
            lookup: FakeLookup::new(&[&addresses], listener.port),
            ..Network::default()
        };
        let error = fetch(&network, url(&format!("{good}/a"))).unwrap_err();
        let message = error.to_string();
        assert_eq!(
            error.exit_code(),
            ExitCode::DestinationForbidden,
            "{addresses:?}: {message}"
        );
        assert!(!message.contains(addresses[0]), "{message}");
        vectors += 1;
    }
    let connections = listener.connections();
    assert!(
        vectors >= 60 && connections == 0,
        "{connections} connections"
    );
    println!("figure forgery-connections {connections} of {vectors} vectors bar 0 ok");
}

#[test]
fn a10_redirects_lead_nowhere_but_to_the_same_origin() {
    let listener = Listener::start();
    let port = listener.port;
    let other = FakeService::start().unwrap();
    let elsewhere = [
        format!("http://127.0.0.1:{port}/a"),
        format!("http://localhost:{port}/a"),
        format!("//127.0.0.1:{port}/a"),
        format!("http://[::1]:{port}/a"),
        format!("http://me@127.0.0.1:{port}/a"),
        format!("\\\\127.0.0.1:{port}\\a"),
        "http://169.254.169.254/latest".to_owned(),
        "https://127.0.0.1/a".to_owned(),
        "file:///etc/passwd".to_owned(),
        "ftp://127.0.0.1/a".to_owned(),
        other.base(),
    ];
    let mut vectors = 0;
    for status in [301, 302, 303, 307, 308] {
        for location in &elsewhere {
            let scene = Scene::new();
            scene
                .server
                .fail(Call::Any, 100, Fault::redirect(status, location));
            scene.assert_fails(scene.fetch_image("a"), ExitCode::DestinationForbidden);
            let file = scene.server.put_file("a", volume(1));
            let result = scene.fetch_file(&file, &sha256(&volume(1)));
            scene.assert_fails(result, ExitCode::DestinationForbidden);
            assert_eq!(scene.tries(Call::Any), 2);
            vectors += 1;
        }
        // In a circle, and to nowhere.
        let scene = Scene::new();
        let circle = Fault::redirect(status, "/chumni/v1/download/a.nii.gz");
        scene.server.fail(Call::Any, 100, circle);
        scene.assert_fails(scene.fetch_image("a"), ExitCode::DestinationForbidden);
        assert_eq!(scene.tries(Call::Any), 6);
        scene.server.fail(Call::Any, 100, Fault::status(status));
        scene.assert_fails(scene.fetch_image("a"), ExitCode::DestinationForbidden);
        vectors += 2;
        // Within the origin.
        let scene = Scene::new();
        scene.server.put(Some(TOKEN), "b.nii.gz", volume(1));
        for location in ["b.nii.gz", "/chumni/v1/download/b.nii.gz"] {
            scene
                .server
                .fail(Call::Any, 1, Fault::redirect(status, location));
            assert_eq!(scene.fetch_image("a").unwrap(), volume(1));
        }
    }
    assert_eq!(listener.connections(), 0);
    assert_eq!(other.connections(), 0);
    println!("figure redirect-connections 0 of {vectors} vectors bar 0 ok");
}

#[test]
fn a10_a_token_stays_in_its_service_when_a_redirect_leaves_it() {
    let scene = Scene::new();
    let beside = scene.server.put_file("b", volume(1));
    for status in [301, 302, 303, 307, 308] {
        let before = scene.server.journal().len();
        let fault = Fault::redirect(status, &beside);
        scene.server.fail(Call::Download, 1, fault);
        assert_eq!(scene.fetch_image("a").unwrap(), volume(1));
        let tokens: Vec<_> = scene.server.journal()[before..]
            .iter()
            .map(|record| record.header("authorization").is_some())
            .collect();
        assert_eq!(tokens, [true, false]);
    }
}

#[test]
fn a_name_that_leads_elsewhere_the_second_time_is_judged_a_second_time() {
    let mut scene = Scene::new();
    let listener = Listener::start();
    scene.server.put(Some(TOKEN), "a.nii.gz", volume(1));
    let port = scene.server.address().port();
    let named = format!("http://images.example:{port}");
    scene.network.policy = Policy::new(&[], &[origin(&named)]);
    scene.network.lookup = FakeLookup::new(&[&["127.0.0.1"], &["169.254.169.254"]], port);
    let service =
        aligner::net::image_service::ImageService::new(url(&format!("{named}/chumni/v1")));
    let fetch = || service.fetch("a", &scene.target(), &scene.network, &Silent);
    fetch().unwrap();
    scene.assert_fails(fetch(), ExitCode::DestinationForbidden);
    assert_eq!((scene.tries(Call::Any), listener.connections()), (1, 0));
}

#[test]
fn twenty_legal_urls_work() {
    let mut scene = Scene::new();
    let port = scene.server.address().port();
    scene.network.policy = Policy::new(
        &[],
        &[
            origin(&format!("http://127.0.0.1:{port}")),
            origin(&format!("http://Images.Example:{port}/")),
            origin(&format!("http://a-b.c1.svc.cluster.local:{port}")),
            origin(&format!("http://xn--gro-7ka.example:{port}")),
            origin(&format!("http://[::ffff:127.0.0.1]:{port}")),
        ],
    );
    scene.network.lookup = FakeLookup::new(&[&["127.0.0.1"]], port);
    let bytes = volume(1);
    for name in ["a", "a b", "ä", "a/b/c.nii.gz", "a+b", "~a", "a:b@c", "..a"] {
        scene.server.put_file(name, bytes.clone());
    }
    let mut works = 0;
    for text in [
        "http://127.0.0.1:PORT/files/a",
        "HTTP://127.0.0.1:PORT/files/a",
        "http://images.example:PORT/files/a",
        "http://IMAGES.EXAMPLE:PORT/files/a",
        "http://images.example:PORT/files/a?",
        "http://images.example:PORT/files/a?x=1&y=2",
        "http://images.example:PORT/files/a?signature=a%2Fb%3D&path=/../x",
        "http://images.example:PORT/files/a?url=http://evil.example/",
        "http://images.example:PORT/files/a%20b",
        "http://images.example:PORT/files/%C3%A4",
        "http://images.example:PORT/files/a/b/c.nii.gz",
        "http://images.example:PORT/files/a%2Fb%2Fc.nii.gz",
        "http://images.example:PORT/files/a+b",
        "http://images.example:PORT/files/~a",
        "http://images.example:PORT/files/%7ea",
        "http://images.example:PORT/files/a:b@c",
        "http://images.example:PORT/files/..a",
        "http://a-b.c1.svc.cluster.local:PORT/files/a",
        "http://xn--gro-7ka.example:PORT/files/a",
        "http://[::FFFF:7f00:1]:PORT/files/a",
    ] {
        let text = text.replace("PORT", &port.to_string());
        let found = scene.fetch_file(&text, &sha256(&bytes));
        assert_eq!(found.unwrap_or_else(|e| panic!("{text}: {e}")), bytes);
        works += 1;
    }
    assert_eq!(works, 20);
    println!("figure legal-urls {works} of 20 bar 20 ok");
}
