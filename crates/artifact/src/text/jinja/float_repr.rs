//! Python's `repr` of a float.

/// `repr` of a float: the shortest digits that read back as the same number.
pub(super) fn float(x: f64) -> String {
    if !x.is_finite() {
        return not_finite(x).to_owned();
    }
    let shortest = format!("{x:e}");
    let (sign, digits, exponent) = digits(&shortest);
    if (-4..16).contains(&exponent) {
        let text = positional(&digits, exponent);
        return if text.contains('.') { format!("{sign}{text}") } else { format!("{sign}{text}.0") };
    }
    scientific(sign, &digits, exponent)
}

pub(super) fn not_finite(x: f64) -> &'static str {
    match (x.is_nan(), x > 0.0) {
        (true, _) => "nan",
        (false, true) => "inf",
        (false, false) => "-inf",
    }
}

/// Sign, digits without a point, and exponent of a number such as `-1.25e7`.
pub(super) fn digits(text: &str) -> (&str, String, i32) {
    let (mantissa, exponent) = text.split_once('e').unwrap_or((text, "0"));
    let unsigned = mantissa.strip_prefix('-');
    let sign = if unsigned.is_some() { "-" } else { "" };
    (sign, unsigned.unwrap_or(mantissa).replace('.', ""), exponent.parse().unwrap_or(0))
}

/// Digits with the point behind the one of 10^0.
pub(super) fn positional(digits: &str, exponent: i32) -> String {
    let whole = usize::try_from(exponent + 1).unwrap_or(0);
    if exponent < 0 {
        format!("0.{}{digits}", "0".repeat(exponent.unsigned_abs() as usize - 1))
    } else if digits.len() <= whole {
        format!("{digits}{}", "0".repeat(whole - digits.len()))
    } else {
        format!("{}.{}", &digits[..whole], &digits[whole..])
    }
}

pub(super) fn scientific(sign: &str, digits: &str, exponent: i32) -> String {
    let point = if digits.len() > 1 { "." } else { "" };
    let direction = if exponent < 0 { '-' } else { '+' };
    format!("{sign}{}{point}{}e{direction}{:02}", &digits[..1], &digits[1..], exponent.unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_print_as_in_python() {
        for (x, text) in [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (1.0, "1.0"),
            (0.1, "0.1"),
            (1e16, "1e+16"),
            (1e15, "1000000000000000.0"),
            (123_456.789, "123456.789"),
            (1e-4, "0.0001"),
            (1.5e-5, "1.5e-05"),
            (1e20, "1e+20"),
            (1e100, "1e+100"),
            (f64::NAN, "nan"),
            (f64::NEG_INFINITY, "-inf"),
        ] {
            assert_eq!(float(x), text);
        }
    }
}
