//! Rate limits: a token bucket for each key, in memory only.
//!
//! Instead of a count and its time, a bucket keeps the time at which it will be full again (the generic cell rate
//! algorithm): one number, and a bucket that is full can be forgotten. Keys (users, login names, addresses) are kept
//! as hashes under a random key, so that memory is bounded whatever clients send, and no address can be read from it.

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, RandomState},
    time::Duration,
};

use myelin_core::config::{Limits, Rate};
use parking_lot::Mutex;

use crate::response::ApiError;

/// Most buckets of one limiter.
const BUCKETS: usize = 100_000;

/// Longest time that one use costs, for rates near zero.
const LONGEST: f64 = 86_400.0;

/// The limiters of the client-server API.
pub struct RateLimits {
    /// Logins, by account and by address.
    pub login: RateLimiter,
    /// Registrations, by address.
    pub registration: RateLimiter,
    /// Events, by user.
    pub message: RateLimiter,
}

impl RateLimits {
    /// Limiters with the figures of the settings.
    pub fn new(limits: &Limits) -> Self {
        let limiter =
            |rate: Rate| RateLimiter::new(Rate { enabled: limits.rate_limits && rate.enabled, ..rate });
        Self {
            login: limiter(limits.login),
            registration: limiter(limits.registration),
            message: limiter(limits.message),
        }
    }
}

/// Token buckets of one kind.
pub struct RateLimiter {
    enabled: bool,
    /// What one use costs.
    cost: Duration,
    /// The debt up to which a use is allowed.
    tolerance: Duration,
    hasher: RandomState,
    /// When the bucket of a key is full again.
    full_at: Mutex<HashMap<u64, Duration>>,
}

impl RateLimiter {
    /// Buckets that hold `rate.burst` and gain `rate.per_second`.
    pub fn new(rate: Rate) -> Self {
        let cost = Duration::from_secs_f64((1.0 / rate.per_second.max(f64::MIN_POSITIVE)).min(LONGEST));
        Self {
            enabled: rate.enabled,
            cost,
            tolerance: cost.saturating_mul(rate.burst.saturating_sub(1)),
            hasher: RandomState::new(),
            full_at: Mutex::default(),
        }
    }

    /// Takes one from the bucket of `key`, or says when to come again. `now` counts from any fixed moment.
    pub fn check(&self, key: &str, now: Duration) -> Result<(), ApiError> {
        if !self.enabled {
            return Ok(());
        }
        let key = self.hasher.hash_one(key);
        let mut buckets = self.full_at.lock();
        let debt = buckets.get(&key).map_or(Duration::ZERO, |full_at| full_at.saturating_sub(now));
        if debt > self.tolerance {
            let wait = (debt - self.tolerance).as_millis();
            return Err(ApiError::limit_exceeded(u64::try_from(wait).unwrap_or(u64::MAX).max(1)));
        }
        if buckets.len() >= BUCKETS {
            make_room(&mut buckets, now);
        }
        buckets.insert(key, now + debt + self.cost);
        Ok(())
    }
}

/// Forgets full buckets. If that is not enough all are forgotten: then a flood of keys helps those who are limited,
/// while the alternative would lock out everybody.
fn make_room(buckets: &mut HashMap<u64, Duration>, now: Duration) {
    buckets.retain(|_, full_at| *full_at > now);
    if buckets.len() > BUCKETS / 2 {
        buckets.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::{BUCKETS, Duration, Rate, RateLimiter};

    fn limiter(per_second: f64, burst: u32) -> RateLimiter {
        RateLimiter::new(Rate { enabled: true, per_second, burst })
    }

    #[test]
    fn a_burst_then_the_rate() {
        let limiter = limiter(2.0, 3);
        let start = Duration::from_secs(1000);
        for _ in 0..3 {
            limiter.check("a", start).unwrap();
        }
        let error = limiter.check("a", start).unwrap_err();
        assert_eq!(error.errcode(), Some("M_LIMIT_EXCEEDED"));
        limiter.check("b", start).unwrap();
        let later = start + Duration::from_millis(500);
        limiter.check("a", later).unwrap();
        limiter.check("a", later).unwrap_err();
    }

    #[test]
    fn what_is_off_allows_everything() {
        let limiter = RateLimiter::new(Rate { enabled: false, per_second: 0.0, burst: 1 });
        for _ in 0..100 {
            limiter.check("a", Duration::ZERO).unwrap();
        }
    }

    #[test]
    fn a_rate_of_zero_never_fills() {
        let limiter = limiter(0.0, 1);
        limiter.check("a", Duration::ZERO).unwrap();
        limiter.check("a", Duration::from_secs(3600)).unwrap_err();
    }

    #[test]
    fn memory_is_bounded() {
        let limiter = limiter(0.001, 1);
        for number in 0..BUCKETS + 10 {
            limiter.check(&number.to_string(), Duration::ZERO).unwrap();
        }
        assert!(limiter.full_at.lock().len() <= BUCKETS);
    }
}
