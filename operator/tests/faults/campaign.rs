//! Many runs: all single faults, all pairs, schedules from seeds; shared out over the processors.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::fault::Fault;
use crate::lifecycle::Lifecycle;
use crate::oracle::differences;
use crate::plan::Plan;
use crate::run::{Outcome, run};

/// One run of a campaign. The name is enough to repeat it.
pub(crate) struct Trial {
    pub(crate) name: String,
    pub(crate) lifecycle: &'static Lifecycle,
    pub(crate) plan: Plan,
    /// Most time that the run may take longer than the clean one.
    pub(crate) patience: Option<Duration>,
}

/// Runs without faults, the measure of all others.
pub(crate) fn clean(lifecycle: &'static Lifecycle) -> Outcome {
    let outcome = run(lifecycle, Plan::default());
    assert_eq!(outcome.violations, [] as [String; 0], "{}", lifecycle.name);
    outcome
}

/// What is wrong with a run.
fn judge(trial: &Trial, clean: &Outcome) -> Vec<String> {
    let outcome = run(trial.lifecycle, trial.plan.clone());
    let mut violations = outcome.violations;
    differences("status", &clean.status, &outcome.status, &mut violations);
    if outcome.renamed {
        let counted = ["status/attempts:", "status/jobName:"];
        violations.retain(|violation| !counted.iter().any(|name| violation.starts_with(name)));
    }
    let late = outcome.took.saturating_sub(clean.took);
    if trial.patience.is_some_and(|patience| late > patience) {
        violations.push(format!("it took {late:?} longer"));
    }
    violations
}

/// Runs all trials; fails with the first violations found, if there are any.
pub(crate) fn run_all(what: &str, trials: &[Trial], cleans: &[Outcome]) {
    let next = AtomicUsize::new(0);
    let found = Mutex::new(Vec::new());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(trial) = trials.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let index = crate::lifecycle::index(trial.lifecycle);
                    for violation in judge(trial, &cleans[index]) {
                        let text = format!("{}: {violation}", trial.name);
                        found.lock().unwrap().push(text);
                    }
                }
            });
        }
    });
    let found = found.into_inner().unwrap();
    println!(
        "faults: {what}: {} plans, {} violations",
        trials.len(),
        found.len()
    );
    let first: Vec<_> = found.iter().take(20).map(String::as_str).collect();
    assert!(found.is_empty(), "{what}:\n{}", first.join("\n"));
}

/// Names the calls of a plan.
pub(crate) fn describe(
    lifecycle: &Lifecycle,
    clean: &Outcome,
    faults: &[(usize, Fault)],
) -> String {
    let parts: Vec<_> = faults
        .iter()
        .map(|(number, fault)| format!("{fault:?} at call {number} ({})", clean.calls[*number]))
        .collect();
    format!("{}: {}", lifecycle.name, parts.join(", "))
}
