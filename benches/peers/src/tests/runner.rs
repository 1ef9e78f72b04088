use crate::runner::order;

#[test]
fn each_turn_takes_every_cell_once_in_another_order() {
    let turns: Vec<Vec<usize>> = (0..4).map(|turn| order(4, turn)).collect();
    assert_eq!(turns, [[0, 1, 2, 3], [0, 3, 2, 1], [2, 3, 0, 1], [2, 1, 0, 3]]);
    assert_eq!(order(0, 7), [0; 0]);
}
