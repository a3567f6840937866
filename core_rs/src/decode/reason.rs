//! Why a reading or an envelope is rejected: the closed list of reasons, and what exactly the decoder met.

/// Reasons in the order of the checks: where several apply to a reading, the first is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Reason {
    TooLarge,
    EmptyBody,
    BadEncoding,
    BadJson,
    TooDeep,
    TooManyReadings,
    MissingDevice,
    MissingTime,
    BadTime,
    MissingValue,
    WrongType,
    RepeatedKey,
    NotFinite,
    UnknownDevice,
    UnknownMetric,
    UnknownStatus,
    BadQuality,
    OutOfRange,
    FutureEventTime,
    PastEventTime,
    TooManySeries,
}

impl Reason {
    pub const ALL: [Reason; 21] = [
        Reason::TooLarge,
        Reason::EmptyBody,
        Reason::BadEncoding,
        Reason::BadJson,
        Reason::TooDeep,
        Reason::TooManyReadings,
        Reason::MissingDevice,
        Reason::MissingTime,
        Reason::BadTime,
        Reason::MissingValue,
        Reason::WrongType,
        Reason::RepeatedKey,
        Reason::NotFinite,
        Reason::UnknownDevice,
        Reason::UnknownMetric,
        Reason::UnknownStatus,
        Reason::BadQuality,
        Reason::OutOfRange,
        Reason::FutureEventTime,
        Reason::PastEventTime,
        Reason::TooManySeries,
    ];

    /// The word that stands in the lake's column `reason`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Reason::TooLarge => "too_large",
            Reason::EmptyBody => "empty_body",
            Reason::BadEncoding => "bad_encoding",
            Reason::BadJson => "bad_json",
            Reason::TooDeep => "too_deep",
            Reason::TooManyReadings => "too_many_readings",
            Reason::MissingDevice => "missing_device",
            Reason::MissingTime => "missing_time",
            Reason::BadTime => "bad_time",
            Reason::MissingValue => "missing_value",
            Reason::WrongType => "wrong_type",
            Reason::RepeatedKey => "repeated_key",
            Reason::NotFinite => "not_finite",
            Reason::UnknownDevice => "unknown_device",
            Reason::UnknownMetric => "unknown_metric",
            Reason::UnknownStatus => "unknown_status",
            Reason::BadQuality => "bad_quality",
            Reason::OutOfRange => "out_of_range",
            Reason::FutureEventTime => "future_event_time",
            Reason::PastEventTime => "past_event_time",
            Reason::TooManySeries => "too_many_series",
        }
    }
}

macro_rules! details {
    ($($name:ident: $reason:ident, $text:literal;)*) => {
        /// What the decoder met, finer than the reason.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub(super) enum Detail { $($name,)* }

        impl Detail {
            const ALL: &[Detail] = &[$(Detail::$name,)*];

            pub(super) const fn reason(self) -> Reason {
                match self { $(Detail::$name => Reason::$reason,)* }
            }

            pub(super) const fn text(self) -> &'static str {
                match self { $(Detail::$name => $text,)* }
            }
        }
    };
}

details! {
    TooLarge: TooLarge, "the body is longer than bounds.body_bytes";
    Empty: EmptyBody, "the body is empty";
    Encoding: BadEncoding, "no UTF-8";
    Unexpected: BadJson, "unexpected character";
    Ended: BadJson, "the document ends early";
    Trailing: BadJson, "more after the document's end";
    BadString: BadJson, "a control character or an unknown escape in the string";
    Surrogate: BadJson, "half of a surrogate pair in the string";
    BadNumber: BadJson, "malformed number";
    TooDeep: TooDeep, "nested deeper than bounds.depth";
    TooMany: TooManyReadings, "more readings than bounds.readings_per_envelope";
    DeviceAbsent: MissingDevice, "no device";
    DeviceEmpty: MissingDevice, "the device is an empty string";
    TimeAbsent: MissingTime, "no time";
    TimeForm: BadTime, "no time of the dictionary's format";
    ValueAbsent: MissingValue, "no value";
    MembersAbsent: MissingValue, "no member is a metric";
    DocumentType: WrongType, "neither an object nor an array";
    ElementType: WrongType, "the array's element is not an object";
    DeviceType: WrongType, "the device is not a string";
    TimeType: WrongType, "the time is neither a string nor a number";
    MetricType: WrongType, "the metric is not a string";
    ValueType: WrongType, "the value is not a number";
    QualityType: WrongType, "the quality is not a number";
    Repeated: RepeatedKey, "the key occurs twice";
    NotFinite: NotFinite, "the value is not a finite number";
    DeviceLong: UnknownDevice, "the device's name is too long";
    MetricAbsent: UnknownMetric, "no metric";
    MetricEmpty: UnknownMetric, "the metric is an empty string";
    MetricLong: UnknownMetric, "the metric's name is too long";
    QualityRange: BadQuality, "the quality is not an integer from 64 to 32767";
}

/// The worst failure met so far in an object, packed so that the worse of two is their minimum: the reason that is
/// checked first, then the earlier place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Fault(u64);

impl Fault {
    pub(super) const NONE: Fault = Fault(u64::MAX);

    #[inline(always)]
    pub(super) const fn new(detail: Detail, at: usize) -> Self {
        Fault((detail.reason() as u64) << 56 | (at as u64 & 0xffff_ffff_ffff) << 8 | detail as u64)
    }

    pub(super) fn detail(self) -> Detail {
        Detail::ALL[(self.0 & 0xff) as usize]
    }

    pub(super) fn at(self) -> usize {
        (self.0 >> 8) as usize & 0xffff_ffff_ffff
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_reasons_stand_in_order_under_their_own_names() {
        for (place, reason) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, place);
            let debug = format!("{reason:?}").to_lowercase();
            assert_eq!(reason.as_str().replace('_', ""), debug);
        }
    }

    #[test]
    fn the_worse_fault_is_the_smaller_one() {
        let missing = Fault::new(Detail::DeviceAbsent, 90);
        let repeated = Fault::new(Detail::Repeated, 3);
        assert_eq!(missing.min(repeated).min(Fault::NONE), missing);
        assert_eq!(Fault::new(Detail::Repeated, 2).min(repeated).at(), 2);
        for (code, detail) in Detail::ALL.iter().enumerate() {
            let fault = Fault::new(*detail, 1 << 40);
            assert_eq!((*detail as usize, fault.detail(), fault.at()), (code, *detail, 1 << 40));
        }
    }
}
