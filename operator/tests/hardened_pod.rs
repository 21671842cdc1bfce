//! Whatever stands in a request, its pod is the hardened one: equal to that of the smallest request
//! but for an allow-list of places, and these hold nothing but what they are for.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a helper that fails is a test that fails"
)]

#[path = "common/random.rs"]
mod random;

use alignment_api::Origin;
use operator::build::{self, Attempt};
use operator::quantity::{Cpu, Memory};
use operator::request::Request;
use operator::settings::Settings;
use operator::validate::validate;
use random::Random;
use serde_json::{Value, json};

/// Strings that have broken out of something somewhere.
const HOSTILE: [&str; 20] = [
    "../../etc/passwd",
    "/etc/shadow",
    "a\0b",
    "a\n- name: evil\n  image: evil",
    "$(KUBERNETES_SERVICE_HOST)",
    "{{ .Values.secret }}",
    "--privileged",
    "x=/claims/x --image evil",
    "x,readOnly=false",
    "a/../../b",
    "claim:ro",
    "Ünïcode",
    "\u{202e}evil",
    "a b",
    "",
    ".",
    "..",
    "-",
    "A",
    "*",
];

fn settings() -> Settings {
    let origin = |text| Origin::parse(text).unwrap();
    Settings {
        origins: vec![
            origin("https://images.example.org"),
            origin("https://other.example.org"),
        ],
        private_origins: vec![origin("http://data.voluba.svc:8080")],
        max_memory: Some(Memory::from_bytes(64 << 30)),
        max_cpu: Some(Cpu::from_millis(64_000)),
        ..Settings::with_image("registry.example.org/aligner@sha256:0123")
    }
}

fn document(fixture: &str) -> Value {
    let mut document: Value = serde_yaml_ng::from_str(fixture).unwrap();
    document["metadata"]["namespace"] = json!("alice");
    document["metadata"]["uid"] = json!("0a1b2c3d-0000-4000-8000-000000000000");
    document
}

/// The Job of a request; none, if the request is refused.
fn job(document: &Value, attempt: Attempt) -> Option<Value> {
    let request: Request = serde_json::from_value(document.clone()).ok()?;
    let settings = settings();
    let valid = validate(&request, &settings).ok()?;
    let job = build::job(&request, &valid, attempt, &settings);
    Some(serde_json::to_value(job).unwrap())
}

/// Takes a value out of an object; what is left must be the same for every request.
fn take(job: &mut Value, pointer: &str) -> Value {
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    let key = key.replace("~1", "/");
    let parent = job.pointer_mut(parent).and_then(Value::as_object_mut);
    parent
        .and_then(|parent| parent.remove(&key))
        .unwrap_or(Value::Null)
}

fn is_name(value: &str) -> bool {
    let letters = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.".contains(c);
    !value.is_empty() && value.len() <= 253 && value.chars().all(letters) && !value.contains("..")
}

/// Checks what may differ, and removes it.
fn hardened(mut job: Value, request: &Value) -> Value {
    let name = &request["metadata"]["name"];
    for pointer in [
        "/metadata/labels/voluba.ebrains.eu~1request",
        "/metadata/ownerReferences/0/name",
        "/spec/template/metadata/labels/voluba.ebrains.eu~1request",
    ] {
        assert_eq!(take(&mut job, pointer), *name, "{pointer}");
    }
    let job_name = take(&mut job, "/metadata/name");
    assert!(is_name(job_name.as_str().unwrap()), "{job_name}");
    take(&mut job, "/metadata/labels/kueue.x-k8s.io~1queue-name");
    take(
        &mut job,
        "/metadata/annotations/voluba.ebrains.eu~1right-sized",
    );
    take(&mut job, "/metadata/annotations/voluba.ebrains.eu~1memory");
    assert!(take(&mut job, "/spec/suspend").is_boolean());
    let deadline = take(&mut job, "/spec/activeDeadlineSeconds");
    assert!(deadline.as_i64().unwrap() > 0);
    let text = take(
        &mut job,
        "/spec/template/metadata/annotations/voluba.ebrains.eu~1request",
    );
    let carried: Value = serde_json::from_str(text.as_str().unwrap()).unwrap();
    assert_eq!(carried["metadata"]["name"], *name);
    let pod = &mut job["spec"]["template"]["spec"];
    let resources = take(pod, "/containers/0/resources");
    assert_eq!(resources["limits"], resources["requests"]);
    assert_eq!(resources["limits"].as_object().unwrap().len(), 2);
    remove_claims(pod);
    remove_network(pod, request);
    job
}

