//! Dates from numbers of days (Gregorian calendar, UTC without leap seconds).

/// Year, month and day of so many days since 1970-01-01.
pub fn date(days: u64) -> (u64, u64, u64) {
    // Counted from 0000-03-01, so that the day that leap years have more is the last of its year.
    let days = days.saturating_add(719_468);
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, year) = if month < 10 { (month + 3, year) } else { (month - 9, year + 1) };
    (era * 400 + year, month, day)
}

/// The days since 1970-01-01 of a date; the other way round. Dates before 1970 give 0.
pub fn days(year: u64, month: u64, day: u64) -> u64 {
    let (year, month) = if month < 3 { (year.saturating_sub(1), month + 9) } else { (year, month - 3) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day;
    days.saturating_sub(719_469)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_days() {
        for (number, day) in [
            (0, (1970, 1, 1)),
            (3653, (1980, 1, 2)),
            (11_016, (2000, 2, 29)),
            (11_017, (2000, 3, 1)),
            (47_541, (2100, 3, 1)),
            (2_932_896, (9999, 12, 31)),
        ] {
            assert_eq!(date(number), day);
        }
        assert_eq!(days(0, 0, 0), 0);
    }

    #[test]
    fn there_and_back() {
        let mut before = (1969, 12, 31);
        for number in 0..80_000 {
            let (year, month, day) = date(number);
            assert_eq!(days(year, month, day), number);
            assert!(before < (year, month, day));
            before = (year, month, day);
        }
    }
}
