//! Parts of times and durations: `timestamp(…).getHours('Europe/Berlin')`. Without a zone it is UTC.

use jiff::civil::DateTime;

use super::{Declared, text};
use crate::cel::value::{EvalError, Outcome, Value};

type Part = fn(&DateTime) -> i64;

macro_rules! part {
    ($name:literal, $id:literal, $with_zone:literal, $part:expr $(, $of_duration:literal, $nanos:literal)?) => {
        Declared::new(
            $name,
            &[
                (concat!("timestamp_to_", $id), "timestamp.(): int", |a| of_timestamp(a, $part)),
                ($with_zone, "timestamp.(string): int", |a| of_timestamp(a, $part)),
                $(($of_duration, "duration.(): int", |a| of_duration(a, $nanos)),)?
            ],
        )
    };
}

pub(super) const FUNCTIONS: &[Declared] = &[
    part!("getFullYear", "year", "timestamp_to_year_with_tz", |d| d.year().into()),
    part!("getMonth", "month", "timestamp_to_month_with_tz", |d| i64::from(d.month()) - 1),
    part!("getDayOfYear", "day_of_year", "timestamp_to_day_of_year_with_tz", |d| i64::from(d.day_of_year()) - 1),
    part!("getDayOfMonth", "day_of_month", "timestamp_to_day_of_month_with_tz", |d| i64::from(d.day()) - 1),
    part!("getDate", "day_of_month_1_based", "timestamp_to_day_of_month_1_based_with_tz", |d| d.day().into()),
    part!("getDayOfWeek", "day_of_week", "timestamp_to_day_of_week_with_tz", |d| {
        d.weekday().to_sunday_zero_offset().into()
    }),
    part!(
        "getHours",
        "hours",
        "timestamp_to_hours_with_tz",
        |d| d.hour().into(),
        "duration_to_hours",
        3_600_000_000_000
    ),
    part!(
        "getMinutes",
        "minutes",
        "timestamp_to_minutes_with_tz",
        |d| d.minute().into(),
        "duration_to_minutes",
        60_000_000_000
    ),
    part!(
        "getSeconds",
        "seconds",
        "timestamp_to_seconds_tz",
        |d| d.second().into(),
        "duration_to_seconds",
        1_000_000_000
    ),
    part!(
        "getMilliseconds",
        "milliseconds",
        "timestamp_to_milliseconds_with_tz",
        |d| i64::from(d.subsec_nanosecond()) / 1_000_000,
        "duration_to_milliseconds",
        1_000_000
    ),
];

fn of_timestamp<'a>(arguments: &[Value<'a>], part: Part) -> Outcome<'a> {
    let (moment, zone) = match arguments {
        [Value::Timestamp(moment)] => (moment, None),
        [Value::Timestamp(moment), zone] => (moment, Some(text(zone)?)),
        _ => return Err(EvalError::no_such_overload()),
    };
    moment.clock(zone).map(|clock| Value::Int(part(&clock))).map_err(EvalError::new)
}

fn of_duration<'a>(arguments: &[Value<'a>], nanos: i64) -> Outcome<'a> {
    match arguments {
        [Value::Duration(duration)] => Ok(Value::Int(duration / nanos)),
        _ => Err(EvalError::no_such_overload()),
    }
}
