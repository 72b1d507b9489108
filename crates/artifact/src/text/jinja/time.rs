//! `strftime`, as templates tell the date.

use std::time::SystemTime;

use jiff::{
    Timestamp,
    fmt::strtime::{BrokenDownTime, Config},
};

/// `strftime` in UTC; a directive that is not known stays as it is.
pub(super) fn strftime(time: SystemTime, format: &str) -> String {
    let time = Timestamp::try_from(time).unwrap_or(Timestamp::UNIX_EPOCH);
    let formatted = BrokenDownTime::from(time).to_string_with_config(&Config::new().lenient(true), format);
    formatted.unwrap_or_else(|_| format.to_owned())
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    #[test]
    fn dates() {
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        assert_eq!(strftime(at(0), "%Y-%m-%d %H:%M:%S %a"), "1970-01-01 00:00:00 Thu");
        assert_eq!(strftime(at(1_709_210_096), "%d %B %Y, %-I:%M %p, %A %%"), "29 February 2024, 12:34 PM, Thursday %");
        assert_eq!(strftime(at(4_102_444_799), "%y%m%d%H%M%S%K%"), "991231235959%K%");
    }

    #[test]
    fn a_hostile_format_stays_small() {
        let at = SystemTime::UNIX_EPOCH;
        for format in ["%99999999999d", "%-", "%", "%🙂", "%255d", "%:::::z", "%.99f"] {
            assert!(strftime(at, format).len() < 1000, "{format}");
        }
    }
}
