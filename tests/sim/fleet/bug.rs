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
    /// An agent ends what may go on without a lease.
    HoldIgnored,
    /// An agent says goodbye before what it runs has ended.
    GoodbyeTooEarly,
    /// An agent that had no use for what it was handed from the shared queue does not say that it still has room.
    RoomNotToldAgain,
    /// Offers that are lost in the shared queue are not followed by others.
    PoolLossNotRetried,
    /// Who asks for an attempt that another has taken out of the shared queue is granted it as well.
    PooledBoundTwice,
    /// An agent starts what it took out of the shared queue without a grant.
    SharedNotGranted,
    /// So it does only with what was handed out before.
    RedeliveredNotGranted,
    /// An agent waits for no grant where one is asked for.
    GrantNotAwaited,
    /// A run that goes on after its end keeps the epoch that it had.
    RetryKeepsEpoch,
    /// A life of a name ends the one before at once, as if that could run nothing any more.
    NamesakeAdmitted,
}

impl Bug {
    /// All that are to be found, each with a seed that has found it: it is tried first, and the others in order if the
    /// world has changed since.
    pub const ALL: &[(Self, u64)] = &[
        (Self::AcknowledgeBeforeDurable, 1),
        (Self::OrderBeforeDurable, 1),
        (Self::StartedAgainAfterRestart, 1),
        (Self::SharedNotGranted, 2),
        (Self::EndAppendedTwice, 2),
        (Self::DrainIgnored, 3),
        (Self::NoGraceAfterRestart, 3),
        (Self::PooledBoundTwice, 5),
        (Self::GrantBeforeDurable, 5),
        (Self::JournalNotRead, 6),
        (Self::IncarnationIgnored, 6),
        (Self::StopIgnored, 7),
        (Self::NothingOrderedAgain, 8),
        (Self::NoRecovery, 9),
        (Self::LeaseNeverEndsAtCoordinator, 9),
        (Self::PoolLossNotRetried, 14),
        (Self::RedeliveredNotGranted, 16),
        (Self::SettledRunAgain, 17),
        (Self::ForgottenTooEarly, 21),
        (Self::RetryKeepsEpoch, 21),
        (Self::IncarnationReused, 22),
        (Self::EndsToldOnce, 25),
        (Self::GrantNotAwaited, 30),
        (Self::EpochIgnored, 47),
        (Self::SnapshotOfUndurable, 45),
        (Self::RoomNotToldAgain, 67),
        (Self::AttemptIgnored, 67),
        (Self::AnswerBeforeDurable, 105),
        (Self::HoldIgnored, 111),
        (Self::LeaseNeverEndsAtAgent, 121),
        (Self::LeftoversRunOn, 181),
        (Self::GoodbyeTooEarly, 242),
        (Self::NamesakeAdmitted, 442),
        (Self::JournalNotSynced, 895),
        (Self::LeaseCountedFromAnswer, 1_017),
        (Self::EndToldBeforeDurable, 1_100),
        (Self::WishAnsweredBeforeDurable, 1_131),
        (Self::OrdersToEarlierLivesObeyed, 4_972),
    ];
}
