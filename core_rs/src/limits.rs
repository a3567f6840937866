//! Every absolute bound of the core (I6). Bounds that a plant may lower stand in its dictionary and cannot exceed these.

/// Series that one partition may hold.
pub const SERIES_MAX: u32 = 10_000_000;
/// Bytes of one envelope's body; Event Hubs itself ends at 1 MiB, Kafka brokers can be set higher.
pub const BODY_BYTES_MAX: u32 = 64 << 20;
/// Readings in one envelope.
pub const READINGS_PER_ENVELOPE_MAX: u32 = 1 << 20;
/// Nesting of arrays and objects in a body.
pub const DEPTH_MAX: u32 = 512;
/// Window definitions of one metric.
pub const WINDOWS_PER_METRIC_MAX: usize = 8;
/// Windows of one definition that the out-of-orderness and clock skew of a metric may hold open at once.
pub const OPEN_WINDOWS_MAX: i64 = 10_000;
/// Event times remembered per series to tell duplicates.
pub const DUPLICATES_MAX: u16 = 1_024;
/// Bytes of a device's or metric's name.
pub const NAME_BYTES_MAX: usize = 256;
/// Bytes kept of a rejected reading, and of an envelope rejected whole.
pub const REJECTED_READING_BYTES_MAX: usize = 1 << 10;
pub const REJECTED_ENVELOPE_BYTES_MAX: usize = 4 << 10;
/// Years 0001 to 9999, the range of RFC 3339, in microseconds since 1970. Times from brokers are clamped to it, so that
/// adding any duration below cannot overflow.
pub const TIME_MIN_US: i64 = -62_135_596_800_000_000;
pub const TIME_MAX_US: i64 = 253_402_300_799_999_999;
/// The longest duration that a dictionary may name: 100 years.
pub const DURATION_MAX_US: i64 = 100 * 366 * 86_400_000_000;

const _: () = {
    assert!(REJECTED_READING_BYTES_MAX <= REJECTED_ENVELOPE_BYTES_MAX);
    assert!(TIME_MAX_US.checked_add(4 * DURATION_MAX_US).is_some());
    assert!(TIME_MIN_US.checked_sub(4 * DURATION_MAX_US).is_some());
    // Spans into a body are 32-bit, and an item number is a non-negative i32.
    assert!(READINGS_PER_ENVELOPE_MAX <= i32::MAX as u32);
    assert!(SERIES_MAX < 1 << 31);
};
