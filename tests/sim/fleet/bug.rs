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
    /// An agent obeys whatever coordinator speaks, also one whose run another has taken over.
    EpochIgnored,
    /// A coordinator that starts takes agents for lost that it has not heard yet.
    NoGraceAfterRestart,
    /// An agent counts its lease from when it heard an answer.
    LeaseCountedFromAnswer,
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
        (Self::OrderBeforeDurable, 0),
        (Self::DrainIgnored, 1),
        (Self::EndAppendedTwice, 2),
        (Self::NoGraceAfterRestart, 2),
        (Self::NoRecovery, 2),
        (Self::GrantNotAwaited, 4),
        (Self::JournalNotRead, 12),
        (Self::StartedAgainAfterRestart, 12),
        (Self::IncarnationReused, 12),
        (Self::IncarnationIgnored, 13),
        (Self::EndsToldOnce, 14),
        (Self::GrantBeforeDurable, 20),
        (Self::LeaseNeverEndsAtAgent, 20),
        (Self::SettledRunAgain, 22),
        (Self::StopIgnored, 23),
        (Self::LeftoversRunOn, 24),
        (Self::AnswerBeforeDurable, 41),
        (Self::NothingOrderedAgain, 44),
        (Self::AttemptIgnored, 44),
        (Self::LeaseNeverEndsAtCoordinator, 47),
        (Self::OrdersToEarlierLivesObeyed, 51),
        (Self::SnapshotOfUndurable, 62),
        (Self::EndToldBeforeDurable, 134),
        (Self::WishAnsweredBeforeDurable, 218),
        (Self::ForgottenTooEarly, 254),
        (Self::JournalNotSynced, 290),
        (Self::EpochIgnored, 437),
        (Self::LeaseCountedFromAnswer, 843),
    ];
}
