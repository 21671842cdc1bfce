//! Makes the C library give large blocks back as soon as they are freed.
//!
//! glibc raises the size from which blocks are mapped one by one to the largest block freed so far, up
//! to 32 MiB; smaller blocks then stay with the process, in holes between others. A run of 2 million
//! voxels so took a quarter more memory than it held, and not the same twice, which no prediction can
//! meet. A fixed size ends that. It can be given before the program starts only, by a variable.

use std::{env, os::unix::process::CommandExt, process::Command};

/// Read by glibc. Other C libraries map large blocks one by one anyway.
const VARIABLE: &str = "MALLOC_MMAP_THRESHOLD_";
/// Blocks from this size on are mapped: below the volume of a small patch and what the page's pictures are
/// drawn from. With four times as much, runs of 64³ voxels took 16 to 19 MB instead of 16.
const BYTES: &str = "262144";

/// Starts the program again in its place, with the variable. Returns if it is set already, whatever
/// its value, or if that is not possible: the program then works all the same. Costs 1.3 ms of CPU
/// time, as much as loading the program does.
pub fn settle() {
    if env::var_os(VARIABLE).is_some() {
        return;
    }
    let Ok(program) = env::current_exe() else {
        return;
    };
    let mut arguments = env::args_os();
    let mut command = Command::new(program);
    if let Some(name) = arguments.next() {
        command.arg0(name);
    }
    // Comes back only if it failed.
    let _ = command.args(arguments).env(VARIABLE, BYTES).exec();
}
