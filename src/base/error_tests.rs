//! Each cause appears once in the output, with every way of printing the error.

use std::error::Error as _;
use std::io;

use crashkit::chain;

use super::{DamageCause, Error, ErrorKind};
use crate::base::types::Lsn;

const CAUSE: &str = "the cause of it all";

fn refused_by_the_system() -> io::Error {
    io::Error::other(CAUSE)
}

/// An error of each shape that the crate makes, for each kind: without a cause, with one of the operating system, and
/// with an error of this crate that has one itself.
fn all() -> Vec<(Error, bool)> {
    let shapes = ErrorKind::ALL.into_iter().flat_map(|kind| {
        let plain = Error::new(kind, "it failed");
        let refused = plain.clone().with_source(refused_by_the_system());
        let nested = plain.clone().with_source(refused.clone());
        let twice = plain.clone().with_source(nested.clone());
        [(plain, false), (refused, true), (nested, true), (twice, true)]
    });
    let file = "db/x.log".as_ref();
    let made = [
        Error::io("open", file, refused_by_the_system()),
        Error::unreadable(file, Lsn::ZERO, refused_by_the_system()),
        Error::damaged(file, Lsn::ZERO, DamageCause::Unreadable).with_source(refused_by_the_system()),
    ];
    shapes.chain(made.map(|error| (error, true))).collect()
}

#[test]
fn a_chain_printer_shows_each_cause_once() {
    for (error, has_cause) in all() {
        let expected = usize::from(has_cause);
        let shown = chain(&error);
        assert_eq!(shown.matches(CAUSE).count(), expected, "{shown}");
        // With the kind's own text, and boxed, as `main` and most programs have it.
        let boxed: Box<dyn std::error::Error + Send + Sync> = error.clone().into();
        assert_eq!(chain(&*boxed), shown);
        assert_eq!(format!("{error:?}").matches(CAUSE).count(), expected, "{error:?}");
    }
}

#[test]
fn an_error_alone_tells_its_cause() {
    for (error, has_cause) in all() {
        assert_eq!(error.to_string().contains(CAUSE), has_cause, "{error}");
    }
}

/// The number of the operating system's error is available at every depth of the chain.
#[test]
fn the_error_of_the_operating_system_can_be_had() {
    let refused = Error::io("write", "db/x.log".as_ref(), io::Error::from_raw_os_error(5));
    let poisoned = Error::new(ErrorKind::Poisoned, "it stopped").with_source(refused.clone());
    for error in [&refused, &poisoned] {
        assert_eq!(error.io_error().and_then(io::Error::raw_os_error), Some(5), "{error}");
        assert!(error.source().is_none(), "its text is in the error's own");
    }
    assert!(Error::invalid_input("no").io_error().is_none());
}

#[cfg(target_os = "linux")]
#[test]
fn what_there_is_no_more_of_is_told_with_what_to_do() {
    let steps = [
        (24, "ulimit -n"),
        (27, "ulimit -f"),
        (28, "Make room"),
        (122, "within the quota"),
        (12, "ulimit -v"),
        (11, "ulimit -u"),
    ];
    for (code, step) in steps {
        let file = "db/x.log".as_ref();
        let cause = || io::Error::from_raw_os_error(code);
        for error in [Error::io("write", file, cause()), Error::unreadable(file, Lsn::ZERO, cause())] {
            let text = error.to_string();
            assert!(text.contains("db/x.log") && text.contains(step), "{text}");
            assert!(text.ends_with(&format!("(os error {code})")), "{text}");
        }
    }
    let other = Error::io("write", "db/x.log".as_ref(), io::Error::from_raw_os_error(5));
    assert_eq!(other.to_string(), "cannot write db/x.log: Input/output error (os error 5)");
}

/// The error of a disk may have causes of its own, which only a chain printer shows.
#[test]
fn what_lies_behind_the_error_of_the_operating_system_stays_in_the_chain() {
    #[derive(Debug)]
    struct Wrapped(io::Error);
    impl std::fmt::Display for Wrapped {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("wrapped")
        }
    }
    impl std::error::Error for Wrapped {
        fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
            Some(&self.0)
        }
    }
    let error = Error::io("read", "db/x.log".as_ref(), io::Error::other(Wrapped(refused_by_the_system())));
    assert_eq!(chain(&error), format!("cannot read db/x.log: wrapped: {CAUSE}"));
    let outer = Error::new(ErrorKind::Poisoned, "stopped").with_source(error);
    assert_eq!(chain(&outer), format!("stopped: cannot read db/x.log: wrapped: {CAUSE}"));
}
