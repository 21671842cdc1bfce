//! A disk that is full, at any write: exit code 74, the file and its size in the message, and nothing
//! cut under a final name.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use alignment_api::{ExitCode, TerminationMessage};

use crate::{Small, assert_whole, files, setting};

/// Sizes from the smallest result's to a little above what all need, denser where files end.
fn sizes(small: &Small, most: usize) -> Vec<usize> {
    let lengths: Vec<usize> = small.clean.values().map(Vec::len).collect();
    let mut random = fastrand::Rng::with_seed(4);
    let mut sizes = vec![0, most - 1];
    while sizes.len() < setting("VOLUBA_DISK_STEPS", 10) {
        sizes.push(match sizes.len() % 2 {
            0 => lengths[random.usize(..lengths.len())].saturating_sub(random.usize(1..4096)),
            _ => random.usize(..most),
        });
    }
    sizes
}

/// Exit code 74 with path and need, and nothing but whole files.
fn judge(small: &Small, output: &Output, results: &Path, when: &str) {
    let said = String::from_utf8_lossy(&output.stderr);
    let code = i32::from(ExitCode::IoError.code());
    assert_eq!(output.status.code(), Some(code), "{when}: {said}");
    let message = fs::read(small.folder.path().join("message.json")).unwrap();
    let message: TerminationMessage = serde_json::from_slice(&message).unwrap();
    assert_eq!(message.outcome, ExitCode::IoError);
    let text = message.message;
    assert!(said.contains(&text), "{when}: {said} {text}");
    let names = text.contains(&results.join("small").display().to_string());
    let need = text.contains("bytes at most") || text.contains("bytes of this file");
    assert!(names && need, "{when}: {text}");
    assert_whole(&results.join("small"), &small.clean, when);
    let hidden: Vec<String> = files(&results.join("small"))
        .into_keys()
        .filter(|name| name.starts_with('.'))
        .collect();
    assert!(hidden.is_empty(), "{when}: {hidden:?}");
}

/// No file may grow beyond a size: works without privileges.
#[test]
fn a_limit_of_file_size_is_named_and_leaves_nothing_cut() {
    let small = Small::new();
    let largest = small.clean.values().map(Vec::len).max().unwrap();
    let results = small.results("limited");
    let mut steps = 0;
    for size in sizes(&small, largest) {
        let mut command = Command::new("sh");
        // Blocks of 512 bytes; the signal that comes with the limit is ignored, as on a full disk.
        let blocks = (size / 512).to_string();
        command.args(["-c", "trap '' XFSZ; ulimit -f \"$0\"; exec \"$@\"", &blocks]);
        // The message has to go somewhere: not even its 200 bytes fit into a limit of 0.
        if blocks == "0" {
            continue;
        }
        let output = command.args(small.words(&results)).output().unwrap();
        let when = format!("limit of {size} bytes");
        judge(&small, &output, &results, &when);
        steps += 1;
    }
    small.assert_rerun_is_clean(&results, "without a limit");
    println!("figure file-size-limit-steps {steps} of {steps} bar {steps} ok");
}

/// A real file system that is too small. Mounting needs privileges: without, this says so.
#[test]
fn a_full_disk_is_named_and_leaves_nothing_cut() {
    let small = Small::new();
    let whole: usize = small
        .clean
        .values()
        .map(|bytes| bytes.len().next_multiple_of(4096))
        .sum();
    let results = small.results("full");
    let mut steps = 0;
    for size in sizes(&small, whole) {
        // Sizes are rounded up to pages, and 0 means half of the memory.
        let size = (size & !4095).max(4096);
        if !mount(&results, size) {
            println!("left out: no tmpfs can be mounted here");
            return;
        }
        let output = small.command(&results).output().unwrap();
        let judged = std::panic::catch_unwind(|| {
            judge(&small, &output, &results, &format!("disk of {size} bytes"));
        });
        assert!(
            Command::new("umount")
                .arg(&results)
                .status()
                .unwrap()
                .success()
        );
        judged.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        steps += 1;
    }
    println!("figure disk-full-steps {steps} of {steps} bar {steps} ok");
}

fn mount(at: &Path, bytes: usize) -> bool {
    let options = format!("size={bytes}");
    let mut command = Command::new("mount");
    command
        .args(["-t", "tmpfs", "-o", &options, "tmpfs"])
        .arg(at);
    command.output().is_ok_and(|output| output.status.success())
}
