//! Where tasks, milestones and runs stand.

macro_rules! statuses {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default, serde::Serialize, serde::Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum $name { #[default] $($(#[$variant_doc])* $variant,)* }

        impl $name {
            /// All of them, in the order of a life.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The name in JSON and on the screen.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }
    };
}

statuses! {
    /// Where a task stands.
    TaskStatus {
        /// Waits for what it needs, or for the time of its next attempt.
        Pending = "pending",
        /// Could run, were there room.
        Ready = "ready",
        /// Offered to an agent.
        Dispatched = "dispatched",
        /// Runs.
        InProgress = "in_progress",
        /// Done.
        Completed = "completed",
        /// Failed for good.
        Failed = "failed",
        /// Will not run because of another task.
        Skipped = "skipped",
        /// Somebody cancelled it.
        Cancelled = "cancelled",
    }
}

statuses! {
    /// Where a milestone stands.
    MilestoneStatus {
        /// Waits for what it needs.
        Planned = "planned",
        /// Its tasks may run.
        Active = "active",
        /// Nothing of it is dispatched until it is resumed.
        Paused = "paused",
        /// Done.
        Completed = "completed",
        /// A task of it failed.
        Failed = "failed",
        /// It was skipped, at least in part.
        Skipped = "skipped",
        /// It was cancelled, at least in part.
        Cancelled = "cancelled",
    }
}

statuses! {
    /// Where a run stands.
    RunStatus {
        /// Not submitted.
        Absent = "absent",
        /// Under way.
        Active = "active",
        /// Nothing is dispatched until it is resumed.
        Paused = "paused",
        /// Done.
        Completed = "completed",
        /// A task failed.
        Failed = "failed",
        /// Somebody cancelled it.
        Cancelled = "cancelled",
    }
}

impl TaskStatus {
    /// Whether nothing can happen to the task any more.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Skipped | Self::Cancelled)
    }

    /// Whether an attempt is with an agent.
    #[must_use]
    pub const fn is_out(self) -> bool {
        matches!(self, Self::Dispatched | Self::InProgress)
    }
}

impl RunStatus {
    /// Whether nothing can happen to the run any more.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }
}
