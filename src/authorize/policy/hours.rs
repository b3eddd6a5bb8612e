//! Hours of the week.
//!
//! `mon-fri 08:00-18:00`, `sat,sun 10:00-12:00`, `22:00-06:00` (each day), `fri` (all of it). The first time is in, the
//! last is out. A range whose end is not after its start runs over midnight and belongs to the day on which it begins:
//! `fri 22:00-06:00` ends on Saturday. Times are those of the wall clock in the rule's time zone; an hour that the
//! clock shows twice counts twice, and one that it skips does not come.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use jiff::civil::Weekday;
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};

use super::pattern::Several;

const DAY_MINUTES: u32 = 24 * 60;
const WEEK_MINUTES: u32 = 7 * DAY_MINUTES;
const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/// When in the week something may be, by the clock of one time zone.
#[derive(Debug, Clone)]
pub(super) struct Hours {
    texts: String,
    zone: TimeZone,
    /// Minutes since Monday 00:00, half open, in order, apart from each other.
    spans: Vec<(u32, u32)>,
}

/// One line of them, as written.
#[derive(Debug, Clone)]
pub(super) struct HoursOfDays {
    text: String,
    spans: Vec<(u32, u32)>,
}

/// A time zone by its name in the IANA database.
#[derive(Debug, Clone)]
pub(super) struct Zone(pub(super) TimeZone);

impl Hours {
    pub(super) fn new(lines: &Several<HoursOfDays>, zone: TimeZone) -> Hours {
        let mut all: Vec<_> = lines.iter().flat_map(|line| line.spans.iter().copied()).collect();
        all.sort_unstable();
        let mut spans: Vec<(u32, u32)> = Vec::new();
        for (start, end) in all {
            match spans.last_mut() {
                Some(last) if start <= last.1 => last.1 = last.1.max(end),
                _ => spans.push((start, end)),
            }
        }
        Hours { texts: lines.to_string(), zone, spans }
    }

    pub(super) fn contain(&self, time: Timestamp) -> bool {
        self.span_at(self.minute_of_week(time)).is_some()
    }

    /// How long from `time` on these hours last; none where they never end. Zero outside of them.
    pub(super) fn left(&self, time: Timestamp) -> Option<Duration> {
        let minute = self.minute_of_week(time);
        let Some((_, end)) = self.span_at(minute) else { return Some(Duration::ZERO) };
        let end = match self.spans.first() {
            // Sunday's last minute is followed by Monday's first.
            Some((0, first_end)) if end == WEEK_MINUTES => match *first_end {
                WEEK_MINUTES => return None,
                first_end => WEEK_MINUTES + first_end,
            },
            _ => end,
        };
        let end = self.when_clock_shows(time, end - minute).unwrap_or(time);
        let jump = self.zone.following(time).next().map(|transition| transition.timestamp());
        let (end, rest) = match jump {
            // The clock is put forward or back before that, and these hours go on or end there.
            Some(jump) if jump < end => (jump, self.left(jump)?),
            _ => (end, Duration::ZERO),
        };
        Some(Duration::try_from(time.duration_until(end)).unwrap_or_default() + rest)
    }

    /// When the wall clock shows `minutes` more than its full minute at `time`.
    fn when_clock_shows(&self, time: Timestamp, minutes: u32) -> Option<Timestamp> {
        let now = self.zone.to_datetime(time);
        let full = now.with().second(0).subsec_nanosecond(0).build().ok()?;
        let then = full.checked_add(Span::new().minutes(i64::from(minutes))).ok()?;
        // The first of two such moments; where there is none, one after the gap.
        let first = self.zone.to_ambiguous_timestamp(then).compatible().ok()?;
        match first > time {
            true => Some(first),
            false => self.zone.to_ambiguous_timestamp(then).later().ok(),
        }
    }

    /// What the clock shows there, for explanations: `Tue 18:30 (Europe/Berlin)`.
    pub(super) fn clock(&self, time: Timestamp) -> String {
        let now = self.zone.to_datetime(time);
        format!("{} ({})", now.strftime("%a %H:%M"), self.zone.iana_name().unwrap_or("unnamed zone"))
    }

