//! The clauses of `src/table/RULES.md`, each of which can be taken away.

/// The rules in force: all, or all but one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    removed: Option<Rule>,
}

impl Rules {
    pub(crate) const ALL: Rules = Rules { removed: None };

    pub(crate) fn without(rule: Rule) -> Rules {
        Rules { removed: Some(rule) }
    }

    pub(crate) fn has(self, rule: Rule) -> bool {
        self.removed != Some(rule)
    }
}

macro_rules! rules {
    ($($name:ident, $number:literal, $text:literal;)*) => {
        /// A clause.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub(crate) enum Rule { $($name),* }

        impl Rule {
            /// Each clause, with the number of its rule on the page, and its text there.
            pub(crate) const EACH: &[(Rule, u8, &str)] = &[$((Rule::$name, $number, $text)),*];
        }
    };
}

rules! {
    CheckpointVisible, 1, "a checkpoint ends at or below the visible LSN";
    CheckpointDurable, 1, "a checkpoint ends at or below the durable LSN";
    CheckpointRaises, 1, "a checkpoint raises the registry to its end";
    CheckpointHeld, 1, "a checkpoint leaves out no version that a held snapshot reads";
    StaysAboveFloor, 1, "an entry stays if its successor is above the horizon's floor";
    SegmentsAfterManifest, 1, "segments go only after the MANIFEST that does not need them is durable";
    HealGaps, 1, "a layer from memory has tombstones over the gaps of complete leaves";
    HealHeld, 1, "gaps as of its end, and as of each held LSN";
    HealVersions, 1, "a layer from memory has the versions that held snapshots find";
    HealRaises, 1, "a layer from memory raises the registry to its end";
    HealHold, 1, "its end is held while it is written";
    HealRanges, 1, "a layer from memory has the range tombstones of the list";
    ForgetInstalled, 1, "nothing above the installed `to` is forgotten";

    ForgetBuried, 2, "a leaf forgets only if `buried` is at or below `to`";
    ForgetKeepsNewer, 2, "forgetting leaves the records above `to`";
    ForgetIncomplete, 2, "a leaf that forgot is not complete";
    ForgotRecords, 2, "`forgot` counts the records that went";
    ForgotBuried, 2, "`forgot` counts the deletions that were buried";
    ForgotAway, 2, "`Away` has `forgot`";

    BuryFloor, 3, "a tombstone above the floor is not buried";
    BuryNote, 3, "a tombstone that a held snapshot is below leaves a note in `kept`, which validation asks";
    BuryInstalled, 3, "a leaf that is not complete buries only at or below `to`";
    BuryForgot, 3, "a leaf that is not complete counts what it buries in `forgot`";
    BuryBuried, 3, "a complete leaf counts what it buries in `buried`";
    BuryFrom, 3, "a leaf that is complete from an LSN on buries a tombstone below it only at or below `to`";

    DeleteUnknown, 4, "the deletion of an unknown key leaves a tombstone";
    PutThenDelete, 4, "a put and a deletion in one batch leave a tombstone";
    KeptTombstones, 4, "`kept` keeps superseded tombstones";
    ReplayTombstones, 4, "replay keeps tombstones";

    JoinGuard, 5, "leaves of different kinds join only if the complete one's `buried` is at or below `to`";
    JoinIncomplete, 5, "leaves of different kinds become one that is not complete";
    JoinFrom, 5, "complete leaves join only if they are complete from the same LSN on";
    JoinForgot, 5, "a join takes the larger `forgot`";
    JoinBuried, 5, "a join takes the larger `buried`";
    JoinCountsBuried, 5, "a join of different kinds counts `buried` in `forgot`";
    SplitForgot, 5, "a split copies `forgot`";
    SplitBuried, 5, "a split copies `buried`";

    MemoryFirst, 6, "the stack is taken after memory was looked at";
    PruningAlone, 6, "versions leave `undo` and `kept` by pruning alone";

    FillForgot, 7, "a fill lands only if `forgot` is at or below its stack's `to`";
    FillNewest, 7, "a fill brings the newest version of the stack";
    FillAbsent, 7, "a fill brings only what memory has not";
    FillWhole, 7, "a fill of a part of a leaf does not make it complete";
    FillBelow, 7, "a reader below the LSNs of a leaf that became complete asks the stack";
    SettleFloor, 7, "a leaf is complete for everybody only if its LSNs are at or below the floor";
    SettleHeld, 7, "a leaf is complete for everybody only if no held snapshot is below its LSNs";
    FillStackTo, 7, "its LSNs: the `to` of the fill's stack";
    FillRecords, 7, "its LSNs: those of its records";
    FillRanges, 7, "its LSNs: those of range tombstones of the list";
    FillUncovered, 7, "a fill brings nothing that a newer range tombstone of the list covers";

    ConflictForgot, 8, "validation asks `forgot`";
    ConflictRanges, 8, "validation asks the list of range deletions";

    MergeHeld, 9, "a merge leaves out no version that a held snapshot reads";
    MergeContiguous, 9, "the layers of a job are contiguous";
    TombstoneLast, 9, "a tombstone goes only from the last layer";
    TombstoneOldest, 9, "a tombstone goes only as the oldest entry kept of its key";
    RangeLast, 9, "a range tombstone goes only from the last layer";
    RangeOldest, 9, "a range tombstone goes only if no older entry in its range is kept";
    RangeCovered, 9, "the successor of a range tombstone is one that covers its whole range";
    RangeCut, 9, "a job cuts a range tombstone where it cuts its layers";

    OpenAway, 10, "after an open nothing is complete";
    OpenDurable, 10, "what an open accepted is durable before a snapshot begins";
    OpenRanges, 10, "replay keeps range tombstones";

    ListRead, 11, "a read asks the list";
    ListPoint, 11, "a version with the LSN of a range tombstone is newer";
    ListBatch, 11, "a put that a later range deletion of its batch covers is not applied";
    ListAboveStack, 11, "a tombstone above the stack's `to` answers for a leaf that is not complete";
    ListAsksStack, 11, "one at or below it does not: the layers are asked";
    ListAtTo, 11, "one with the LSN of `to` itself does not, either";
    WriteCloses, 11, "a write to a covered record supersedes it at the range tombstone first";
    WriteClosesFirst, 11, "that is the oldest range tombstone above the record";
    SweepFloor, 11, "a sweep waits until the tombstone is at or below the floor";
    SweepPruned, 11, "a sweep waits until pruning has passed the tombstone";
    SweepKept, 11, "a sweep keeps what held snapshots read";
    SweepClosesFirst, 11, "a sweep supersedes a record at the oldest range tombstone above it";
    RangeBurySwept, 11, "a leaf buries a range tombstone only when it was swept";
    RangeBuryFloor, 11, "a leaf buries a range tombstone only at or below the floor";
    RangeBuryNote, 11, "a complete leaf that buries one which a held snapshot is below counts it in `forgot`, too";
    RangeBuryInstalled, 11, "a leaf that is not complete buries a range tombstone only at or below `to`";
    RangeBuryForgot, 11, "a leaf that is not complete counts a buried range tombstone in `forgot`";
    RangeBuryBuried, 11, "a complete leaf counts a buried range tombstone in `buried`";
    RangeEveryLeaf, 11, "a range tombstone leaves the list only when every leaf of its range has buried it";
    ListCovered, 11, "a tombstone gives way to a newer one only if that covers its whole range";
    ListFloor, 11, "a tombstone gives way to a newer one only if that is at or below the floor";
    ListHeld, 11, "a tombstone gives way to a newer one only if no snapshot is held between";
}