/// Removes volumes, mounts and arguments of claims, which must be these and in these forms.
fn remove_claims(pod: &mut Value) {
    let mut claims = Vec::new();
    pod["volumes"].as_array_mut().unwrap().retain(|volume| {
        let Some(index) = volume["name"].as_str().unwrap().strip_prefix("claim-") else {
            return true;
        };
        assert!(index.parse::<usize>().is_ok());
        let name = volume["persistentVolumeClaim"]["claimName"]
            .as_str()
            .unwrap();
        assert!(is_name(name), "{name}");
        let mut source = json!({"claimName": name});
        let read_only = &volume["persistentVolumeClaim"]["readOnly"];
        if *read_only == true {
            source["readOnly"] = json!(true);
        }
        let expected = json!({"name": volume["name"], "persistentVolumeClaim": source});
        assert_eq!(*volume, expected);
        claims.push((volume["name"].clone(), name.to_owned(), *read_only == true));
        false
    });
    let container = &mut pod["containers"][0];
    let mounts = container["volumeMounts"].as_array_mut().unwrap();
    for (volume, name, read_only) in &claims {
        let mut expected = json!({"name": volume, "mountPath": format!("/claims/{name}")});
        if *read_only {
            expected["readOnly"] = json!(true);
        }
        let before = mounts.len();
        mounts.retain(|mount| *mount != expected);
        assert_eq!(mounts.len(), before - 1, "{expected}");
    }
    let arguments = container["args"].as_array_mut().unwrap();
    for (_, name, _) in &claims {
        let pair = [json!("--claim"), json!(format!("{name}=/claims/{name}"))];
        let at = arguments.windows(2).position(|window| *window == pair);
        arguments.drain(at.unwrap()..at.unwrap() + 2);
    }
    let threads = arguments.pop().unwrap();
    assert!(threads.as_str().unwrap().parse::<u32>().unwrap() > 0);
}

/// Removes what a pod with a network has beyond the others: scratch space, one key of one Secret,
/// origins of the installation. Whether it has them depends on the places that the request names.
fn remove_network(pod: &mut Value, request: &Value) {
    let text = request["spec"].to_string();
    let networked = text.contains("\"imageService\"") || text.contains("\"http\"");
    let mut scratch = Value::Null;
    let mut secret = None;
    pod["volumes"].as_array_mut().unwrap().retain_mut(|volume| {
        if volume["name"] == "scratch" {
            scratch = take(volume, "/emptyDir/sizeLimit");
        }
        if volume["name"] != "credentials" {
            return true;
        }
        let name = volume["secret"]["secretName"].as_str().unwrap().to_owned();
        assert!(is_name(&name), "{name}");
        let items = json!([{"key": "bearer-token", "path": "bearer-token"}]);
        let source = json!({"secretName": name, "defaultMode": 0o440, "items": items});
        assert_eq!(*volume, json!({"name": "credentials", "secret": source}));
        secret = Some(name);
        false
    });
    assert_eq!(scratch, if networked { "20Gi" } else { "1Gi" }, "{text}");
    let container = &mut pod["containers"][0];
    let mounts = container["volumeMounts"].as_array_mut().unwrap();
    let before = mounts.len();
    let expected = json!({"name": "credentials", "mountPath": "/credentials", "readOnly": true});
    mounts.retain(|mount| *mount != expected);
    assert_eq!(before - mounts.len(), usize::from(secret.is_some()));
    let arguments = container["args"].as_array_mut().unwrap();
    let mut tokens = 0;
    for (option, values) in [
        ("--download-limit", &["10737418240"][..]),
        (
            "--allow-origin",
            &["https://images.example.org", "https://other.example.org"],
        ),
        ("--allow-private-origin", &["http://data.voluba.svc:8080"]),
        ("--token-file", &["/credentials/bearer-token"]),
    ] {
        while let Some(at) = arguments.iter().position(|argument| argument == option) {
            let value = arguments[at + 1].as_str().unwrap().to_owned();
            assert!(
                networked && values.contains(&value.as_str()),
                "{option} {value}"
            );
            tokens += usize::from(option == "--token-file");
            arguments.drain(at..at + 2);
        }
    }
    assert_eq!(tokens, usize::from(secret.is_some()));
}

