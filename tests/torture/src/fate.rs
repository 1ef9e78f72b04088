//! What befalls a child: where it is killed, which of its calls fails, how it ends itself. One word each, so that a
//! failure can be replayed.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::script::Script;

/// Names for the variants of an enum, on the command line and in the report.
macro_rules! named {
    ($(#[$doc:meta])* $type:ident { $($(#[$note:meta])* $variant:ident = $name:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub(crate) enum $type { $($(#[$note])* $variant),+ }

        impl $type {
            pub(crate) const ALL: &[$type] = &[$($type::$variant),+];

            pub(crate) fn name(self) -> &'static str {
                match self { $($type::$variant => $name),+ }
            }

            fn parse(text: &str) -> Option<Self> {
                Self::ALL.iter().find(|one| one.name() == text).copied()
            }
        }
    };
}

named! {
    /// The system calls that change the disk, or decide who may.
    Call {
        Pwrite = "pwrite",
        StartWriteback = "sync-file-range",
        Fdatasync = "fdatasync",
        Fsync = "fsync",
        Open = "open",
        Rename = "rename",
        Unlink = "unlink",
        Ftruncate = "ftruncate",
        Lock = "lock",
        Fallocate = "fallocate",
        Mkdir = "mkdir",
        Submit = "io-uring-enter",
    }
}

named! {
    /// How a call fails.
    Fault {
        Eio = "eio",
        NoSpace = "enospc",
        NoFiles = "emfile",
        Interrupted = "eintr",
        /// It writes half of what it was given, and says so.
        Short = "short",
        /// It writes 100 bytes, which is the end of nothing, and says so.
        Hundred = "short-100",
    }
}

impl Fault {
    /// How much of so many bytes is written, if anything is.
    pub(crate) fn short_count(self, bytes: u64) -> Option<u64> {
        match self {
            Fault::Short => Some(bytes / 2),
            Fault::Hundred => Some(bytes.min(100)),
            _ => None,
        }
    }

    /// Whether nobody must notice. (The standard library repeats an interrupted open of a file, and not of a directory
    /// that is listed.)
    pub(crate) fn is_harmless(self, call: Call) -> bool {
        self.short_count(u64::MAX).is_some() || (self == Fault::Interrupted && call != Call::Open)
    }
}

named! {
    /// What a write leaves undone that says it has done everything.
    Lie {
        Nothing = "lie-nothing",
        OneByte = "lie-one-byte",
        Hundred = "lie-100",
        Half = "lie-half",
        AllButOneByte = "lie-all-but-one-byte",
    }
}

impl Lie {
    /// How much of so many bytes is written.
    pub(crate) fn count(self, bytes: u64) -> u64 {
        match self {
            Lie::Nothing => 0,
            Lie::OneByte => 1,
            Lie::Hundred => 100,
            Lie::Half => bytes / 2,
            Lie::AllButOneByte => bytes.saturating_sub(1),
        }
    }
}

named! {
    /// How a child ends itself, or fails to.
    Death {
        /// `abort` inside a callback.
        Abort = "abort-in-callback",
        CallbackPanic = "panic-in-callback",
        TransactionPanic = "panic-in-transaction",
        /// No file may grow any more (RLIMIT_FSIZE): the write fails...
        FileLimit = "file-limit",
        /// ...or kills the process (SIGXFSZ).
        FileLimitSignal = "file-limit-signal",
        /// No memory is to be had any more (RLIMIT_AS).
        MemoryLimit = "memory-limit",
        /// Killed by the kernel, in a memory cgroup that is full.
        OutOfMemory = "out-of-memory",
    }
}

/// What befalls a child.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fate {
    /// Nothing.
    Finish,
    /// SIGKILL when any of its threads is about to make the n-th of all calls.
    Before(u64),
    /// SIGKILL when the n-th of all calls has returned.
    After(u64),
    /// The n-th call of this kind fails.
    Fails(Call, Fault, u64),
    /// The n-th write lies, and the m-th call after it is not made: SIGKILL.
    Lies(Lie, u64, u64),
    /// SIGKILL so long after the database was opened.
    Kill(Duration),
    /// SIGSTOP, and a while later SIGKILL.
    Stop(Duration),
    /// Its own doing, before its n-th commit.
    Dies(Death, u32),
}

