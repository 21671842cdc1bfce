//! SIGKILL and SIGTERM at random moments.

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use alignment_api::{ExitCode, TerminationMessage};

use crate::{Small, assert_whole, files, setting};

/// Longest time from SIGTERM to the end.
const MOST: Duration = Duration::from_secs(2);

fn signal(child: &Child, name: &str) {
    let mut kill = Command::new("kill");
    kill.arg(name).arg(child.id().to_string());
    assert!(kill.status().unwrap().success());
}

/// How long an undisturbed run takes on this machine now.
#[derive(Clone, Copy)]
struct Usual {
    /// From the first line of progress to the end.
    whole: Duration,
    /// From the beginning of its writing to the end.
    writing: Duration,
}

impl Usual {
    fn measure(small: &Small) -> Self {
        let results = small.results("timed");
        let mut child = small
            .command(&results)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        lines.next().unwrap().unwrap();
        let start = Instant::now();
        assert!(lines.any(|line| line.unwrap().contains("\"write\"")));
        let writing = Instant::now();
        assert!(child.wait().unwrap().success());
        Self {
            whole: start.elapsed(),
            writing: writing.elapsed(),
        }
    }

    /// Waits until a random moment: of the whole run, or, every other time, of its writing.
    fn wait(&self, child: &mut Child, round: usize, random: &mut fastrand::Rng) {
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        // The first line of progress: from here on signals are heard.
        let _ = lines.next();
        let mut longest = self.whole;
        if round % 2 == 1 {
            longest = self.writing;
            let _ = lines.find(|line| line.as_ref().is_ok_and(|line| line.contains("\"write\"")));
        }
        std::thread::spawn(move || lines.count());
        std::thread::sleep(longest.mul_f64(random.f64()));
    }
}

#[test]
fn a_run_killed_at_any_moment_leaves_whole_files_and_the_next_one_gives_the_same_bytes() {
    let small = Small::new();
    let mut random = fastrand::Rng::with_seed(1);
    let (kills, usual) = (setting("VOLUBA_KILLS", 6), Usual::measure(&small));
    let (mut early, mut partial) = (0, 0);
    let results = small.results("killed");
    for round in 0..kills {
        let mut child = small
            .command(&results)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        usual.wait(&mut child, round, &mut random);
        let _ = child.kill();
        early += usize::from(!child.wait().unwrap().success());
        let when = format!("kill {round}");
        assert_whole(&results.join("small"), &small.clean, &when);
        let names = files(&results.join("small"));
        partial += names
            .keys()
            .filter(|name| name.ends_with(".partial"))
            .count();
        small.assert_rerun_is_clean(&results, &when);
        // Some rounds start from an empty folder.
        if round % 4 < 2 {
            fs::remove_dir_all(results.join("small")).unwrap();
        }
    }
    println!(
        "{early} of {kills} killed before their end, {partial} partial files left and removed"
    );
    println!("figure kill-rerun-identical {kills} of {kills} bar {kills} ok");
}

#[test]
fn a_run_asked_to_stop_at_any_moment_does_so_and_leaves_no_partial_file() {
    let small = Small::new();
    let mut random = fastrand::Rng::with_seed(2);
    let (stops, usual) = (setting("VOLUBA_KILLS", 6), Usual::measure(&small));
    let (mut stopped, mut slowest) = (0, Duration::ZERO);
    let results = small.results("stopped");
    for round in 0..stops {
        let mut command = small.command(&results);
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        usual.wait(&mut child, round, &mut random);
        if child.try_wait().unwrap().is_none() {
            signal(&child, "-TERM");
        }
        let start = Instant::now();
        let status = child.wait().unwrap();
        slowest = slowest.max(start.elapsed());
        let when = format!("stop {round}");
        stopped += usize::from(judge(&small, &mut child, status, &when));
        assert_whole(&results.join("small"), &small.clean, &when);
        let names = files(&results.join("small"));
        assert!(
            !names.keys().any(|name| name.starts_with('.')),
            "{when}: {:?}",
            names.keys()
        );
        small.assert_rerun_is_clean(&results, &when);
        fs::remove_dir_all(results.join("small")).unwrap();
    }
    println!("{stopped} of {stops} stopped before their end");
    report_slowest("sigterm-run-slowest", slowest);
}

