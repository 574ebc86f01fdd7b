//! Mistakes that a system of this kind is likely to make, one at a time. The model makes them where it stands for a shell,
//! or wraps what is pure; product code knows nothing of them. A simulator that does not find them would not find ours.

/// A mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// A submission is answered when it is decided.
    AnswerBeforeDurable,
    /// So is a wish.
    WishAnsweredBeforeDurable,
    /// Orders go out when they are decided.
    OrderBeforeDurable,
    /// Ends are acknowledged when they are decided.
    AcknowledgeBeforeDurable,
    /// A snapshot holds what is not durable.
    SnapshotOfUndurable,
    /// Reports are taken for reports of the attempt that is out.
    AttemptIgnored,
    /// The incarnation of who speaks does not matter.
    IncarnationIgnored,
    /// An agent that is not heard is not lost.
    LeaseNeverEndsAtCoordinator,
    /// A new owner does not say again what the world is owed.
    NoRecovery,
    /// Orders that are not answered are not given again.
    NothingOrderedAgain,
    /// A run is forgotten by its agents when its end is decided.
    ForgottenTooEarly,
    /// An end that comes again is appended again.
    EndAppendedTwice,
    /// A grant goes out when it is decided.
    GrantBeforeDurable,
    /// An agent obeys orders to its earlier lives.
    OrdersToEarlierLivesObeyed,
    /// An agent never ends its attempts by itself.
    LeaseNeverEndsAtAgent,
    /// An agent goes on without waiting for its disk.
    JournalNotSynced,
    /// An agent tells ends that are not in its journal yet.
    EndToldBeforeDurable,
    /// An agent that starts again reads no journal.
    JournalNotRead,
    /// An agent that starts again starts again what had started.
    StartedAgainAfterRestart,
    /// An agent with an empty disk calls itself by the number of its last life.
    IncarnationReused,
    /// What a keeper leaves when it dies runs on.
    LeftoversRunOn,
    /// An agent tells an end once.
    EndsToldOnce,
    /// An agent starts what it has settled if it is offered again.
    SettledRunAgain,
    /// An agent does not end what it is asked to end.
    StopIgnored,
    /// An agent that drains takes work.
    DrainIgnored,
    /// An agent waits for no grant where one is asked for.
    GrantNotAwaited,
}

impl Bug {
    /// All that are to be found, each with a seed that has found it: it is tried first, and the others in order if the
    /// world has changed since.
    pub const ALL: &[(Self, u64)] = &[
        (Self::AcknowledgeBeforeDurable, 0),
        (Self::DrainIgnored, 0),
        (Self::OrderBeforeDurable, 2),
        (Self::NoRecovery, 2),
        (Self::EndAppendedTwice, 2),
        (Self::SettledRunAgain, 2),
        (Self::AnswerBeforeDurable, 4),
        (Self::EndsToldOnce, 4),
        (Self::GrantNotAwaited, 4),
        (Self::GrantBeforeDurable, 7),
        (Self::JournalNotRead, 7),
        (Self::StartedAgainAfterRestart, 7),
        (Self::NothingOrderedAgain, 11),
        (Self::IncarnationIgnored, 13),
        (Self::OrdersToEarlierLivesObeyed, 13),
        (Self::AttemptIgnored, 21),
        (Self::JournalNotSynced, 24),
        (Self::EndToldBeforeDurable, 24),
        (Self::IncarnationReused, 24),
        (Self::StopIgnored, 24),
        (Self::LeaseNeverEndsAtCoordinator, 32),
        (Self::LeaseNeverEndsAtAgent, 100),
        (Self::SnapshotOfUndurable, 156),
        (Self::LeftoversRunOn, 177),
        (Self::ForgottenTooEarly, 179),
        (Self::WishAnsweredBeforeDurable, 270),
    ];
}