    fn minute_of_week(&self, time: Timestamp) -> u32 {
        let now = self.zone.to_datetime(time);
        day_index(now.weekday()) * DAY_MINUTES
            + u32::from(now.hour().unsigned_abs()) * 60
            + u32::from(now.minute().unsigned_abs())
    }

    fn span_at(&self, minute: u32) -> Option<(u32, u32)> {
        self.spans.iter().copied().find(|(start, end)| (*start..*end).contains(&minute))
    }
}

impl fmt::Display for Hours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.texts)
    }
}

fn day_index(day: Weekday) -> u32 {
    u32::from(day.to_monday_zero_offset().unsigned_abs())
}

impl FromStr for HoursOfDays {
    type Err = String;

    fn from_str(text: &str) -> Result<HoursOfDays, String> {
        let wrong = || {
            format!(
                "`{text}` is no hours of the week: write days, times or both, as in `mon-fri 08:00-18:00` or `sat,sun`"
            )
        };
        let mut words = text.split_ascii_whitespace();
        let (days, times) = match (words.next(), words.next(), words.next()) {
            (Some(days), Some(times), None) => (Some(days), Some(times)),
            (Some(times), None, None) if times.contains(':') => (None, Some(times)),
            (Some(days), None, None) => (Some(days), None),
            _ => return Err(wrong()),
        };
        let days = days.map_or(Some([true; 7]), parse_days).ok_or_else(wrong)?;
        let (start, end) = times.map_or(Some((0, DAY_MINUTES)), parse_times).ok_or_else(wrong)?;
        if start == end {
            return Err(format!("`{text}` ends when it starts: for whole days leave the times out"));
        }
        let length = if end > start { end - start } else { end + DAY_MINUTES - start };
        let mut spans = Vec::new();
        for day in (0..).zip(days).filter_map(|(day, chosen)| chosen.then_some(day)) {
            let from: u32 = day * DAY_MINUTES + start;
            let to = from + length;
            spans.push((from, to.min(WEEK_MINUTES)));
            if to > WEEK_MINUTES {
                spans.push((0, to - WEEK_MINUTES));
            }
        }
        Ok(HoursOfDays { text: text.to_owned(), spans })
    }
}

impl fmt::Display for HoursOfDays {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// `mon`, `mon-fri`, `sat-mon`, `mon,wed-fri`.
fn parse_days(text: &str) -> Option<[bool; 7]> {
    let day = |name: &str| DAYS.iter().position(|day| name.eq_ignore_ascii_case(day));
    let mut days = [false; 7];
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (day(first)?, day(last)?);
        let count = (last + 7 - first) % 7;
        for offset in 0..=count {
            *days.get_mut((first + offset) % 7)? = true;
        }
    }
    Some(days)
}

fn parse_times(text: &str) -> Option<(u32, u32)> {
    let (start, end) = text.split_once('-')?;
    let (start, end) = (parse_time(start)?, parse_time(end)?);
    (start < DAY_MINUTES).then_some((start, end))
}

/// `HH:MM`, up to `24:00`, in minutes.
fn parse_time(text: &str) -> Option<u32> {
    let two_digits = |text: &str| -> Option<u32> {
        (text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().ok())?
    };
    let (hours, minutes) = text.split_once(':')?;
    let (hours, minutes) = (two_digits(hours)?, two_digits(minutes)?);
    let time = hours * 60 + minutes;
    (minutes < 60 && time <= DAY_MINUTES).then_some(time)
}

impl FromStr for Zone {
    type Err = String;

    fn from_str(text: &str) -> Result<Zone, String> {
        match text {
            // Known without any database.
            "UTC" => Ok(Zone(TimeZone::UTC)),
            _ => TimeZone::get(text).map(Zone).map_err(|_| {
                format!(
                    "`{text}` is no time zone that is known here: use an IANA name, as in `Europe/Berlin`, or `UTC`"
                )
            }),
        }
    }
}

#[cfg(test)]
mod tests;
