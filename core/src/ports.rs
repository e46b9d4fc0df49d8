//! What the core needs from outside, as traits with few methods: tests hand in their own.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Tells the time.
pub trait Clock: Send + Sync + 'static {
    /// Milliseconds since the Unix epoch.
    fn now_ms(&self) -> i64;
}

/// Gives bytes that nobody can guess.
pub trait Random: Send + Sync + 'static {
    /// Fills the slice.
    fn fill(&self, bytes: &mut [u8]);
}

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now_ms(&self) -> i64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    }
}

/// The operating system's generator.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemRandom;

impl Random for SystemRandom {
    fn fill(&self, bytes: &mut [u8]) {
        use rand::RngCore as _;
        rand::rng().fill_bytes(bytes);
    }
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Text of the URL-safe base64 alphabet, six random bits a character.
pub fn random_text(random: &dyn Random, length: usize) -> String {
    let mut bytes = vec![0; length];
    random.fill(&mut bytes);
    bytes.into_iter().filter_map(|b| ALPHABET.get(usize::from(b & 63))).map(|b| char::from(*b)).collect()
}

/// Capital letters, ten of them as in most servers: a device id.
pub fn random_device_id(random: &dyn Random) -> String {
    let mut bytes = [0; 10];
    random.fill(&mut bytes);
    bytes.into_iter().map(|b| char::from(b'A' + b % 26)).collect()
}
