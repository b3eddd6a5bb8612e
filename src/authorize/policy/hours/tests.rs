//! The wall clock of Berlin and of odder places against the hours of a rule.

use super::*;

fn hours(lines: &[&str], zone: &str) -> Hours {
    let lines = serde_json::to_string(lines).unwrap();
    Hours::new(&serde_json::from_str(&lines).unwrap(), zone.parse::<Zone>().unwrap().0)
}

fn at(time: &str) -> Timestamp {
    time.parse().unwrap()
}

/// `in` and `out` by the wall clock of Berlin, most of it in the week of Monday 2026-11-23.
#[test]
fn hours_are_those_of_the_wall_clock() {
    for (lines, times) in [
        (
            &["mon-fri 08:00-18:00"][..],
            &[
                ("2026-11-24T07:59:59+01", false),
                ("2026-11-24T08:00:00+01", true),
                ("2026-11-24T17:59:59+01", true),
                ("2026-11-24T18:00:00+01", false),
                ("2026-11-28T12:00:00+01", false),
                // Summer time.
                ("2026-07-07T05:59:59Z", false),
                ("2026-07-07T06:00:00Z", true),
                ("2026-07-07T16:00:00Z", false),
            ][..],
        ),
        // The day is Berlin's, not that of UTC.
        (&["sat"], &[("2026-11-27T22:59:59Z", false), ("2026-11-27T23:00:00Z", true), ("2026-11-28T23:00:00Z", false)]),
        (
            &["fri 22:00-06:00"],
            &[
                ("2026-11-27T05:00:00+01", false),
                ("2026-11-27T21:59:00+01", false),
                ("2026-11-27T22:00:00+01", true),
                ("2026-11-28T05:59:59+01", true),
                ("2026-11-28T06:00:00+01", false),
                ("2026-11-28T23:00:00+01", false),
            ],
        ),
        // Over the week's end.
        (
            &["sun 22:00-06:00"],
            &[
                ("2026-11-29T05:00:00+01", false),
                ("2026-11-29T23:00:00+01", true),
                ("2026-11-30T05:59:59+01", true),
                ("2026-11-30T06:00:00+01", false),
                ("2026-11-23T03:00:00+01", true),
            ],
        ),
        (
            &["22:00-06:00"],
            &[("2026-11-25T23:00:00+01", true), ("2026-11-26T05:00:00+01", true), ("2026-11-26T12:00:00+01", false)],
        ),
        (
            &["sat-mon"],
            &[
                ("2026-11-27T23:59:59+01", false),
                ("2026-11-28T00:00:00+01", true),
                ("2026-11-29T12:00:00+01", true),
                ("2026-11-30T23:59:59+01", true),
                ("2026-12-01T00:00:00+01", false),
            ],
        ),
        (
            &["mon,wed-thu 10:00-11:00", "Tue 23:00-24:00"],
            &[
                ("2026-11-23T10:30:00+01", true),
                ("2026-11-24T10:30:00+01", false),
                ("2026-11-24T23:30:00+01", true),
                ("2026-11-25T00:00:00+01", false),
                ("2026-11-25T10:30:00+01", true),
                ("2026-11-26T10:30:00+01", true),
                ("2026-11-27T10:30:00+01", false),
            ],
        ),
        // On 29 March there is no such hour, on 25 October there are two.
        (
            &["sun 02:00-03:00"],
            &[
                ("2026-03-29T00:59:59Z", false),
                ("2026-03-29T01:00:00Z", false),
                ("2026-10-24T23:59:59Z", false),
                ("2026-10-25T00:00:00Z", true),
                ("2026-10-25T00:59:59Z", true),
                ("2026-10-25T01:00:00Z", true),
                ("2026-10-25T01:59:59Z", true),
                ("2026-10-25T02:00:00Z", false),
            ],
        ),
    ] {
        let hours = hours(lines, "Europe/Berlin");
        for (time, expected) in times {
            assert_eq!(hours.contain(at(time)), *expected, "{hours} at {time}");
        }
    }
}

