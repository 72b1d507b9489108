//! Ids of requests, answers and calls.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;

const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const LENGTH: usize = 24;

/// `prefix` and 24 random letters and digits.
pub fn random(prefix: &str) -> String {
    // The standard library's hash keys begin with the operating system's randomness, and every pair of them is another.
    let keys = [RandomState::new(), RandomState::new(), RandomState::new()];
    let mut id = prefix.to_owned();
    for place in 0..LENGTH {
        let word = keys[place / 8].hash_one(place / 8).rotate_right(8 * (place % 8) as u32);
        id.push(char::from(DIGITS[(word & 0xff) as usize % DIGITS.len()]));
    }
    id
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn ids_differ() {
        let ids: HashSet<String> = (0..10_000).map(|_| random("call_")).collect();
        assert_eq!(ids.len(), 10_000);
        assert!(ids.iter().all(|id| id.len() == "call_".len() + LENGTH && id.starts_with("call_")));
    }
}