fn template() -> Value {
    let smallest = document(include_str!("fixtures/minimal.yaml"));
    hardened(job(&smallest, Attempt::FIRST).unwrap(), &smallest)
}

/// Every place in a document, leaves and branches.
fn places(value: &Value, path: &str, found: &mut Vec<String>) {
    found.push(path.to_owned());
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                places(value, &format!("{path}/{key}"), found);
            }
        }
        Value::Array(items) => {
            for (index, value) in items.iter().enumerate() {
                places(value, &format!("{path}/{index}"), found);
            }
        }
        _ => {}
    }
}

/// What a user may write anywhere, sensible or not.
fn some_value(random: &mut Random) -> Value {
    match random.below(8) {
        0 => json!(random.below(100_000)),
        1 => json!(-1),
        2 => json!(random.below(2) == 0),
        3 => json!(random.pick(&["512Mi", "3", "8Gi", "1500m", "7", "63", "100Ti"])),
        4 => json!(random.pick(&[
            "patches",
            "results",
            "data-1",
            "viewer",
            "physical",
            "bigbrain",
            "https://other.example.org/x",
            "https://169.254.169.254/",
        ])),
        5 => Value::Null,
        6 => json!({"hostPath": {"path": "/"}, "image": "evil", "privileged": true}),
        _ => json!(random.pick(&HOSTILE)),
    }
}

/// A request with some places changed, most of them in ways that a server would let pass.
fn some_request(random: &mut Random) -> Value {
    let fixtures = [
        include_str!("fixtures/minimal.yaml"),
        include_str!("fixtures/full.yaml"),
        include_str!("fixtures/network.yaml"),
    ];
    let mut request = document(random.pick(&fixtures));
    let seconds = 1 + random.below(100_000);
    request["spec"]["activeDeadlineSeconds"] = json!(seconds);
    request["metadata"]["name"] = json!(format!("r{}", random.below(1000)));
    for _ in 0..random.below(4) {
        let mut all = Vec::new();
        places(&request["spec"], "/spec", &mut all);
        let place = &all[random.below(all.len() as u64) as usize];
        let value = some_value(random);
        let target = request.pointer_mut(place).unwrap();
        match target.as_object_mut() {
            Some(fields) if random.below(2) == 0 => {
                let key = random.pick(&[
                    "hostNetwork",
                    "podTemplate",
                    "env",
                    "suspend",
                    "cancel",
                    "memory",
                ]);
                fields.insert(key.to_owned(), value);
            }
            _ => *target = value,
        }
    }
    if random.below(4) == 0 {
        request["metadata"]["labels"] = json!({
            "kueue.x-k8s.io/queue-name": "team", "evil": "true"});
        request["metadata"]["annotations"] = json!({"container.seccomp/x": "unconfined"});
    }
    request
}

