//! The lives of a request that are put to the test.

use alignment_api::TERMINATION_SCHEMA;
use serde_json::{Value, json};

/// Name of the one request.
pub(crate) const REQUEST: &str = "minimal";

/// Where results may go to.
pub(crate) const IMAGE_SERVICE: &str = "https://images.example.org";

/// How a pod ends.
#[derive(Debug)]
pub(crate) struct End {
    pub(crate) code: i32,
    outcome: &'static str,
    memory: Option<u64>,
    pub(crate) out_of_memory: bool,
    pub(crate) evicted: bool,
}

impl End {
    const fn of(code: i32, outcome: &'static str) -> Self {
        Self {
            code,
            outcome,
            memory: None,
            out_of_memory: false,
            evicted: false,
        }
    }

    pub(crate) fn message(&self) -> String {
        if self.outcome.is_empty() {
            return String::new();
        }
        let mut message = json!({"schema": TERMINATION_SCHEMA, "outcome": self.outcome,
            "message": "as the test has it"});
        if let Some(bytes) = self.memory {
            message["requiredMemoryBytes"] = json!(bytes);
        }
        if self.code == 0 {
            message["result"] =
                json!({"artifacts": [], "quality": alignment_api::Quality::default()});
        }
        message.to_string()
    }
}

/// What the user waits for before the next act.
#[derive(Debug)]
pub(crate) enum When {
    PodRuns,
    PodSucceeded,
    Phase(&'static str),
}

#[derive(Debug)]
pub(crate) enum Act {
    DeleteJob,
    Suspend(bool),
    Cancel,
    DeleteRequest,
}

#[derive(Debug)]
pub(crate) struct Lifecycle {
    pub(crate) name: &'static str,
    /// Whether a depth map is asked for, not an alignment.
    pub(crate) depth_map: bool,
    /// Whether the result goes to an image service, so that the pod tells pictures of it at its end.
    pub(crate) pictures: bool,
    /// Ends of the pods of each attempt; the last of each is repeated.
    ends: &'static [&'static [End]],
    pub(crate) user: &'static [(When, Act)],
    ttl: Option<u32>,
    /// Whether the request is made as a cancelled one.
    cancelled: bool,
    /// How long a pod runs, in milliseconds: longer than all faults, where the user acts meanwhile.
    pub(crate) pod_runs: u64,
    /// Phase at the end; none if the request is gone.
    pub(crate) phase: Option<&'static str>,
    /// Jobs that are made.
    pub(crate) jobs: u32,
}

impl Lifecycle {
    pub(crate) fn end(&self, attempt: usize, pod: usize) -> &'static End {
        let ends = self.ends[attempt.min(self.ends.len() - 1)];
        &ends[pod.min(ends.len() - 1)]
    }

    pub(crate) fn request(&self) -> Value {
        let text = if self.depth_map {
            include_str!("../fixtures/depth-map.yaml")
        } else {
            include_str!("../fixtures/minimal.yaml")
        };
        let mut request: Value = serde_yaml_ng::from_str(text).unwrap();
        if self.pictures {
            request["spec"]["output"] = json!({"artifacts": ["images"],
                "destination": {"imageService": {"baseUrl": IMAGE_SERVICE}}});
            request["spec"]["credentials"] = json!({"secretName": "token"});
        }
        if let Some(ttl) = self.ttl {
            request["spec"]["ttlSecondsAfterFinished"] = json!(ttl);
        }
        if self.cancelled {
            request["spec"]["cancel"] = json!(true);
        }
        request
    }
}

const SUCCESS: End = End::of(0, "Success");
const UNUSABLE: End = End::of(65, "InvalidImage");
/// More often than failures that count may happen.
const NO_TEMPLATE: End = End::of(68, "TemplateUnavailable");
const UNAVAILABLE: End = End::of(69, "ImageServiceUnavailable");
const TOO_LARGE: End = End {
    memory: Some(5 << 30),
    ..End::of(71, "InsufficientMemory")
};
const OUT_OF_MEMORY: End = End {
    out_of_memory: true,
    ..End::of(137, "")
};
const EVICTED: End = End {
    evicted: true,
    ..End::of(143, "")
};

const PLAIN: Lifecycle = Lifecycle {
    name: "success",
    depth_map: false,
    pictures: false,
    ends: &[&[SUCCESS]],
    user: &[],
    ttl: None,
    cancelled: false,
    pod_runs: 5000,
    phase: Some("Succeeded"),
    jobs: 1,
};

pub(crate) static ALL: [Lifecycle; 17] = [
    PLAIN,
    Lifecycle {
        name: "failure",
        ends: &[&[UNUSABLE]],
        phase: Some("Failed"),
        ..PLAIN
    },
    Lifecycle {
        name: "retries",
        ends: &[&[UNAVAILABLE, UNAVAILABLE, SUCCESS]],
        ..PLAIN
    },
    Lifecycle {
        name: "eviction",
        ends: &[&[EVICTED, SUCCESS]],
        ..PLAIN
    },
    Lifecycle {
        name: "static data late",
        ends: &[&[
            NO_TEMPLATE,
            NO_TEMPLATE,
            NO_TEMPLATE,
            NO_TEMPLATE,
            NO_TEMPLATE,
            SUCCESS,
        ]],
        ..PLAIN
    },
    Lifecycle {
        name: "right-sized",
        ends: &[&[TOO_LARGE], &[SUCCESS]],
        jobs: 2,
        ..PLAIN
    },
    Lifecycle {
        name: "out of memory twice",
        ends: &[&[OUT_OF_MEMORY]],
        phase: Some("Failed"),
        jobs: 2,
        ..PLAIN
    },
    Lifecycle {
        name: "Job deleted",
        user: &[(When::PodRuns, Act::DeleteJob)],
        jobs: 2,
        ..PLAIN
    },
    Lifecycle {
        name: "suspended and resumed",
        user: &[
            (When::PodRuns, Act::Suspend(true)),
            (When::Phase("Suspended"), Act::Suspend(false)),
        ],
        pod_runs: 300_000,
        ..PLAIN
    },
    Lifecycle {
        name: "request deleted",
        user: &[(When::PodRuns, Act::DeleteRequest)],
        phase: None,
        ..PLAIN
    },
    Lifecycle {
        name: "cancelled",
        user: &[(When::PodRuns, Act::Cancel)],
        pod_runs: 300_000,
        phase: Some("Cancelled"),
        ..PLAIN
    },
    Lifecycle {
        name: "cancelled while suspended",
        user: &[
            (When::PodRuns, Act::Suspend(true)),
            (When::Phase("Suspended"), Act::Cancel),
        ],
        pod_runs: 300_000,
        phase: Some("Cancelled"),
        ..PLAIN
    },
    Lifecycle {
        name: "cancelled from the beginning",
        cancelled: true,
        phase: Some("Cancelled"),
        jobs: 0,
        ..PLAIN
    },
    Lifecycle {
        name: "cancelled too late",
        user: &[(When::PodSucceeded, Act::Cancel)],
        ..PLAIN
    },
    Lifecycle {
        name: "removed after its time",
        ttl: Some(30),
        ..PLAIN
    },
    Lifecycle {
        name: "depth map",
        depth_map: true,
        ends: &[&[UNAVAILABLE, SUCCESS]],
        ..PLAIN
    },
    Lifecycle {
        name: "pictures",
        pictures: true,
        ..PLAIN
    },
];

/// Where a life stands among all.
pub(crate) fn index(lifecycle: &Lifecycle) -> usize {
    let found = ALL.iter().position(|other| other.name == lifecycle.name);
    found.unwrap()
}
