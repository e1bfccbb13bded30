//! Random numbers for tests that try moments and orders; a failure names the seed.

/// SplitMix64: small, even enough, and the same on every machine.
#[derive(Debug)]
pub struct Random {
    seed: u64,
    state: u64,
}

impl Random {
    /// From `DUNNAGE_SEED`, else from the clock.
    ///
    /// # Panics
    /// When the variable is no number.
    #[allow(clippy::new_without_default, reason = "two of them differ")]
    pub fn new() -> Self {
        let clock =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(1, |now| now.as_nanos() as u64);
        let seed = std::env::var("DUNNAGE_SEED").map_or(clock, |text| text.parse().expect("DUNNAGE_SEED is a number"));
        Random { seed, state: seed }
    }

    /// What `DUNNAGE_SEED` must be to see the same again.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// A number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end.max(1)
    }
}

/// How often a test repeats itself: a variable, else a number that CI can afford.
///
/// # Panics
/// When the variable is no number.
pub fn rounds(variable: &str, usual: u64) -> u64 {
    std::env::var(variable).map_or(usual, |text| text.parse().expect("a number of rounds"))
}