impl Fate {
    /// Whether it takes a tracer.
    pub(crate) fn is_traced(self) -> bool {
        matches!(self, Fate::Before(_) | Fate::After(_) | Fate::Fails(..) | Fate::Lies(..))
    }
}

impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fate::Finish => f.write_str("finish"),
            Fate::Before(nth) => write!(f, "before:{nth}"),
            Fate::After(nth) => write!(f, "after:{nth}"),
            Fate::Fails(call, fault, nth) => write!(f, "{}:{}:{nth}", fault.name(), call.name()),
            Fate::Lies(lie, nth, more) => write!(f, "{}:{nth}:{more}", lie.name()),
            Fate::Kill(after) => write!(f, "kill:{}", after.as_micros()),
            Fate::Stop(after) => write!(f, "stop:{}", after.as_micros()),
            Fate::Dies(death, nth) => write!(f, "{}:{nth}", death.name()),
        }
    }
}

impl FromStr for Fate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut words = text.split(':');
        let mut parse = || {
            let what = words.next()?;
            if what == "finish" {
                return Some(Fate::Finish);
            }
            if let Some(fault) = Fault::parse(what) {
                return Some(Fate::Fails(Call::parse(words.next()?)?, fault, words.next()?.parse().ok()?));
            }
            let nth: u64 = words.next()?.parse().ok()?;
            if let Some(lie) = Lie::parse(what) {
                return Some(Fate::Lies(lie, nth, words.next()?.parse().ok()?));
            }
            Some(match what {
                "before" => Fate::Before(nth),
                "after" => Fate::After(nth),
                "kill" => Fate::Kill(Duration::from_micros(nth)),
                "stop" => Fate::Stop(Duration::from_micros(nth)),
                death => Fate::Dies(Death::parse(death)?, u32::try_from(nth).ok()?),
            })
        };
        parse().filter(|_| words.next().is_none()).ok_or_else(|| format!("'{text}' befalls nobody"))
    }
}

/// One life in a case.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Step {
    pub(crate) script: Script,
    pub(crate) fate: Fate,
    /// Whether the database is opened and compared after it.
    pub(crate) checked: bool,
}

/// The lives of one database: `SCRIPT@FATE`, joined by `,` where it is checked in between, and by `+` where it is not.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(crate) struct Case(pub(crate) Vec<Step>);

impl Case {
    /// The modes of the last life that committed and did not come to its end by itself.
    pub(crate) fn modes(&self) -> Option<&'static str> {
        let cut_off = |step: &&Step| step.script.has_commits() && step.fate != Fate::Finish;
        self.0.iter().rfind(cut_off).map(|step| step.script.modes.name())
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut before = "";
        for Step { script, fate, checked } in &self.0 {
            write!(f, "{before}{script}@{fate}")?;
            before = if *checked { "," } else { "+" };
        }
        Ok(())
    }
}

impl FromStr for Case {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let step = |text: &str| {
            let checked = !text.ends_with('+');
            let (script, fate) = text.trim_end_matches([',', '+']).split_once('@').ok_or("a life is SCRIPT@FATE")?;
            Ok(Step { script: script.parse()?, fate: fate.parse()?, checked })
        };
        match text.split_inclusive([',', '+']).map(step).collect::<Result<Vec<_>, String>>()? {
            none if none.is_empty() => Err("no life at all".to_owned()),
            steps => Ok(Case(steps)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_reads_back_as_it_was_written() {
        let text = "sync-1x6-4096@before:17+written-1x0-4096-retiring-uring@eio:fsync:2,mixed-3xever-65536@kill:1500,\
                    async-1x3-4096-uring@file-limit:2,sync-1x3-4096@lie-100:7:3,within-2x9-4096@finish";
        assert_eq!(text.parse::<Case>().unwrap().to_string(), text);
        for wrong in ["", "sync-1x6-4096", "sync-1x6-4096@before", "sync-1x6@before:1", "sync-1x6-4096@before:1:2"] {
            assert!(wrong.parse::<Case>().is_err(), "{wrong}");
        }
    }
}
