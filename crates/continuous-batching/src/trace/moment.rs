//! When a request arrived.

use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime};

/// How a format gives the time at which a request arrived.
#[derive(Clone, Copy, Debug)]
pub(super) enum Clock {
    /// A date and a time of day, `2023-11-16 18:15:46.6805900`; in UTC unless it has a zone.
    Date,
    /// Seconds from some instant, as a decimal number.
    Seconds,
    /// Milliseconds from some instant, as a decimal number.
    Milliseconds,
}

impl Clock {
    /// The form that a time must have.
    pub(super) const fn expected(self) -> &'static str {
        match self {
            Clock::Date => "an existing `YYYY-MM-DD hh:mm:ss` with at most nine fractional digits",
            Clock::Seconds => "seconds as a decimal number",
            Clock::Milliseconds => "milliseconds as a decimal number",
        }
    }

    /// Time since an instant that is the same for the whole trace.
    pub(super) fn read(self, text: &str) -> Option<Duration> {
        match self {
            Clock::Date => date(text),
            Clock::Seconds => decimal(text).and_then(Duration::checked_seconds_f64),
            Clock::Milliseconds => decimal(text).map(|x| x / 1e3).and_then(Duration::checked_seconds_f64),
        }
    }
}

/// Time since 1970 of a date in the form of RFC 3339. That requires a `T` and a zone; traces have a
/// space, and often no zone.
fn date(text: &str) -> Option<Duration> {
    /// The bytes of a date.
    const DATE: usize = 10;
    let (date, time) = (text.get(..DATE)?, text.get(DATE..)?);
    let time = time.strip_prefix([' ', 'T', 't'])?;
    // Digits after the ninth would be lost.
    let fraction = time.split_once('.').map_or("", |(_, fraction)| fraction);
    if fraction.bytes().take_while(u8::is_ascii_digit).count() > 9 {
        return None;
    }
    let zone = if time.contains(['Z', 'z', '+', '-']) { "" } else { "Z" };
    let moment = OffsetDateTime::parse(&format!("{date}T{time}{zone}"), &Rfc3339).ok()?;
    (moment.year() > 0).then(|| moment - OffsetDateTime::UNIX_EPOCH)
}

/// A number that is not negative, and finite.
fn decimal(text: &str) -> Option<f64> {
    // `f64` would also read a sign, `inf` and `nan`.
    let starts = text.starts_with(|c: char| c.is_ascii_digit());
    text.parse().ok().filter(|value: &f64| starts && value.is_finite())
}
