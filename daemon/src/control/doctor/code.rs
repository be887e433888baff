//! All findings that there are, and the words that they are known by.

use super::{Finding, Severity};

/// Makes of one list the findings, the words and [`Code::ALL`].
macro_rules! codes {
    ($($name:ident = $word:literal,)*) => {
        /// All findings there are. The words are stable; a new finding gets a new one.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub(super) enum Code {
            $($name,)*
        }

        impl Code {
            /// Each of them.
            #[cfg(test)]
            pub(super) const ALL: &[Code] = &[$(Code::$name,)*];

            pub(super) fn word(self) -> &'static str {
                match self {
                    $(Code::$name => $word,)*
                }
            }
        }
    };
}

codes! {
    OwnTrackerUnreached = "TRK-01",
    TrackerBeingTried = "TRK-02",
    OtherTrackerUnreached = "TRK-03",
    TrackerReached = "TRK-04",
    TrackerByTcp = "TRK-05",
    SamePort = "NET-01",
    RandomPorts = "NET-02",
    CountedPorts = "NET-03",
    OtherPorts = "NET-04",
    PortsUnknown = "NET-05",
    EarlyPacketsClash = "NET-06",
    ListensLocally = "NET-07",
    TrackerIsHere = "NET-08",
    NoAddress = "NET-09",
    NoIpv6 = "NET-10",
    Hairpin = "NET-11",
    PortOpen = "PORT-01",
    PortNotKnown = "PORT-02",
    RouterSilent = "PORT-03",
    RouterRefuses = "PORT-04",
    RouterBehindNat = "PORT-05",
    PortShut = "PORT-06",
    PortMappingOff = "PORT-07",
    NoRouter = "PORT-08",
    AllDirect = "PEER-01",
    SomeRelayed = "PEER-02",
    SomeFailed = "PEER-03",
    NoneReached = "PEER-04",
    NoneTried = "PEER-05",
    AllWell = "PEER-06",
    TrackerNameUnknown = "TRK-11",
    TrackerKeyDiffers = "TRK-12",
    NobodyListens = "TRK-13",
    NoRoute = "TRK-14",
    NotATracker = "TRK-15",
    TrackerOfAnotherVersion = "TRK-16",
    NarrowPath = "NET-12",
    RelayOnly = "NET-13",
    DirectOnly = "NET-14",
    RelaysNothing = "NET-15",
    DiskFull = "DISK-24",
    FolderShut = "DISK-25",
    DiskHangs = "DISK-26",
    ClockDiffers = "HOST-01",
    FewFiles = "HOST-02",
    FilesUsedUp = "HOST-03",
    ShareStopped = "SHR-12",
    ShareChanged = "SHR-13",
    SharePaused = "SHR-14",
    NobodyHasIt = "SHR-15",
    NobodyHasTheRest = "SHR-16",
    SendsSlowly = "LIM-01",
    ReceivesSlowly = "LIM-02",
    InBackground = "LIM-03",
    ShareIsLimited = "LIM-04",
    PeersLie = "PEER-08",
}

impl Code {
    /// Without anything to do about it.
    pub(super) fn says(self, severity: Severity, text: impl Into<String>) -> Finding {
        Finding {
            code: self.word().to_owned(),
            severity,
            text: text.into(),
            action: None,
        }
    }
}
