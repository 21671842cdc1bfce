//! Shared by the benchmarks: figures beside their bars, and what a computation costs.

use std::time::Instant;

/// Counts figures and those that miss their bar.
#[derive(Default)]
pub(crate) struct Report {
    figures: usize,
    short: usize,
}

impl Report {
    /// Prints a figure that is to stay at or below its bar.
    pub(crate) fn figure(&mut self, name: &str, value: f64, unit: &str, bar: f64) {
        self.print(name, value, unit, bar, value <= bar);
    }

    fn print(&mut self, name: &str, value: f64, unit: &str, bar: f64, met: bool) {
        self.figures += 1;
        self.short += usize::from(!met);
        let verdict = if met { "ok" } else { "short" };
        println!("figure {name} {value:.3e} {unit} bar {bar} {verdict}");
    }

    pub(crate) fn end(&self) {
        println!("{} figures, {} short", self.figures, self.short);
    }
}

/// What a computation took.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cost {
    /// Seconds on the clock.
    pub(crate) wall: f64,
    /// Seconds of user and system time, all threads together.
    pub(crate) cpu: f64,
    /// MB at the peak above what was there before.
    pub(crate) peak: f64,
}

/// Runs and measures.
pub(crate) fn measure<R>(computation: impl FnOnce() -> R) -> Cost {
    // Resets the peak to the present size.
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    let (before, cpu, start) = (status_mb("VmRSS:"), cpu_seconds(), Instant::now());
    let result = computation();
    let wall = start.elapsed().as_secs_f64();
    let cost = Cost {
        wall,
        cpu: cpu_seconds() - cpu,
        peak: status_mb("VmHWM:") - before,
    };
    drop(result);
    cost
}

fn status_mb(key: &str) -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(key)).unwrap();
    let kilobytes: f64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kilobytes * 1024.0 / 1e6
}

fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .unwrap()
        .split_whitespace()
        .collect();
    // User and system time, in hundredths of a second.
    fields[11..13]
        .iter()
        .map(|ticks| ticks.parse::<f64>().unwrap() / 100.0)
        .sum()
}

/// What `name` costs in a process of its own (this program with `cost=NAME`): memory
/// that an earlier run left behind would hide some.
pub(crate) fn cost_of(name: &str) -> Cost {
    let program = std::env::current_exe().unwrap();
    let child = std::process::Command::new(program)
        .arg(format!("cost={name}"))
        .output()
        .unwrap();
    assert!(
        child.status.success(),
        "{}",
        String::from_utf8_lossy(&child.stderr)
    );
    let text = String::from_utf8(child.stdout).unwrap();
    let values: Vec<f64> = text
        .split_whitespace()
        .map(|word| word.parse().unwrap())
        .collect();
    let [wall, cpu, peak] = values[..] else {
        panic!("three numbers expected, found {text}");
    };
    Cost { wall, cpu, peak }
}

/// The name that [`cost_of`] asks this process for.
pub(crate) fn asked() -> Option<String> {
    std::env::args().find_map(|arg| arg.strip_prefix("cost=").map(String::from))
}

/// Answers [`cost_of`].
pub(crate) fn answer(cost: Cost) {
    println!("{} {} {}", cost.wall, cost.cpu, cost.peak);
}