#[test]
fn hours_say_how_long_they_last() {
    for (lines, time, minutes) in [
        (&["mon-fri 08:00-18:00"][..], "2026-11-24T17:00:00+01", Some(60)),
        (&["mon-fri 08:00-18:00"], "2026-11-24T18:00:00+01", Some(0)),
        // Ranges that touch are one.
        (&["mon-fri 08:00-24:00", "00:00-02:00"], "2026-11-24T23:00:00+01", Some(180)),
        (&["sun 22:00-06:00"], "2026-11-29T23:00:00+01", Some(7 * 60)),
        (&["mon-sun"], "2026-11-24T23:00:00+01", None),
        (&["00:00-12:00", "12:00-00:00"], "2026-11-24T23:00:00+01", None),
        // The night on which the clock goes forward is shorter, that on which it goes back longer.
        (&["sat 22:00-06:00"], "2026-03-28T23:00:00+01", Some(6 * 60)),
        (&["sat 22:00-06:00"], "2026-10-24T23:00:00+02", Some(8 * 60)),
        // 02:45 comes twice, and the clock jumps out of these hours in between.
        (&["sun 02:30-03:00"], "2026-10-25T02:45:00+02", Some(15)),
        (&["sun 02:30-03:00"], "2026-10-25T02:45:00+01", Some(15)),
        (&["sun 02:00-02:30"], "2026-10-25T02:10:00+02", Some(20)),
        (&["sun 02:00-02:30"], "2026-10-25T02:10:00+01", Some(20)),
    ] {
        let hours = hours(lines, "Europe/Berlin");
        let expected = minutes.map(|minutes| Duration::from_secs(minutes * 60));
        assert_eq!(hours.left(at(time)), expected, "{hours} at {time}");
    }
    let hours = hours(&["mon-fri 08:00-18:00"], "UTC");
    assert_eq!(hours.left(at("2026-11-24T17:59:29.5Z")), Some(Duration::from_millis(30_500)));
}

/// Minute by minute through weeks in which clocks change, in zones with odd offsets and half-hour changes.
#[test]
fn how_long_hours_last_agrees_with_waiting_for_their_end() {
    let sets = [&["mon-fri 08:00-18:00"][..], &["sat 22:00-02:15", "sun 02:30-03:00"], &["sun 01:00-02:30", "fri"]];
    let weeks = [
        ("Europe/Berlin", "2026-10-20T00:00:00Z"),
        ("Europe/Berlin", "2026-03-24T00:00:00Z"),
        ("America/New_York", "2026-10-27T00:00:00Z"),
        ("Australia/Lord_Howe", "2026-03-30T00:00:00Z"),
        ("Australia/Lord_Howe", "2026-09-28T00:00:00Z"),
        ("Asia/Kathmandu", "2026-10-27T00:00:00Z"),
    ];
    for (zone, start) in weeks {
        for lines in sets {
            let hours = hours(lines, zone);
            let minute = |index: u32| at(start) + Duration::from_secs(u64::from(index) * 60);
            let count = 9 * DAY_MINUTES;
            let mut end = None;
            for index in (0..count).rev() {
                if !hours.contain(minute(index)) {
                    end = Some(index);
                } else if let Some(end) = end {
                    let left = hours.left(minute(index)).unwrap();
                    assert_eq!(minute(index) + left, minute(end), "{hours} in {zone} at {}", minute(index));
                }
            }
        }
    }
}

#[test]
fn what_is_no_hours_is_refused() {
    for text in [
        "",
        "mon-fry",
        "mon 8:00-18:00",
        "mon 08:00",
        "mon 08:00-25:00",
        "mon 24:00-08:00",
        "mon 08:60-09:00",
        "mon 08:00-24:01",
        "08:00-08:00",
        "mon 08:00-18:00 UTC",
        "mon-",
        "-fri",
        ",",
        "mon;tue",
        "mon 08:00–18:00",
        "mon +8:00-18:00",
        "montag",
        "mon-fri-sun",
        "mon  ,tue",
    ] {
        assert!(text.parse::<HoursOfDays>().is_err(), "{text:?}");
    }
    for text in ["Mitteleuropa", "", "UTC+1", "/etc/localtime", "../../etc/passwd"] {
        assert!(text.parse::<Zone>().is_err(), "{text:?}");
    }
}
