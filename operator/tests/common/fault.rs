//! What can happen to a call of the API.

/// What happens to one call of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The operator dies before the call leaves it.
    KillBefore,
    /// The operator dies after the call was carried out, before the reply.
    KillAfter,
    Conflict,
    TooManyRequests,
    Internal,
    Unavailable,
    /// The server carries it out and says 504.
    TimeoutCommitted,
    /// There is no reply, ever; nothing was done.
    Hang,
    /// There is no reply, ever; it was carried out.
    HangCommitted,
    /// It is carried out; the reply breaks off in its middle.
    Reset,
    /// It arrives twice; the second reply is what the operator sees.
    Duplicate,
}

impl Fault {
    pub(crate) const ALL: [Self; 11] = [
        Self::KillBefore,
        Self::KillAfter,
        Self::Conflict,
        Self::TooManyRequests,
        Self::Internal,
        Self::Unavailable,
        Self::TimeoutCommitted,
        Self::Hang,
        Self::HangCommitted,
        Self::Reset,
        Self::Duplicate,
    ];
}
