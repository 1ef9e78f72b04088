//! Randomness enters here: log ids and incarnation nonces.

/// `N` random bytes from the operating system, or from the seed of the simulation that this thread runs in.
pub(crate) fn bytes<const N: usize>() -> std::io::Result<[u8; N]> {
    let mut bytes = [0; N];
    #[cfg(feature = "sim")]
    if super::schedule::fill_random(&mut bytes) {
        return Ok(bytes);
    }
    getrandom::fill(&mut bytes).map_err(std::io::Error::from)?;
    Ok(bytes)
}
