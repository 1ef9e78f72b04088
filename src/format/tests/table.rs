//! The decision table in the code is the one in the specification, and it is unambiguous.

use std::collections::BTreeSet;

use crate::format::verdict::{FrameState, TABLE, Verdict, verdict};

const STATES: [FrameState; 9] = [
    FrameState::Missing,
    FrameState::Unreadable,
    FrameState::Unwritten,
    FrameState::HeaderTorn,
    FrameState::HeaderRotten,
    FrameState::Impossible,
    FrameState::PayloadTorn,
    FrameState::PayloadRotten,
    FrameState::Valid,
];

/// The rows between the markers in the specification, cell by cell. The last cell of each row, which is left out here,
/// is the history that leads to the row.
fn specified() -> Vec<[String; 4]> {
    let text = include_str!("../SPECIFICATION.md");
    let (_, rest) = text.split_once("<!-- table:begin -->\n").expect("the table begins");
    let (table, _) = rest.split_once("<!-- table:end -->").expect("the table ends");
    let rows = table.lines().skip(2);
    rows.map(|line| {
        let mut cells: Vec<String> = line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect();
        assert!(cells.pop().is_some_and(|history| history.len() > 20), "no history that leads to {line}");
        cells.try_into().unwrap_or_else(|cells| panic!("four cells and a history: {cells:?}"))
    })
    .collect()
}

#[test]
fn the_table_in_the_code_is_the_one_in_the_specification() {
    let in_code: Vec<[String; 4]> = TABLE
        .iter()
        .map(|row| {
            let side = row.below_durable.map_or("any", |below| if below { "below" } else { "at or above" });
            let later = row.later.map_or("any", |later| if later { "yes" } else { "no" });
            let verdict = match row.verdict {
                Verdict::Accept => "accept",
                Verdict::EndOfLog => "end of log",
                Verdict::TornTail => "torn tail",
                Verdict::Damage => "damage",
                Verdict::Unreadable => "unreadable",
            };
            [format!("{:?}", row.state), side.to_owned(), later.to_owned(), verdict.to_owned()]
        })
        .collect();
    assert_eq!(in_code, specified());
}

#[test]
fn every_state_is_described_in_the_specification() {
    let text = include_str!("../SPECIFICATION.md");
    for state in STATES {
        assert!(text.contains(&format!("| `{state:?}` |")), "{state:?} has no line in section 4");
    }
    let in_table: BTreeSet<String> = TABLE.iter().map(|row| format!("{:?}", row.state)).collect();
    let known: BTreeSet<String> = STATES.iter().map(|state| format!("{state:?}")).collect();
    assert_eq!(in_table, known);
}

#[test]
fn exactly_one_row_matches_each_combination() {
    let mut combinations = 0;
    for state in STATES {
        for below in [false, true] {
            for later in [false, true] {
                let rows: Vec<_> = TABLE
                    .iter()
                    .filter(|row| row.state == state)
                    .filter(|row| row.below_durable.is_none_or(|wanted| wanted == below))
                    .filter(|row| row.later.is_none_or(|wanted| wanted == later))
                    .collect();
                assert_eq!(rows.len(), 1, "{state:?} below {below} later {later}: {rows:?}");
                assert_eq!(verdict(state, below, later), rows[0].verdict);
                combinations += 1;
            }
        }
    }
    println!("decision table: {combinations} combinations, each matched by exactly one of {} rows", TABLE.len());
    assert_eq!(combinations, 36);
}

/// The prose of section 4: recovery never drops a frame that was once durable, and drops only frames that never landed.
#[test]
fn only_what_never_landed_is_dropped_and_only_above_the_durable_position() {
    for state in STATES {
        for later in [false, true] {
            let shows_fill = matches!(state, FrameState::Unwritten | FrameState::HeaderTorn | FrameState::PayloadTorn);
            let (below, above) = (verdict(state, true, later), verdict(state, false, later));
            match state {
                FrameState::Valid => assert_eq!((below, above), (Verdict::Accept, Verdict::Accept)),
                FrameState::Unreadable => assert_eq!((below, above), (Verdict::Unreadable, Verdict::Unreadable)),
                _ => {
                    assert_eq!(below, Verdict::Damage, "{state:?}");
                    assert_eq!(above != Verdict::Damage, shows_fill, "{state:?}");
                    assert_ne!(above, Verdict::Accept, "{state:?}");
                }
            }
        }
    }
}
