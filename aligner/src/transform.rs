//! Quality of transforms given as displacement fields: whether they fold, and whether two fields
//! are inverse to each other. Making such fields is left to [`crate::registration`].

mod central;
mod compose;
mod jacobian;

pub use central::central_jacobian;
pub use compose::compose_residual;
pub use jacobian::{CornerJacobian, corner_jacobian};
