//! Which segments stay that tables have all of (`table/RETENTION.md`, section 2): an open neither walks nor needs them.

use super::decide::Verdicts;
use crate::base::options::RetainLog;
use crate::base::types::Lsn;
use crate::format::history::Entry;
use crate::log::read::reader::SegmentInfo;

impl Verdicts {
    /// Takes in the segments that are retained. They end where the log begins that is needed, without a hole; what lies below
    /// a hole, which no restore can go on from, is retired.
    pub(super) fn retain(&mut self, retain: &RetainLog) {
        let mut kept: Vec<SegmentInfo> = Vec::new();
        let mut is_joined = retain.is_any();
        for info in self.clean_up.take_retained().into_iter().rev() {
            is_joined = is_joined
                && match kept.last().or(self.catalogue.first()) {
                    Some(next) => self.joins(&info, next),
                    None => info.end >= self.report.tables_up_to.get(),
                };
            if is_joined {
                kept.push(self.clean_up.keep(info));
            } else {
                self.clean_up.let_go(info);
            }
        }
        if let Some(oldest) = kept.last() {
            self.oldest = Lsn::new(oldest.base());
            self.catalogue.splice(..0, kept.into_iter().rev());
        }
    }

    /// Whether the log goes on in `next` where it ends in `info`.
    fn joins(&self, info: &SegmentInfo, next: &SegmentInfo) -> bool {
        let number = |info: &SegmentInfo| info.header.identity.incarnation.number;
        let (own, other) = (number(info), number(next));
        if own == other {
            return info.header.limit() == next.base();
        }
        let entries = self.history.entries.iter().filter(|entry| (own..=other).contains(&entry.incarnation.number));
        entries.into_iter().all(|entry| match entry.incarnation.number {
            listed if listed == own => entry.end.is_some_and(|end| end.lsn.get() == info.end),
            listed if listed == other => entry.begin.get() == next.base(),
            _ => is_empty(entry),
        })
    }
}

fn is_empty(entry: &Entry) -> bool {
    entry.end.is_some_and(|end| end.lsn == entry.begin)
}
