//! Randomness enters here: log ids and incarnation nonces.

/// `N` random bytes from the operating system, or from the seed of the simulation that this thread runs in.
pub(crate) fn bytes<const N: usize>() -> std::io::Result<[u8; N]> {
    let mut bytes = [0; N];
    if !is_drawn(&mut bytes) {
        getrandom::fill(&mut bytes).map_err(std::io::Error::from)?;
    }
    Ok(bytes)
}

/// Fills `bytes` from a seed, if there is one.
fn is_drawn(_bytes: &mut [u8]) -> bool {
    // Part of the schedule that a failed model prints, so a replay draws the same bytes.
    #[cfg(shuttle)]
    shuttle::rand::RngCore::fill_bytes(&mut shuttle::rand::thread_rng(), _bytes);
    #[cfg(all(feature = "sim", not(shuttle)))]
    return super::schedule::fill_random(_bytes);
    #[cfg(any(shuttle, not(feature = "sim")))]
    cfg!(shuttle)
}
