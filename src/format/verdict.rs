//! The decision table of recovery (specification, sections 4 and 5), as data.

/// The state of the frame at the position where the next one must be.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum FrameState {
    /// The segment that should hold it is absent, short, or its header is bad.
    Missing,
    /// A read of the bytes failed.
    Unreadable,
    /// All header words are fill.
    Unwritten,
    /// The header's checksum does not match; some, not all, of its words are fill, or the
    /// last one is cut.
    HeaderTorn,
    /// The header's checksum does not match; none of its words is fill or cut.
    HeaderRotten,
    /// The header's checksum matches, but a field or the order of kinds is impossible.
    Impossible,
    /// The header is valid, the payload is not; some payload word is fill, or the last one is cut.
    PayloadTorn,
    /// The header is valid, the payload is not; no payload word is fill or cut.
    PayloadRotten,
    /// Valid, and of a kind that may come here.
    Valid,
}

/// The decision of recovery.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Verdict {
    /// Go on behind the frame.
    Accept,
    /// The log ends here and nothing was dropped.
    EndOfLog,
    /// The log ends here. The frames above are legally lost.
    TornTail,
    /// Refuse to open; change no byte.
    Damage,
    /// Refuse to open; change no byte. The bytes are unknown, so this is not called damage.
    Unreadable,
}

/// One row of the table; `None` stands for "any".
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Row {
    /// The state of the frame.
    pub state: FrameState,
    /// Whether it lies below the durable LSN that the log proves.
    pub below_durable: Option<bool>,
    /// Whether a valid header was found above it.
    pub later: Option<bool>,
    /// The decision.
    pub verdict: Verdict,
}

const fn row(state: FrameState, below_durable: Option<bool>, later: Option<bool>, verdict: Verdict) -> Row {
    Row { state, below_durable, later, verdict }
}

/// The table. Exactly one row matches each combination.
pub const TABLE: [Row; 13] = {
    use FrameState as S;
    use Verdict as V;
    [
        row(S::Missing, None, None, V::Damage),
        row(S::Unreadable, None, None, V::Unreadable),
        row(S::Unwritten, Some(true), None, V::Damage),
        row(S::Unwritten, Some(false), Some(false), V::EndOfLog),
        row(S::Unwritten, Some(false), Some(true), V::TornTail),
        row(S::HeaderTorn, Some(true), None, V::Damage),
        row(S::HeaderTorn, Some(false), None, V::TornTail),
        row(S::HeaderRotten, None, None, V::Damage),
        row(S::Impossible, None, None, V::Damage),
        row(S::PayloadTorn, Some(true), None, V::Damage),
        row(S::PayloadTorn, Some(false), None, V::TornTail),
        row(S::PayloadRotten, None, None, V::Damage),
        row(S::Valid, None, None, V::Accept),
    ]
};

/// The decision for one combination. A combination without a row would be damage; the tests show that there is none.
pub fn verdict(state: FrameState, below_durable: bool, later: bool) -> Verdict {
    let matches = |row: &&Row| {
        row.state == state
            && row.below_durable.is_none_or(|wanted| wanted == below_durable)
            && row.later.is_none_or(|wanted| wanted == later)
    };
    TABLE.iter().find(matches).map_or(Verdict::Damage, |row| row.verdict)
}
