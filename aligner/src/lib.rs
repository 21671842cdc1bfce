//! Non-linear, depth-informed alignment of a cortical patch to a template brain.
//!
//! Conventions (all modules):
//! - arrays are indexed `[x, y, z]`, x fastest; voxel indices are 0-based centres;
//! - world positions are in mm, RAS+;
//! - *fixed* is the patch, *moving* the template; a transform maps fixed world → moving world, and
//!   an image is pulled onto the fixed grid through it;
//! - cortical depth is 0 at the pial surface (and in CSF) and 1 at the white matter (and in it);
//! - the same input gives the same bytes for any number of threads: parallel loops write disjoint
//!   parts, and sums are taken over fixed blocks in a fixed order.

pub mod affine;
mod again;
pub mod allocator;
pub mod chain;
pub mod cli;
pub mod commands;
pub mod depth;
pub mod depth_map;
pub mod earlier;
pub mod error;
pub mod field;
pub mod footprint;
pub mod grid;
pub mod inputs;
pub mod interpolate;
pub mod io;
pub mod job;
pub mod landmarks;
pub mod load;
pub mod maps;
pub mod memory;
pub mod observer;
pub mod outputs;
pub mod page;
pub mod pictures;
pub mod pipeline;
pub mod placement;
pub mod progress;
pub mod quality;
pub mod registration;
pub mod report_files;
pub mod resample;
mod scratch;
pub mod segmentation;
pub mod summary;
pub mod transfers;
pub mod transform;
pub mod viewer;
pub mod volume;
mod wide;
pub mod work;

pub use transfer as net;