#[test]
fn ten_thousand_requests_get_the_hardened_pod_or_none() {
    let template = template();
    let mut random = Random(20_260_101);
    let mut accepted = 0;
    for number in 0..10_000 {
        let request = some_request(&mut random);
        let attempt = Attempt {
            number: 1 + random.below(3) as i32,
            right_sized: (random.below(2) == 0).then(|| Memory::from_bytes(random.below(1 << 40))),
        };
        if let Some(job) = job(&request, attempt) {
            accepted += 1;
            assert_eq!(
                hardened(job, &request),
                template,
                "request {number}: {request}"
            );
        }
    }
    println!("hardened pod: 10000 random requests, {accepted} accepted, 0 differences");
    assert!(
        (2000..9900).contains(&accepted),
        "{accepted} of 10000 were accepted"
    );
}

#[test]
fn hostile_secrets_and_urls_get_the_hardened_pod_or_none() {
    let template = template();
    let places = [
        "/spec/credentials/secretName",
        "/spec/patch/images/0/source/imageService/baseUrl",
        "/spec/patch/images/0/source/imageService/name",
        "/spec/patch/depth/segmentation/source/http/url",
        "/spec/output/destination/imageService/baseUrl",
    ];
    let urls = [
        "https://images.example.org@evil.example/",
        "https://images.example.org.evil.example/",
        "https://images.example.org:8443/",
        "https://169.254.169.254/",
        "http://kubernetes.default.svc/",
        "https://images.example.org/ --token-file /etc/passwd",
    ];
    let (mut accepted, mut count) = (0, 0);
    for place in places {
        for text in HOSTILE.iter().chain(&urls) {
            let mut request = document(include_str!("fixtures/network.yaml"));
            *request.pointer_mut(place).unwrap() = json!(text);
            count += 1;
            if let Some(job) = job(&request, Attempt::FIRST) {
                accepted += 1;
                // Only what a name may hold was let through.
                assert!(place.ends_with("/name"), "{place}: {text}");
                assert_eq!(hardened(job, &request), template, "{place}: {text}");
            }
        }
    }
    println!("hardened pod: {count} hostile secrets and URLs, {accepted} accepted, 0 differences");
}

#[test]
fn forty_hostile_requests_get_the_hardened_pod_or_none() {
    let template = template();
    let volume = "/spec/patch/images/0/source/volume";
    let texts = [
        format!("{volume}/claimName"),
        "/spec/output/destination/volume/claimName".to_owned(),
    ];
    let mut cases: Vec<(String, Value)> = texts
        .iter()
        .flat_map(|place| {
            HOSTILE
                .iter()
                .take(15)
                .map(|text| (place.clone(), json!(text)))
        })
        .collect();
    let pod = json!({"hostNetwork": true, "hostPID": true, "containers": [{"image": "evil"}]});
    let more = [
        ("/spec/podTemplate", json!({"spec": pod})),
        ("/spec/template", json!("../../secrets/token")),
        ("/spec/template", json!("bigbrain --template x=/etc/passwd")),
        (
            "/spec/resources",
            json!({"memory": "1Gi", "limits": {"devices/kvm": 1}}),
        ),
        ("/spec/resources", json!({"memory": "9999999999Ti"})),
        ("/spec/resources", json!({"cpu": "-1"})),
        ("/spec/serviceAccountName", json!("admin")),
        ("/spec/activeDeadlineSeconds", json!(-1)),
        (
            "/metadata/labels",
            json!({"app.kubernetes.io/managed-by": "me"}),
        ),
        ("/metadata/finalizers", json!(["evil/keep"])),
    ];
    cases.extend(more.map(|(place, value)| (place.to_owned(), value)));
    assert_eq!(cases.len(), 40);
    let mut accepted = 0;
    for (place, value) in cases {
        let mut request = document(include_str!("fixtures/minimal.yaml"));
        let (parent, key) = place.rsplit_once('/').unwrap();
        request.pointer_mut(parent).unwrap()[key] = value;
        if let Some(job) = job(&request, Attempt::FIRST) {
            accepted += 1;
            assert_eq!(hardened(job, &request), template, "{place}: {request}");
        }
    }
    println!("hardened pod: 40 hostile requests, {accepted} accepted, 0 differences");
}