/// Either stopped, with code and message, or the end came first.
fn judge(small: &Small, child: &mut Child, status: ExitStatus, when: &str) -> bool {
    let mut said = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut said)
        .unwrap();
    let message = fs::read(small.folder.path().join("message.json")).unwrap();
    let message: TerminationMessage = serde_json::from_slice(&message).unwrap();
    assert_eq!(
        status.code(),
        Some(i32::from(message.outcome.code())),
        "{when}: {said}"
    );
    match message.outcome {
        ExitCode::Success => false,
        ExitCode::Interrupted => {
            assert!(
                message.message.contains("stopped by a signal"),
                "{}",
                message.message
            );
            true
        }
        other => panic!("{when}: {other:?}: {said}"),
    }
}

fn report_slowest(name: &str, slowest: Duration) {
    let seconds = slowest.as_secs_f64();
    let verdict = if slowest <= MOST { "ok" } else { "short" };
    println!("figure {name} {seconds:.2} s bar 2 {verdict}");
    assert!(slowest <= MOST, "{name}: {seconds} s");
}

/// A volume that takes seconds to read, and one that takes seconds to compute and to write: the work
/// itself heeds the signal, within far less than the time after which the program is ended.
#[test]
fn reading_and_writing_of_large_volumes_stop_in_the_middle() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let large = crate::small::zeros(&at("large.nii.gz"), [2000, 1000, 1000]);
    let tiny = crate::small::zeros(&at("tiny.nii"), [8, 8, 8]);
    fs::write(
        at("shift.txt"),
        "#Insight Transform File V1.0\n#Transform 0\nTransform: AffineTransform_double_3_3\nParameters: 1 0 0 0 1 0 0 0 1 1 0 0\nFixedParameters: 0 0 0\n",
    )
    .unwrap();
    let mut read = Command::new(env!("CARGO_BIN_EXE_aligner"));
    read.arg("inspect").arg(&large);
    let mut write = Command::new(env!("CARGO_BIN_EXE_aligner"));
    write.arg("apply").arg("-i").arg(&tiny).arg("-r");
    write.arg(crate::small::zeros(&at("grid.nii.gz"), [640, 640, 640]));
    write
        .arg("-t")
        .arg(at("shift.txt"))
        .arg("-o")
        .arg(at("out.nii.gz"));
    let mut random = fastrand::Rng::with_seed(3);
    let mut slowest = Duration::ZERO;
    let mut stopped = [0, 0];
    // How long that is depends on the machine.
    let whole = [&mut read, &mut write].map(|command| {
        let start = Instant::now();
        assert!(command.stdout(Stdio::null()).status().unwrap().success());
        start.elapsed()
    });
    for _ in 0..setting("VOLUBA_KILLS", 6).div_ceil(3) {
        for (index, command) in [&mut read, &mut write].into_iter().enumerate() {
            let mut child = command.stdout(Stdio::null()).spawn().unwrap();
            std::thread::sleep(whole[index].mul_f64(0.1 + 0.6 * random.f64()));
            if child.try_wait().unwrap().is_none() {
                signal(&child, "-TERM");
            }
            let start = Instant::now();
            let status = child.wait().unwrap();
            slowest = slowest.max(start.elapsed());
            if status.code() == Some(i32::from(ExitCode::Interrupted.code())) {
                stopped[index] += 1;
            } else {
                assert!(status.success(), "{status:?}");
            }
            let hidden = files(folder.path());
            assert!(
                !hidden.keys().any(|name| name.starts_with('.')),
                "{:?}",
                hidden.keys()
            );
        }
    }
    println!(
        "stopped while reading {}, while computing or writing {}",
        stopped[0], stopped[1]
    );
    assert!(stopped[0] > 0 && stopped[1] > 0);
    report_slowest("sigterm-large-volume-slowest", slowest);
}
